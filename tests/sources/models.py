"""Tiny models with random weights, as repositories of the Hub have them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save

CARD = "---\nlicense: {}\n---\n# A model\n"


@cache
def timm_model(architecture: str = "test_vit", side: int = 32, seed: int = 0) -> tuple[bytes, bytes]:
    """config.json and model.safetensors of a model of timm for squares of so many pixels."""
    import timm

    torch.manual_seed(seed)
    net = timm.create_model(architecture, num_classes=0, **({"img_size": side} if "vit" in architecture else {}))
    cfg = {
        "input_size": [3, side, side], "fixed_input_size": "vit" in architecture, "crop_pct": 0.8, "num_classes": 0,
        "interpolation": "bilinear", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "crop_mode": "center",
        "first_conv": net.pretrained_cfg["first_conv"], "classifier": net.pretrained_cfg["classifier"],
    }  # fmt: skip
    config = {"architecture": architecture, "num_classes": 0, "pretrained_cfg": cfg}
    if "vit" in architecture:
        config["model_args"] = {"img_size": side}
    return json.dumps(config).encode(), save(net.state_dict())


def timm_files(license: str | None = "apache-2.0", **options) -> dict[str, bytes]:
    """The files of such a repository."""
    config, weights = timm_model(**options)
    card = {} if license is None else {"README.md": CARD.format(license).encode()}
    return {"config.json": config, "model.safetensors": weights, **card}


@cache
def transformers_files(kind: str) -> dict[str, bytes]:
    """The files of a model of transformers: vit, dinov2, convnext, clip, siglip or bert."""
    import transformers as tr

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    seen = {**small, "image_size": 32, "patch_size": 16}
    text = {**small, "vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    net = {
        "vit": lambda: tr.ViTForImageClassification(tr.ViTConfig(**seen)),
        "dinov2": lambda: tr.Dinov2Model(tr.Dinov2Config(**seen)),
        "convnext": lambda: tr.ConvNextModel(tr.ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1])),
        "clip": lambda: tr.CLIPModel(tr.CLIPConfig(text_config=text, vision_config=seen, projection_dim=12)),
        "siglip": lambda: tr.SiglipModel(tr.SiglipConfig(text_config=text, vision_config=seen)),
        "bert": lambda: tr.BertModel(tr.BertConfig(**small, vocab_size=20)),
    }[kind]()
    processor = {
        "vit": lambda: tr.ViTImageProcessor(size={"height": 32, "width": 32}),
        "dinov2": lambda: tr.BitImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}),
        "convnext": lambda: tr.ConvNextImageProcessor(size={"shortest_edge": 32}),
        "clip": lambda: tr.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        "siglip": lambda: tr.SiglipImageProcessor(size={"height": 32, "width": 32}),
    }.get(kind)
    with TemporaryDirectory() as folder:
        net.save_pretrained(folder)
        if processor:
            processor().save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()} | {
            "README.md": CARD.format("mit").encode()
        }


@cache
def words_files(kind: str) -> dict[str, bytes]:
    """The files of a model of transformers that reads images and words: clip or siglip, with a tokenizer."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<s>": 0, "</s>": 1, "?": 2, "a": 3, "cat": 4, "dog": 5}, unk_token="?"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="?"
    )
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {**transformers_files(kind), **{path.name: path.read_bytes() for path in Path(folder).iterdir()}}
