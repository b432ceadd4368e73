"""What the card of a dataset or a model says of its license, and whether datasets may read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curator.errors import CuratorError
from curator.sources.metadata import CARDS, require_card, require_own_files
from curator.sources.network import hub_limits
from curator.text import printable

LICENSE = ("license", "license_name", "license_link")  # of a card's YAML


def own_card(source: str | Path, revision: str | None = None) -> dict[str, Any]:
    """What a folder's or a Hub id's README.md says of its license, and its text; empty where there is none to read."""
    from huggingface_hub import DatasetCard

    try:
        if isinstance(source, Path):
            path = source / "README.md"
            require_own_files([str(path)], source, "README.md")
        else:
            path = _from_hub(source, "README.md", revision)
        card = DatasetCard(require_card(path, "README.md"), ignore_metadata_errors=True)
    except Exception:  # a stranger's text: no file, no network, no UTF-8, no YAML; the rows are what was asked for
        return {}
    licenses = {name: said(card.data.get(name)) for name in LICENSE}
    text = "\n".join(printable(line.expandtabs(4)) for line in card.text.strip().splitlines())
    return {**{name: value for name, value in licenses.items() if value}, "text": text or None}


def license_of(card: Path) -> str | None:
    """The license that a model's card names; None where it names none, or cannot be read."""
    from huggingface_hub import ModelCard

    try:
        data = ModelCard(require_card(card, card.name), ignore_metadata_errors=True).data
    except Exception:  # as above
        return None
    named = said(data.get("license_name")) if data.get("license") in (None, "other") else None
    found = named or said(data.get("license"))
    return ", ".join(found) if isinstance(found, list) else found


def said(value: Any) -> str | list[str] | None:
    """What a card says of its license: a text or several, not at any length; None for anything else."""
    if isinstance(value, list):
        return [printable(text[:200]) for text in value[:20] if isinstance(text, str)]
    return printable(value[:500]) if isinstance(value, str) else None


def _from_hub(repo: str, file: str, revision: str | None, token: str | None = None) -> Path:
    from huggingface_hub import hf_hub_download

    with hub_limits():
        return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision, token=token))


def require_cards(source: str | Path, revision: str | None, flag: str, token: str | None = None) -> None:
    """Refuse a folder or a Hub id whose cards are not fit to be read by datasets."""
    for name in CARDS:
        try:
            file = source / name if isinstance(source, Path) else _from_hub(source, name, revision, token)
            if file.exists() and not file.is_file():
                raise CuratorError(f"{flag}: {name} is not a file; remove it")
            require_card(file, f"{flag}: {name}")
        except CuratorError:
            raise
        except Exception:  # noqa: S112 - it is not there, or datasets will say why it cannot be read
            continue
