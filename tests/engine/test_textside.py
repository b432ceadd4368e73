import pytest
import torch

from curator.engine.textside import TOKENIZER, load_text_side
from curator.errors import CuratorError
from tests.sources.models import transformers_files, words_files


def folder_of(files, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("kind, width", [("clip", 12), ("siglip", 16)])
def test_words_as_its_own_model_reads_them(tmp_path, kind, width):
    import transformers

    files = words_files(kind)
    assert {name for name in files if name not in transformers_files(kind)} <= set(TOKENIZER)
    folder = folder_of(files, tmp_path)
    side = load_text_side(folder, "owner/eyes")
    texts = ["a cat", "a dog", "cat " * 500]
    with torch.inference_mode():
        found = side(texts)
        model = transformers.AutoModel.from_pretrained(folder).eval()
        read = transformers.AutoTokenizer.from_pretrained(folder)(
            texts[:2], padding="max_length", max_length=side.tokens, truncation=True, return_tensors="pt"
        )
        wanted = model.get_text_features(input_ids=read["input_ids"], attention_mask=read["attention_mask"])
    assert found.shape == (3, width) and torch.isfinite(found).all()
    torch.testing.assert_close(found[:2], getattr(wanted, "pooler_output", wanted))
    assert (found[0] - found[1]).abs().max() > 1e-4


@pytest.mark.parametrize("files, why", [
    (lambda: {"config.json": b'{"architecture": "vit_tiny"}'}, "no text side"),
    (lambda: {"config.json": b"[]"}, "no text side"),
    (lambda: transformers_files("clip"), "its tokenizer is not there; go online once"),
    (lambda: {"config.json": b"{"}, "cannot be loaded"), (lambda: {}, "cannot be loaded"),
])  # fmt: skip
def test_a_model_without_one(tmp_path, files, why):
    with pytest.raises(CuratorError, match=f"^--backbone owner/eyes: it .*{why}|{why}") as e:
        load_text_side(folder_of(files(), tmp_path), "owner/eyes")
    assert len(str(e.value).splitlines()) == 1
