"""Models of sentence-transformers from files on this machine: safetensors alone, and no code of strangers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from curator.engine.loading import loading, quiet
from curator.errors import CuratorError
from curator.system import read_file

# What such a model has besides config.json and model.safetensors.
FILES = (
    "modules.json", "sentence_*_config.json", "config_sentence_transformers.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
    "sentencepiece.bpe.model", "spiece.model", "[0-9]_*/config.json", "[0-9]_*/model.safetensors",
)  # fmt: skip
PARTS = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")  # that load no others
MOST = 2**20  # bytes of modules.json
INSTEAD = "name another model of sentence-transformers, or MODULE:CALLABLE"
# Its card asks for "query: " before every text whose features are used as such; its files do not say so.
E5 = re.compile(r"intfloat/(multilingual-)?e5-(small|base|large)(-v2|-unsupervised)?")


class Sentences(nn.Module):
    """A model of sentence-transformers on a list of texts: features (b, d).

    Attributes:
        prompt: what is put before every text.
        tokens: how many of a text, with the prompt's, it reads; None for all.
    """

    def __init__(self, model: Any, prompt: str):
        super().__init__()
        self.model, self.prompt = model, prompt
        self.tokens: int | None = model.max_seq_length

    def forward(self, texts: list[str]) -> Tensor:
        """Features (b, d); of what is longer than the model reads, the beginning."""
        return self.model.encode(
            texts, prompt=self.prompt or None, batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False
        )


def load_sentences(folder: Path, repo: str) -> Sentences:
    """The model of the repository owner/name, whose files are in a folder.

    Raises:
        CuratorError: in one line, for what is none, needs code of its own, or where the library is not installed.
    """
    with loading(repo, INSTEAD):
        _require_parts(folder, repo)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as e:
        raise CuratorError(
            f"--backbone {repo}: models of text need sentence-transformers: pip install 'label-curator[text]'"
        ) from e
    with quiet(), loading(repo, INSTEAD):
        model = SentenceTransformer(
            str(folder), device="cpu", trust_remote_code=False, local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )  # fmt: skip
        return Sentences(model.float().eval(), prompt_of(repo, model.prompts, model.default_prompt_name))


def prompt_of(repo: str, prompts: dict[str, str | None], default: str | None) -> str:
    """What the model wants before a text that is to be classified: what its files say, else of E5 what its card says.

    Args:
        repo: owner/name.
        prompts: those of its files, by name.
        default: the name of the one for whatever is not named.
    """
    named = next((text for name, text in prompts.items() if name.casefold() == "classification" and text), "")
    return named or prompts.get(default or "") or ("query: " if E5.fullmatch(repo) else "")


def _require_parts(folder: Path, repo: str) -> None:
    """Refuse a model whose parts could be other classes than those of the library for text, or pickled."""
    try:
        parts = json.loads(read_file(folder / "modules.json", MOST))
    except FileNotFoundError as e:
        raise CuratorError(
            f"--backbone {repo}: expected a model of sentence-transformers, with modules.json; {INSTEAD}"
        ) from e
    for part in parts:
        kind, path = str(part["type"]), str(part["path"])
        if not (kind.startswith("sentence_transformers.") and kind.rpartition(".")[2] in PARTS):
            raise CuratorError(f"--backbone {repo}: its part {kind[:100]!r} is not read; {INSTEAD}")
        if not re.fullmatch(r"|\w+", path):
            raise CuratorError(f"--backbone {repo}: its part {path[:100]!r} is no folder of its own; {INSTEAD}")
        if kind.endswith(".Dense") and not (folder / path / "model.safetensors").is_file():
            raise CuratorError(f"--backbone {repo}: its part {path} has no model.safetensors; {INSTEAD}")
