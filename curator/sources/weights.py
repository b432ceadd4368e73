"""Pretrained models of the Hub: safetensors alone, at one commit, within limits, and under which license."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from curator.errors import CuratorError
from curator.sources.cards import license_of
from curator.sources.network import HubLimit, hub_limits, is_of_network
from curator.text import printable

CONFIG, CARD, WHOLE = "config.json", "README.md", "model.safetensors"
SMALL = (CONFIG, "preprocessor_config.json", "processor_config.json", CARD)
SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
INDEX = "model.safetensors.index.json"
ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
PERMISSIVE = {
    "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "unlicense",
    "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "ms-pl", "ncsa", "postgresql", "wtfpl",
}  # fmt: skip
OTHERWISE = "or name another --backbone; --net small trains from scratch"


@dataclass(frozen=True)
class Weights:
    """A model's files on this machine.

    Attributes:
        id: owner/name.
        commit: of its repository, 40 hexadecimal digits.
        folder: with config.json and the weights, as the Hub's cache has them.
        license: what its card says; None where that is nothing.
    """

    id: str
    commit: str
    folder: Path
    license: str | None

    @property
    def free(self) -> bool:
        """Whether anybody may use what comes of it for anything."""
        return self.license in PERMISSIVE

    def warning(self) -> str:
        """The line for a license that is not permissive."""
        return (
            f"warning   the weights of {self.id} are under {self.license or 'a license that its card does not name'}: "
            "look whether you may use what comes of them, and publish it"
        )


def is_hub_id(name: str) -> bool:
    """Whether a backbone is named as a repository of the Hub: owner/name or owner/name@revision."""
    return ":" not in name and "/" in name


def fetch_weights(name: str, also: tuple[str, ...] = (), *, default: bool = False) -> Weights:
    """The files of owner/name[@revision] from the Hub, or from its cache where there is no way to the Hub.

    Args:
        name: the repository; a branch, tag or commit may follow.
        also: patterns of further small files that it needs, as "1_Pooling/*.json".
        default: whether nobody named it.

    Raises:
        CuratorError: in one line that says what to do, where it is not to be had, and for what is no safetensors.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.file_download import repo_folder_name

    found = ID.fullmatch(name)
    if not found:
        raise CuratorError(f"--backbone: expected owner/name or owner/name@revision of the Hub, found {name!r}")
    repo, revision = found[1], found[2] or None
    called = f"auto (the default), {name}" if default else name
    with _errors(called, repo, repo_folder_name(repo_id=repo, repo_type="model")), hub_limits():
        config = Path(hf_hub_download(repo, CONFIG, revision=revision))
        folder, commit = config.parent, config.parent.name
        try:
            listed = HfApi().model_info(repo, revision=commit, files_metadata=True, timeout=30).siblings or []
            sizes = {file.rfilename: file.size or 0 for file in listed}
            files = _wanted(name, set(sizes), also)
        except Exception as e:
            if not (isinstance(e, OSError | HubLimit) or is_of_network(e)):
                raise
            here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
            if not _is_unreachable(e) or not _weights(here):
                raise
            files, sizes = [], {}
        _require_space(name, sum(sizes[f] for f in files if not (folder / f).exists()))
        for file in files:  # the weights come last: where they are, all is
            hf_hub_download(repo, file, revision=commit)
    return Weights(repo, commit, folder, license_of(folder / CARD))


def _wanted(name: str, files: set[str], also: tuple[str, ...]) -> list[str]:
    """The files to fetch."""
    weights = _weights(files)
    if not weights:
        others = sorted(f for f in files if f.endswith((".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".ckpt")))
        raise CuratorError(
            f"--backbone {name}: expected weights in {WHOLE}, found "
            f"{', '.join(map(printable, others[:3])) or 'none'}: no others are read, since they may run code or are of "
            f"another program; ask its owner for safetensors, {OTHERWISE}"
        )
    small = [f for f in sorted(files) if f in SMALL or any(fnmatch(f, pattern) for pattern in also)]
    return [*small, *weights]


def _weights(files: set[str]) -> list[str]:
    """The files of the weights among those of a repository: one, or all shards with their index."""
    if WHOLE in files:
        return [WHOLE]
    shards = sorted(f for f in files if SHARD.fullmatch(f))
    whole = shards and len(shards) == int(SHARD.fullmatch(shards[0])[2])  # type: ignore[index]
    return [INDEX, *shards] if whole and INDEX in files else []


def _require_space(name: str, needed: int) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE)
    free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
    if needed > free:
        raise _no_space(name, f"{needed / 2**30:.2f} GiB are needed, {free / 2**30:.2f} free")


def _no_space(name: str, why: str) -> CuratorError:
    from huggingface_hub.constants import HF_HUB_CACHE

    return CuratorError(
        f"--backbone {name}: no space for its weights in {HF_HUB_CACHE} ({why}): free some, or set another folder in "
        f"HF_HOME, {OTHERWISE}"
    )


def _is_unreachable(error: BaseException) -> bool:
    """Whether there was no way to the Hub, rather than an answer of it."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError) and not isinstance(error, OfflineModeIsEnabled):
        status = getattr(getattr(error, "response", None), "status_code", None)
        return status is None or status >= 500
    return True


@contextmanager
def _errors(name: str, repo: str, folder: str) -> Iterator[None]:
    """What the Hub's client raises, as one line."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as e:
        raise CuratorError(
            f"--backbone {name}: its owner asks for consent: accept the conditions at https://huggingface.co/{repo} "
            f"and log in (hf auth login), {OTHERWISE}"
        ) from e
    except errors.RepositoryNotFoundError as e:
        raise CuratorError(
            f"--backbone {name}: the Hub has no model {repo!r}: check the name, log in (hf auth login) if it is "
            f"private, {OTHERWISE}"
        ) from e
    except errors.RevisionNotFoundError as e:
        raise CuratorError(
            f"--backbone {name}: {repo} has no such branch, tag or commit: check what follows the @"
        ) from e
    except errors.LocalEntryNotFoundError as e:
        raise CuratorError(
            f"--backbone {name}: its weights are not in the cache ({folder}) and the Hub cannot be reached: go online "
            f"once, {OTHERWISE}"
        ) from e
    except errors.EntryNotFoundError as e:
        raise CuratorError(
            f"--backbone {name}: expected a model of timm or transformers, found a repository without {CONFIG}; "
            f"check the name, {OTHERWISE}"
        ) from e
    except Exception as e:
        if not (isinstance(e, OSError | HubLimit | errors.HFValidationError) or is_of_network(e)):
            raise
        if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(name, str(e.strerror)) from e
        text = printable(" ".join(str(e).split())[:150]) or type(e).__name__
        raise CuratorError(
            f"--backbone {name}: its weights could not be fetched ({text}): try again, {OTHERWISE}"
        ) from e
