"""The text side of an encoder of images: words as vectors that its image features can be compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curator.engine.loading import loading, quiet
from curator.errors import CuratorError
from curator.system import read_file

# What such a model has besides config.json and its weights.
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "spiece.model",
)  # fmt: skip
VOCABULARY = ("tokenizer.json", "vocab.json", "spiece.model")
INSTEAD = "use More like this"
MOST = 16 * 2**20  # bytes of a config.json


class TextSide(nn.Module):
    """Words to features as those of the images: (b, d) of a list of b texts."""

    def __init__(self, model: Any, tokenizer: Any, tokens: int):
        super().__init__()
        self.model, self.tokenizer, self.tokens = model, tokenizer, tokens

    def forward(self, texts: list[str]) -> Tensor:
        """Features (b, d); of what is longer than the model reads, the beginning."""
        # To their full length: SigLIP has seen no others, and what CLIP makes of them is the same.
        read = self.tokenizer(texts, padding="max_length", truncation=True, max_length=self.tokens, return_tensors="pt")
        given = {name: read[name] for name in ("input_ids", "attention_mask") if name in read}
        found = self.model.get_text_features(**given)
        return found if isinstance(found, Tensor) else found.pooler_output


def load_text_side(folder: Path, name: str) -> TextSide:
    """The text side of the model in a folder with config.json, safetensors and a tokenizer.

    Raises:
        CuratorError: in one line, for what has none, needs code of its own, or where transformers is not installed.
    """
    with loading(name, INSTEAD):
        config = json.loads(read_file(folder / "config.json", MOST))
        both = isinstance(config, dict) and {"text_config", "vision_config"} <= config.keys()
    if not both:
        raise CuratorError(f"--backbone {name}: it has no text side, it reads images alone; {INSTEAD}")
    if not any((folder / name).is_file() for name in VOCABULARY):  # transformers would go on with none
        raise CuratorError(f"--backbone {name}: its tokenizer is not there; go online once, or {INSTEAD}")
    try:
        import transformers
    except ImportError as e:
        raise CuratorError(
            f"--backbone {name}: its text side needs transformers: pip install 'label-curator[transformers]'"
        ) from e
    safe: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    with quiet(), loading(name, INSTEAD):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **safe)
        model = transformers.AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **safe)
        if not hasattr(model, "get_text_features"):
            raise CuratorError(f"--backbone {name}: it has no text side; {INSTEAD}")
        model.vision_model = None  # half of the memory
        return TextSide(model.eval(), tokenizer, int(model.config.text_config.max_position_embeddings))
