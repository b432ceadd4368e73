"""A name, a folder or a Dataset becomes a table."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict
from torch import Tensor

from curator.config.defaults import DEFAULT_NOISE
from curator.config.flags import Settings
from curator.engine.hardware import free_memory_of, process_state
from curator.engine.held import Held
from curator.errors import CuratorError
from curator.sources import cifar_n, noise
from curator.sources.align import align, unknown_labels
from curator.sources.columns import column_array, lifted, replace_column
from curator.sources.depth import measure
from curator.sources.features import with_array
from curator.sources.files import real_folders
from curator.sources.images import Access, choose_size, decode_images, whole_images
from curator.sources.labels import (
    class_names,
    is_string,
    label_codes,
    missing_labels,
    notes_on_labels,
    require_label_type,
    require_labels,
)
from curator.sources.local import Asked
from curator.sources.metadata import require_features
from curator.sources.opening import NAMED, open_dataset
from curator.sources.pictures import Decoder
from curator.sources.table import (
    COLUMNS,
    TRUE_LABEL,
    Table,
    field_of_labels,
    guess_image_column,
    guess_label_column,
)
from curator.sources.tables import with_images
from curator.sources.texts import guess_text_columns, has_no_images, texts_of
from curator.sources.verified import trust
from curator.system import is_path
from curator.text import name_of

URL = "__url__"  # column in which webdataset says of which archive a row is


def memory_budget(settings: Settings) -> float:
    """Bytes that decoded images may take; the same in all processes."""
    from accelerate.utils import gather_object

    state, given = process_state(), settings.memory_budget
    budget = given * 2**30 if given is not None else free_memory_of(state.device) / 2
    # Or an image would be too large in one process and not in another.
    return min(gather_object([budget])) if state.num_processes > 1 else budget


def load(
    settings: Settings,
    source: Dataset | DatasetDict | None = None,  # instead of settings.dataset
    budget: float | None = None,  # bytes that decoded images may take; by default memory_budget(settings)
) -> Table:
    """Load a dataset, guess its columns, check its labels; then, if asked for, long tail, noise, sample, trusted rows.

    Rows without a label are set aside.

    Raises:
        CuratorError: in the user's terms, for whatever does not fit.
    """
    s, dataset = settings, settings.dataset if source is None else source
    budget = memory_budget(s) if budget is None else budget
    name = dataset if isinstance(dataset, str) else "dataset"
    asked = Asked(s.data_dir, s.config_name, s.class_level, s.image_column, s.label_column, s.text_column)
    opened = open_dataset(dataset, asked, s.revision)
    splits = opened.splits
    odd = next((k for k in splits if not re.fullmatch(r"\w+(\.\w+)*", k)), None)
    if odd is not None:  # it becomes the name of a file, and load_dataset would not read it back
        raise CuratorError(f"split {odd!r}: expected a name of letters, digits, _ and single dots; rename the split")
    for part in splits.values():
        require_features(part.features)
    named = NAMED.get(name)
    chosen = _choose_split(splits, s.split)
    splits = {k: _without_places(v.with_format(None), dataset) for k, v in splits.items()}
    if s.features_column is None and s.text_column is None:  # there may be paths beside these, which stay texts
        splits = {k: with_images(v, opened.home, s.image_column) for k, v in splits.items()}
    if isinstance(s.features_column, Held):
        splits[chosen] = with_array(splits[chosen], s.features_column, chosen)
    label_column, said = s.label_column, []
    if field := field_of_labels(splits[chosen].features, label_column or opened.label):
        last = field.rpartition(".")[2]
        label_column = last if last not in splits[chosen].features else field.replace(".", "_")
        splits = {k: lifted(v, field, label_column) for k, v in splits.items()}
        said = [f"the labels are field {field}, and stand in a column {label_column!r} of their own"]
    splits, notes = align(splits, chosen)
    main = _free_columns(splits[chosen], s.overwrite_columns, s.column_prefix)
    features = main.features
    reference_column, text_column = s.reference_column, s.text_column
    if reference_column is None and TRUE_LABEL in features:
        reference_column = TRUE_LABEL
    if label_column is None and named and named[2] in features:
        label_column = named[2]
    if label_column is None and opened.label in features and opened.label != reference_column:
        label_column = opened.label
    if text_column is not None or (s.features_column is None and s.image_column is None and has_no_images(features)):
        text_column, label_column = guess_text_columns(main, text_column, label_column, reference_column, s.backbone)
    image_column = None
    if text_column is None:
        image_column = guess_image_column(features, s.image_column, needed=s.features_column is None)
    if reference_column is not None and reference_column == label_column:
        raise CuratorError(
            f"--reference-column {reference_column}: it is the label column; name that of the true labels, or leave "
            "the flag out"
        )
    label_column = guess_label_column(features, label_column, reference_column)
    classes = class_names(main, label_column)
    if len(classes) < 2:
        raise CuratorError(f"column {label_column!r}: expected labels of two classes or more, found {list(classes)}")
    codes = label_codes(main, label_column, classes)
    if not (codes >= 0).any():
        raise CuratorError(f"column {label_column!r}: expected labels, found none in {len(main):,} rows")
    if reference_column is not None:
        if reference_column not in features:
            raise CuratorError(
                f"--reference-column: no column {reference_column!r}; the columns are {', '.join(features)}"
            )
        require_label_type(main, reference_column, "--reference-column")
    others = {k: _free_columns(v, s.overwrite_columns, s.column_prefix) for k, v in splits.items() if k != chosen}
    table = Table(
        name if isinstance(dataset, str) and not is_path(name) else name_of(name),
        chosen, main, others, image_column, label_column, classes, codes, np.arange(len(main)), reference_column,
        source_rows=len(main), source=opened.source, notes=list(opened.notes),
        access=Access(real_folders([*filter(None, [s.data_dir]), *opened.folders]), Decoder(budget / 2)),
        text_column=text_column,
    )  # fmt: skip
    table.notes += said + notes_on_labels(main, label_column, classes)
    table.set_aside(missing_labels(main, label_column, codes))
    if text_column is not None and s.features_column is None:
        table.set_aside(texts_of(table.data, text_column)[1])
    table.require_few_aside(s.allow_quarantine)
    if codes.max() == (alone := codes[codes >= 0].min()):
        raise CuratorError(
            f"column {label_column!r}: expected labels of two classes or more, found {classes[alone]!r} alone"
        )
    if image_column is not None:
        table.access.decoder.spans, ranges = measure(table.data, image_column, table.access)
        table.notes += ranges
    if reference_column is not None:
        table.truth = require_labels(table.data, reference_column, classes, table.rows)
    table.notes += [*notes, *unknown_labels(others, label_column, classes)]
    _make_noisy(
        table,
        s.label_noise or DEFAULT_NOISE.get(name),
        cifar_n.LABEL_SETS.get(name, {}),
        lambda: cifar_n.find_file(name, s.data_dir),
        s.imbalance,
        s.seed,
        lambda: _all_images(table, s, budget),
    )
    if s.limit_rows is not None and s.limit_rows < len(table.labels):
        table.take(noise.stratified_sample(table.labels, s.limit_rows, s.seed))
    if s.verified is not None:
        trust(table, s.verified, s.seed)
    return table


def _all_images(table: Table, settings: Settings, budget: float) -> Tensor:
    """Every image of the table, as noise that depends on them needs them."""
    column = str(table.image_column)
    size = choose_size(table.data, column, table.rows, settings.image_size, str(settings.net), table.access)
    return whole_images(decode_images(table.data, column, table.rows, size, budget, table.access), table.rows)


def _make_noisy(
    table: Table,
    label_noise: str | None,
    human: dict[str, str],  # label sets of a CIFAR-N file: name -> key in the file
    file: Callable[[], Path],
    imbalance: float | None,
    seed: int,
    decode: Callable[[], Tensor],
) -> None:
    injected = noise.parse_noise(label_noise) if label_noise else None
    if label_noise and not injected and label_noise not in human:
        known = [*human, *(f"{kind}:RATE" for kind in noise.KINDS)]
        raise CuratorError(f"--label-noise: expected one of {', '.join(known)} for {table.name}; found {label_noise!r}")
    k = len(table.classes)
    if label_noise in human:
        path = file()
        table.relabel(cifar_n.align(cifar_n.read_labels(path), human[label_noise], table.labels, k, path))
    if imbalance is not None:
        by = table.labels if table.truth is None else table.truth
        table.take(noise.long_tail(by, k, imbalance, seed))
    if injected:
        kind, rate = injected
        if kind in noise.OF_IMAGES and table.image_column is None:
            raise CuratorError(f"--label-noise {label_noise}: it needs images, but there is no image column")
        images = decode().numpy() if kind in noise.OF_IMAGES else None
        table.relabel(noise.inject(table.labels, table.classes, kind, rate, seed, images))


def _without_places(rows: Dataset, source: Any) -> Dataset:
    """The rows without where on this machine they were read, which webdataset puts beside them."""
    if URL not in rows.column_names or not is_string(rows.features[URL]):
        return rows
    folder = Path(source).expanduser().resolve() if isinstance(source, str) and is_path(source) else None

    @cache
    def place(text: str | None) -> str | None:
        if text is None or not Path(text).is_absolute():
            return text
        path = Path(text).resolve()
        return path.relative_to(folder).as_posix() if folder and path.is_relative_to(folder) else path.name

    places = [place(text) for text in column_array(rows, URL).to_pylist()]
    return replace_column(rows, URL, pa.array(places, rows.features[URL].pa_type))


def _free_columns(dataset: Dataset, overwrite: bool, prefix: str) -> Dataset:
    """The dataset without columns of the names that Curator writes.

    Raises:
        CuratorError: when there are some and the user did not say what to do.
    """
    taken = [prefix + c for c in COLUMNS if prefix + c in dataset.column_names]
    if taken and not overwrite:
        raise CuratorError(
            f"the dataset has columns that Curator writes ({', '.join(taken)}): "
            "add --overwrite-columns to replace them, or --column-prefix NAME_ to write beside them"
        )
    return dataset.remove_columns(taken)


def _choose_split(splits: DatasetDict, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in splits:
            raise CuratorError(f"--split: no split {wanted!r}; the splits are {', '.join(splits)}")
        return wanted
    if len(splits) == 1 or "train" in splits:
        return "train" if "train" in splits else next(iter(splits))
    raise CuratorError(
        f"expected one split or a split 'train', found {', '.join(splits)}; choose one with --split"
        if splits
        else "expected a dataset with a split, found none"
    )


def other_labels(table: Table, split: str) -> np.ndarray:
    """Class numbers of another split's labels; -1 where there is none."""
    return label_codes(table.others[split], table.label_column, table.classes)
