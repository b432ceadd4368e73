"""Rows of text for tests, and what makes features of them at once."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, Value

WORDS = {
    "card lost": "stolen lost missing wallet block",
    "exchange rate": "euro dollar exchange convert market",
    "top up": "failed pending money add account",
}
HOSTILE = "<img src=x onerror=window.hacked=1> '\"></div><script>window.hacked=1</script> " + 60 * "lost wallet "
calls = []


def encode(texts: list[str]) -> torch.Tensor:
    """How often words of 16 kinds stand in each."""
    calls.append(len(texts))
    found = torch.zeros(len(texts), 16)
    for i, text in enumerate(texts):
        for word in text.split():
            found[i, hashlib.md5(word.encode()).digest()[0] % 16] += 1
    return found


def texts(n: int = 90, share: float = 0.2) -> tuple[list[str], list[str], list[str]]:
    """Texts of three classes, labels of which a share is wrong, and the truth."""
    rng, names = np.random.default_rng(0), list(WORDS)
    truth = [names[i % 3] for i in range(n)]
    said = [" ".join([*rng.choice(WORDS[name].split(), 4), f"n{i}"]) for i, name in enumerate(truth)]
    labels = [names[(names.index(t) + 1) % 3] if rng.random() < share else t for t in truth]
    return said, labels, truth


def text_rows(n: int = 90, share: float = 0.2, **more) -> Dataset:
    """The same as a Dataset: the first is hostile and long, the last two are alike."""
    said, labels, truth = texts(n, share)
    said[0], said[-1], labels[-1], labels[-2] = HOSTILE, said[-2], "top up", "card lost"
    kind = ClassLabel(names=sorted(WORDS))
    columns = {"text": said, "label": labels, "true_label": truth, **more}
    plain = {name: Value("string") for name in columns}
    return Dataset.from_dict(columns, features=Features({**plain, "label": kind, "true_label": kind}))


def tiny_sentences(folder: Path) -> Path:
    """A random model of 32 features, as files."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ":", *letters, *("##" + letter for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(folder / "body")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    body = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes))
    body.save_pretrained(folder / "body")
    model = SentenceTransformer(modules=[Transformer(str(folder / "body")), Pooling(32)], device="cpu")
    model.save(str(folder / "model"))
    return folder / "model"
