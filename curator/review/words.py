"""Words as a vector among the features of a run: by the text side of the encoder that made them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from curator.engine.sentences import FILES, load_sentences
from curator.engine.textside import TOKENIZER, load_text_side
from curator.errors import CuratorError
from curator.result.read import Rows
from curator.sources.weights import OTHERWISE, fetch_weights

KEPT = 100  # words whose vectors are kept
NONE = "search by words: it needs an encoder with a text side (CLIP, SigLIP; of texts any of the Hub)"


class Words:
    """The text side of a run's encoder, loaded when words are first asked for; from the Hub where it is not cached.

    Of a run only the id and the commit of a model are believed: no module that it names is imported.
    """

    def __init__(self, rows: Rows):
        self.rows = rows
        self._lock = threading.Lock()
        self._read: Callable[[list[str]], Any] | None = None
        self._known: OrderedDict[str, np.ndarray] = OrderedDict()  # vectors of the last words

    @property
    def model(self) -> str | None:
        """owner/name@commit of the one encoder that may read words; None where there is none, or several."""
        known = [one for one in self.rows.facts.get("encoders", []) if isinstance(one, dict)]
        told = [one.get(name) for one in known for name in ("id", "revision")]
        texts = [value for value in told if isinstance(value, str)]
        if len(known) != 1 or len(texts) < 2 or self.rows.features is None:
            return None
        return None if texts[0].startswith("timm/") else "@".join(texts)  # timm has images alone

    def vector(self, words: str, width: int) -> np.ndarray:
        """The words as (width,) float32.

        Raises:
            CuratorError: where the encoder has no text side, or it is not to be had.
        """
        import torch

        if self.model is None:
            raise CuratorError(f"{NONE}; this run has none: choose a row and use More like this")
        with self._lock:
            if self._read is None:
                self._read = self._loaded(self.model)
            if words not in self._known:
                with torch.inference_mode():
                    self._known[words] = self._read([words]).float().numpy()
                while len(self._known) > KEPT:
                    self._known.popitem(last=False)
            found = self._known[words]
        if found.shape != (1, width) or not np.isfinite(found).all():
            raise CuratorError(f"{NONE}; the features of this run are not those that {self.model} compares with words")
        return found[0]

    def _loaded(self, model: str) -> Callable[[list[str]], Any]:
        of_texts = self.rows.facts.get("text_column") is not None
        try:
            found = fetch_weights(model, FILES if of_texts else TOKENIZER)
            if of_texts:
                return load_sentences(found.folder, found.id)
            return load_text_side(found.folder, found.id)
        except CuratorError as e:
            raise CuratorError(
                f"search by words: {str(e).replace(OTHERWISE, 'or choose a row and use More like this')}"
            ) from e
