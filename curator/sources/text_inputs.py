"""Rows of text as the source a run trains on: features that an encoder of text makes of them."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from curator.engine.cache import read_npy
from curator.engine.encoders import UNLIKE
from curator.engine.held import Held
from curator.engine.sentences import FILES, load_sentences
from curator.engine.texts import TextEncoder
from curator.errors import CuratorError
from curator.sources.backbones import Eye, note_unlike
from curator.sources.features import CHUNK, halved, keep_chunk, shared_chunks
from curator.sources.images import hash_of
from curator.sources.inputs import SAMPLE, Inputs, in_memory
from curator.sources.pace import plan_line
from curator.sources.table import Table, remaining
from curator.sources.texts import texts_of
from curator.sources.weights import OTHERWISE, Weights, fetch_weights, is_hub_id
from curator.system import cache_folder
from curator.text import Log

if TYPE_CHECKING:
    from accelerate import PartialState

    from curator.config.flags import Settings
    from curator.engine.hardware import Precision

AUTO = "intfloat/multilingual-e5-small"  # what auto is, for texts


class TextReader:
    """Reads splits of a table of texts, as a Reader does those of images.

    Attributes:
        eyes: the one that makes features of texts.
        fingerprint: of it.
    """

    def __init__(self, settings: Settings, table: Table, precision: Precision, state: PartialState, say: Log):
        self.table, self.state, self.say = table, state, say
        self.encoder, weights, auto = self._open(settings.backbone or "auto", precision)
        self.fingerprint = self.encoder.fingerprint()
        self.eyes = [Eye(self.encoder, None, table.access, weights, auto, fingerprint=self.fingerprint)]
        note_unlike(self.eyes, say)

    def _open(self, name: str, precision: Precision) -> tuple[TextEncoder, Weights | None, bool]:
        """The encoder of that name, its weights, and whether it is that of auto."""
        device = self.state.device
        auto = name == "auto" or name.startswith("auto@")  # at a commit, as cards name it
        if isinstance(name, Held) or ":" in name:
            return TextEncoder(name, device, precision), None, False
        if not auto and not is_hub_id(name):
            raise CuratorError(
                f"--backbone {name}: expected what reads texts: auto, an id of sentence-transformers (owner/name), or "
                "MODULE:CALLABLE, which maps a list of str to floats (b, d)"
            )
        try:
            found = fetch_weights(AUTO + name.removeprefix("auto") if auto else name, FILES, default=name == "auto")
        except CuratorError as e:  # no net reads texts
            raise CuratorError(str(e).replace(OTHERWISE, "or name another --backbone, as MODULE:CALLABLE")) from e
        model = load_sentences(found.folder, found.id)
        how = f"{model.prompt!r} before every text, " if model.prompt else ""
        how += f"of which it reads {model.tokens:,} tokens, " if model.tokens else ""
        self.say(f"backbone  {found.id} at commit {found.commit[:12]}, {how}license {found.license or 'unknown'}")
        if not found.free:
            self.say(found.warning())
        return TextEncoder(f"{found.id}@{found.commit}", device, precision, model), found, auto

    def __call__(self, dataset: Dataset, rows: np.ndarray, budget: float) -> Inputs:
        """Read a split: the table's own rows, or one of its other splits, with their positions (n,) in the source."""
        texts, broken = texts_of(dataset, str(self.table.text_column))
        good = remaining(len(texts), broken)
        features, digest = self._features([texts[i] for i in good], rows[good])
        hashes = np.array([hash_of(texts[i].encode()) for i in good], np.uint64)
        return in_memory(features, digest, broken, hashes)

    def sample(self) -> Inputs:
        """Features (n, d) for a dry run: those of some rows over and over. It says how long all would take."""
        n, texts = len(self.table.rows), texts_of(self.table.data, str(self.table.text_column))[0]
        found = self._plan(texts, n + sum(map(len, self.table.others.values())))
        return in_memory(found[torch.arange(n) % len(found)], None)

    def _plan(self, texts: list[str], n: int) -> Tensor:
        """Say how long n texts will take, by some from all over; their features (m, d)."""
        some = [texts[i] for i in np.unique(np.linspace(0, len(texts) - 1, SAMPLE).astype(int))]
        self.encoder(some[:2])  # the first call warms up
        started = time.perf_counter()
        found = self.encoder(some)
        each = (time.perf_counter() - started) / len(some)
        self.say(plan_line(self.encoder, found.shape[1], 0, each, n, self.state.num_processes, "texts"))
        return found

    def _features(self, texts: list[str], rows: np.ndarray) -> tuple[Tensor, str]:
        """Features (n, d) float32 of texts, kept chunk by chunk as backbone_features keeps them, and their hash."""
        folder, lasts = cache_folder("features") / self.fingerprint, not self.fingerprint.startswith(UNLIKE)
        width, planned = self.encoder(["a"]).shape[1], False

        def opened(start: int) -> tuple[Path, np.ndarray | None]:
            part, digest = texts[start : start + CHUNK], hashlib.blake2b(digest_size=16)
            for text in part:
                content = text.encode()
                digest.update(len(content).to_bytes(8, "big") + content)
            path = folder / f"{digest.hexdigest()}.npy"
            kept = read_npy(path, (len(part), width), np.float16) if lasts else None
            return path, kept if kept is not None and np.isfinite(kept).all() else None

        def finished(start: int, chunk: tuple[Path, np.ndarray | None]) -> tuple[np.ndarray, str]:
            nonlocal planned
            path, kept = chunk
            if kept is None:
                if not planned and len(texts) > 2 * SAMPLE:  # of fewer it would take as long as all
                    planned, _ = True, self._plan(texts[start:], len(texts) - start)
                found = self.encoder(texts[start : start + CHUNK])
                kept = halved(found, rows[start:], f"--backbone {self.encoder.name}")
                if lasts:
                    keep_chunk(path, kept)
            return kept, path.stem

        parts = shared_chunks(len(texts), opened, finished, self.encoder.name, "text", self.state, self.say)
        digest = hashlib.blake2b(folder.name.encode(), digest_size=16)
        for _, name in parts:
            digest.update(name.encode())
        values = np.concatenate([kept for kept, _ in parts]) if parts else np.zeros((0, width), np.float16)
        return torch.from_numpy(values).float(), digest.hexdigest()
