"""Encoders of text: a model of sentence-transformers, or a callable of one's own, turns texts into features."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from curator.engine.encoders import UNLIKE, checked, imported, own_copy
from curator.engine.hardware import Precision
from curator.engine.held import Held
from curator.engine.identity import as_bytes, code_of, state_of
from curator.engine.sentences import Sentences

PROBES = ["What is this text about?", "¿Qué tal? 你好"]  # what a function makes of them stands for its weights


class TextEncoder:
    """Texts to features, always the same ones for the same text.

    Attributes:
        name: MODULE:CALLABLE, the callable itself, or the id and commit of a model of the Hub.
    """

    def __init__(self, name: str, device: torch.device, precision: Precision, model: Sentences | None = None):
        self.name, self.device, self.precision = name, device, precision
        self.code: list[bytes] | None = []
        self.call: Any
        if isinstance(name, Held):
            self.call, self.code = own_copy(name), code_of(name.value)
        elif model is not None:
            self.call, self.code = model, [model.prompt.encode()]
        else:
            self.call, code = imported(name)
            self.code = [code]
        if isinstance(self.call, nn.Module):
            self.call = self.call.eval().to(device)
        self.batch = 32 if device.type == "cpu" else 256

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Features (n, d) float32 on the CPU of n texts.

        Texts of one length go together: a batch is as long as its longest.

        Raises:
            CuratorError: when what comes back is not one row of floats a text.
        """
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        parts = [order[start : start + self.batch] for start in range(0, len(order), self.batch)]
        found = torch.cat([self._checked([texts[i] for i in part]) for part in parts])
        features = torch.empty_like(found)
        features[order] = found
        return features

    def _checked(self, texts: list[str]) -> Tensor:
        def call() -> Any:
            features = self.call(texts)
            return torch.from_numpy(features) if isinstance(features, np.ndarray) else features

        precision = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        return checked(self.name, call, precision, len(texts), f"a list of {len(texts)} texts")

    def fingerprint(self) -> str:
        """Hash of its weights, its code and the precision, as of a Backbone."""
        if self.code is None:
            return UNLIKE + secrets.token_hex(12)
        seen = [*self.code, *(state_of(self.call) if isinstance(self.call, nn.Module) else [as_bytes(self(PROBES))])]
        digest = hashlib.blake2b(f"text\0{self.name}\0{self.precision}\0{torch.__version__}\0".encode(), digest_size=16)
        for part in seen:
            digest.update(part)
        return digest.hexdigest()
