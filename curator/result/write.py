"""The result of a run: columns, dataset, report and card, written to the output folder."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from torch import Tensor

from curator.engine.source import Features
from curator.errors import RunFailed
from curator.evidence import Evidence, NoisyDataset
from curator.result.accuracy import predicted
from curator.result.card import dataset_card
from curator.result.columns import Columns, add_columns, columns_of_other, no_columns, pairs, spread
from curator.result.facts import FACTS, data_files, read_facts
from curator.result.findings import Findings, findings_of
from curator.result.issues import write_issues
from curator.result.layout import FEATURES, PENDING, QUARANTINE, TRUSTED, content_hash, staged, write_json
from curator.result.parquet import write_parquet
from curator.result.read import DUPLICATES
from curator.result.report import write_report
from curator.result.suspects import LOOK_ALIKES, PICTURES
from curator.sources.images import changed
from curator.sources.labels import label_codes
from curator.sources.load import other_labels
from curator.sources.read import Reading
from curator.sources.table import Table, remaining
from curator.system import is_main

if TYPE_CHECKING:
    from curator.config.resolve import Resolved
    from curator.engine.run import Run


HALF = 65504.0  # the largest float16


@dataclass
class CurationResult:
    """A finished run."""

    output: Path
    dataset: Dataset | None  # None where it was finished before: then it is read from the folder where it is needed
    facts: dict[str, Any]

    @classmethod
    def of(cls, output: Path) -> CurationResult:
        """The run that was finished in the folder before."""
        return cls(output, None, read_facts(output))

    def read(self) -> Dataset:
        """The curated split, as it is in the folder."""
        split = self.facts["split"]
        found = Dataset.from_parquet([str(file) for file in data_files(self.output, split)], split=split)
        assert isinstance(found, Dataset)
        return found


def write(
    resolved: Resolved,
    table: Table,
    reading: Reading,
    run: Run,
    found: Evidence,
    history: list[dict[str, float]],
    output: Path,
    identity: dict[str, Any],  # of the run
) -> CurationResult:
    """Make the columns and, in the main process, write dataset, report and card."""
    s = resolved.settings
    others, test_accuracy = _other_splits(table, reading, run)
    features = _features(reading.data, run)
    findings = findings_of(resolved, table, reading, run, found, history, test_accuracy, features)
    curated = {table.split: (table.dataset, spread(findings.columns, table.kept, table.ids)), **others}
    splits = {name: add_columns(part, cols, table.classes, s.column_prefix) for name, (part, cols) in curated.items()}
    if is_main():
        with staged(output) as folder:
            judged, written = _judged(table, reading), {}
            for name, split in splits.items():
                seen = None  # images that were decoded, unless there is a column of features
                if table.image_column is not None and s.features_column is None and name in judged:
                    seen = table.image_column, np.isin(np.arange(len(split)), judged[name].places)
                written[name] = write_parquet(split, folder, name, table.access, seen)
            _require_unchanged(table, judged, written)
            write_issues(folder / "issues.csv", findings)
            write_report(folder, findings, output)
            _write_card(folder, findings, list(splits))
            _write_tables(folder, findings, features)
            write_json(folder / PENDING, identity)
            write_json(folder / FACTS, findings.facts)
    run.accelerator.wait_for_everyone()
    return CurationResult(output, splits[table.split], findings.facts)


def _write_card(folder: Path, findings: Findings, splits: list[str]) -> None:
    table = findings.table
    changes = pairs(table.labels, findings.columns.corrected, len(table.classes))
    content, own = content_hash(folder, "data"), table.source.get("text")
    card = dataset_card(findings.facts, table.classes, changes, splits, content, own=own)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _write_tables(folder: Path, findings: Findings, features: Tensor | None) -> None:
    """The files beside the data: features, and rows that were set aside, are alike or trusted."""
    table, alike, trusted = findings.table, findings.duplicates, findings.table.trusted
    if features is not None:
        places = np.zeros((len(table.ids), features.shape[1]), np.float16)
        places[table.kept] = features.numpy()
        np.save(folder / FEATURES, places)
    if findings.quarantine:
        pq.write_table(pa.Table.from_pylist(findings.quarantine), folder / QUARANTINE)
    if len(alike.positions):
        alike.write(folder / DUPLICATES, table.rows, findings.alike_files)
    if len(findings.look_alikes.rows):
        findings.look_alikes.write(folder / LOOK_ALIKES, findings.look_alike_files)
    if findings.faults:
        pq.write_table(pa.Table.from_pylist(findings.faults), folder / PICTURES)
    if trusted.any():
        labels = [table.classes[code] for code in table.learned[trusted]]
        pq.write_table(pa.table({"row": table.rows[trusted], "label": labels}), folder / TRUSTED)


class Judged(NamedTuple):
    """The rows of a split that were read: places in it, numbers in the source, and hashes of their content."""

    places: np.ndarray
    rows: np.ndarray
    hashes: np.ndarray | None


def _judged(table: Table, reading: Reading) -> dict[str, Judged]:
    """By split, what the method and its nets have seen."""
    found = {table.split: Judged(table.kept, table.rows, reading.hashes)}
    for name, read in reading.others.items():
        good = remaining(len(table.others[name]), read.broken)
        found[name] = Judged(good, good, read.hashes)
    return found


def _require_unchanged(table: Table, judged: dict[str, Judged], written: dict[str, np.ndarray | None]) -> None:
    """Refuse to put out other images or labels than those that were judged: their files may have changed meanwhile.

    Raises:
        RunFailed: naming the first row.
    """
    if not np.array_equal(label_codes(table.data, table.label_column, table.classes), table.labels):
        raise RunFailed(f"column {table.label_column!r}: the labels are not those that were read at the start")
    for split, seen in judged.items():
        found = written[split]
        if seen.hashes is not None and found is not None:
            other = seen.rows[found[seen.places] != seen.hashes]
            if len(other):
                raise changed(str(table.image_column), int(other[0]))


def _other_splits(table: Table, reading: Reading, run: Run) -> tuple[dict[str, tuple[Dataset, Columns]], float | None]:
    """The other splits with their columns, by the run's nets if there are any, and the accuracy on the test split."""
    accuracy, scored, inputs = None, {}, reading.others
    for name, other in table.others.items():
        labels = other_labels(table, name)
        if not run.scorers or name not in inputs:
            scored[name] = other, no_columns(len(other), len(table.classes))
            continue
        probs = predicted(run, inputs[name].source(run.device), reading)
        good = remaining(len(other), inputs[name].broken)
        columns = columns_of_other(probs.numpy(), labels[good])
        scored[name] = other, spread(columns, good, np.arange(len(other)))
        if name == "test" and (labels[good] >= 0).any():
            accuracy = float((columns.corrected == labels[good])[labels[good] >= 0].mean())
    return scored, accuracy


def _features(data: NoisyDataset, run: Run) -> Tensor | None:
    """Features (n, d) float16 by which a review finds alike rows: the frozen ones, or what a net's head reads."""
    if isinstance(data.inputs, Features):
        found = data.inputs.features
        found = (
            run.normaliser(data.inputs)(found) if found.abs().max() > HALF else found
        ).cpu()  # columns of any scale
    elif ensembles := run.scorers:
        normaliser = run.normaliser(data.inputs)
        found = run.predict(ensembles[0][0], data.inputs, normaliser=normaliser, output=attrgetter("features"))
    else:
        return None
    return found.clamp(-HALF, HALF).half()
