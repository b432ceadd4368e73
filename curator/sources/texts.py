"""Columns of texts: which one is meant, and what its rows say."""

from __future__ import annotations

import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Image

from curator.errors import CuratorError
from curator.sources.columns import column_array
from curator.sources.labels import is_integer, is_string, may_be_labels, most_classes
from curator.sources.table import COLUMNS, TRUE_LABEL, guess_label_column

LOOKED_AT = 1000  # values of a column, to see whether they are words


def has_no_images(features: Features) -> bool:
    """Whether no column is of images."""
    return not any(isinstance(feature, Image) for feature in features.values())


def guess_text_columns(
    dataset: Dataset, text: str | None, label: str | None, reference: str | None, backbone: str | None
) -> tuple[str | None, str | None]:
    """The columns of the texts and of the labels: those that are named, or the only ones that can be meant.

    Where none is named, texts have too many values to be labels, and most are of several words: what stands in a column
    of codes or names of files may be another thing. None where no column is so.

    Raises:
        CuratorError: for a column that is none of texts, where several could be meant, and where nothing reads them.
    """
    features = dataset.features
    if text is not None:
        if text not in features:
            raise CuratorError(f"--text-column: no column {text!r}; the columns are {', '.join(features)}")
        if not is_string(features[text]):
            raise CuratorError(f"--text-column {text}: expected texts, found {features[text]}")
        if text == label:
            raise CuratorError(f"--text-column {text}: it is the column of the labels; name another one")
        return text, _label(dataset, text, label, reference)
    skip = {*COLUMNS, TRUE_LABEL, reference, label}
    strings = [name for name in features if name not in skip and is_string(features[name])]
    found = [name for name in strings if _has_many(dataset, name) and _are_words(dataset, name)]
    if not found:
        return None, label
    if len(found) > 1:
        raise CuratorError(
            f"there are no images, and several columns of texts, {', '.join(found)}; choose one with --text-column"
        )
    if backbone is None:
        raise CuratorError(f"there are no images, and column {found[0]!r} holds texts: use --text-column {found[0]}")
    return found[0], _label(dataset, found[0], label, reference)


def texts_of(dataset: Dataset, column: str) -> tuple[list[str], dict[int, str]]:
    """The texts (n,) of a column, "" where there is none, and why those cannot be used, by position."""
    texts, broken = [], {}
    for i, content in enumerate(encoded_texts(dataset, column)):
        try:
            text = "" if content is None else content.decode()
        except UnicodeDecodeError:
            text, broken[i] = "", "the text is no UTF-8"
        if not text.strip():
            broken.setdefault(i, "the text is missing" if content is None else "the text is empty")
        texts.append("" if i in broken else text)
    return texts, broken


def encoded_texts(dataset: Dataset, column: str) -> list[bytes | None]:
    """The bytes (n,) of a column of texts: a stranger's need not be UTF-8."""
    values = column_array(dataset, column)
    return values.cast(pa.binary() if pa.types.is_string(values.type) else pa.large_binary()).to_pylist()


def _label(dataset: Dataset, text: str, label: str | None, reference: str | None) -> str:
    """The column of the labels beside that of the texts; ids have too many values for it."""
    rest = Features({name: feature for name, feature in dataset.features.items() if name != text})
    few = {
        name: feature
        for name, feature in rest.items()
        if name == reference or isinstance(feature, ClassLabel) or not (_plain(feature) and _has_many(dataset, name))
    }
    possible = any(may_be_labels(feature) for name, feature in few.items() if name != reference)
    return guess_label_column(Features(few) if label is None and possible else rest, label, reference)


def _plain(feature: object) -> bool:
    return is_string(feature) or is_integer(feature)


def _has_many(dataset: Dataset, column: str) -> bool:
    """Whether a column has more values than labels have."""
    return len(column_array(dataset, column).drop_null().unique()) > most_classes(len(dataset))


def _are_words(dataset: Dataset, column: str) -> bool:
    """Whether most of the first values are of several words, or in a script that need not part them."""
    values = texts_of(dataset.select(range(min(LOOKED_AT, len(dataset)))), column)[0]
    there = [text.strip() for text in values if text]
    words = sum(len(text.split()) > 1 or not text.isascii() for text in there)
    return 2 * words > len(there)
