"""A table is read: its rows become what a method trains on, with those of other splits that its nets will score."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from curator.engine.encoders import UNLIKE
from curator.engine.hardware import Precision, best_precision, launched_precision, process_state
from curator.engine.source import Features
from curator.errors import CuratorError
from curator.evidence import NoisyDataset, Present, Source
from curator.methods.confident import own_probs
from curator.sources.inputs import Inputs, Reader
from curator.sources.load import memory_budget, other_labels
from curator.sources.table import Table
from curator.sources.text_inputs import TextReader
from curator.system import threads_per_process
from curator.text import Log

if TYPE_CHECKING:
    from curator.config.flags import Settings
    from curator.config.resolve import Resolved
    from curator.methods import Method


@dataclass(frozen=True)
class Reading:
    """What was read of a table.

    Attributes:
        data: its n rows, for the method, in the classes that are present.
        present: which these are of the table's.
        hashes: (n,) uint64, of their content.
        measures: (n, len(MEASURES)) float32 of their pictures (faults.py); None where none was decoded.
        others: the splits that will be scored.
        digest: hash of what the rows were made from; None of a dry run's sample.
        fingerprint: of the backbones that made features of them, if any did.
        encoders: what is known of these: their name, and of those of the Hub id, commit and license.
    """

    data: NoisyDataset
    present: Present
    hashes: np.ndarray | None
    others: dict[str, Inputs]
    digest: str | None
    fingerprint: str | None
    encoders: list[dict[str, Any]] = field(default_factory=list)
    measures: np.ndarray | None = None

    @property
    def lasting(self) -> bool:
        """Whether another run can tell that it reads the same."""
        return UNLIKE not in (self.fingerprint or "")

    @property
    def content(self) -> str | None:
        """What work that is kept for other runs on these rows is known by."""
        return f"{self.digest}/{self.fingerprint}" if self.digest is not None and self.lasting else None


def read(
    resolved: Resolved,
    table: Table,
    budget: float | None = None,  # bytes that decoded images may take; by default memory_budget(settings)
    say: Log = lambda line: None,
) -> Reading:
    """Read the table's rows, and set those aside that cannot be used.

    Raises:
        CuratorError: for rows that the method cannot learn from, before anything takes long; where too many of them
            are set aside; for other splits that do not fit.
    """
    s, state = resolved.settings, process_state()
    budget = memory_budget(s) if budget is None else budget
    torch.set_num_threads(threads_per_process())
    present, labels, trusted = _present(table, resolved.method)
    resolved.method.require(labels, trusted, present.names(table.classes))
    texts = table.text_column is not None and s.features_column is None
    reader = (TextReader if texts else Reader)(s, table, precision(s), state, say)
    if s.dry_run and reader.eyes:  # its features can take longer than the training
        inputs, others = reader.sample(), {}
    else:
        inputs = reader(table.data, table.rows, budget)
        table.set_aside(inputs.broken)
        table.require_few_aside(s.allow_quarantine)
        table.digest = _digest(table, str(inputs.digest) + table.access.decoder.mark)
        others = _read_others(table, resolved.method, reader, inputs.shape, budget - inputs.nbytes)
    present, labels, trusted = _present(table, resolved.method)  # anew: rows may have been set aside
    data = NoisyDataset(
        inputs.source(state.device), labels, present.names(table.classes), trusted, torch.from_numpy(table.rows),
        table.source_rows,
    )  # fmt: skip
    _require_different(data.inputs, s)
    digest = None if inputs.digest is None else inputs.digest + table.access.decoder.mark
    encoders = [eye.facts() for eye in reader.eyes]
    return Reading(data, present, inputs.hashes, others, digest, reader.fingerprint or None, encoders, inputs.measures)


def _present(table: Table, method: Method) -> tuple[Present, Tensor, Tensor]:
    """The classes that rows are labelled with, the labels (n,) in their numbers, and which are verified (n,) bool."""
    learned, k = torch.from_numpy(table.learned), len(table.classes)
    # The columns of a user's probabilities are all classes.
    labels = [torch.arange(k)] if own_probs(method) is not None else [learned, torch.from_numpy(table.labels)]
    present = Present.of(labels, k)
    return present, present.inside(learned), torch.from_numpy(table.trusted)


def _require_different(inputs: Source, s: Settings) -> None:
    """Refuse features that are alike in all rows: every label would seem wrong."""
    if not isinstance(inputs, Features) or len(inputs) < 2:
        return
    few, every = inputs.features[:100], inputs.features
    if bool((few == few[0]).all()) and bool((every == few[0]).all()):
        flag = f"--features-column {s.features_column}" if s.features_column else f"--backbone {s.backbone}"
        raise CuratorError(f"{flag}: expected features that tell rows apart, found the same in all {len(every):,} rows")


def precision(settings: Settings) -> Precision:
    """The precision of forward passes: the flag's, else the launcher's, else the best that the hardware has."""
    return settings.mixed_precision or launched_precision() or best_precision(process_state().device)


def _read_others(
    table: Table, method: Method, reader: Reader | TextReader, shape: tuple[int, ...], budget: float
) -> dict[str, Inputs]:
    """Rows of the other splits that will be scored: what is wrong with them is said before the training."""
    inputs: dict[str, Inputs] = {}
    for name, other in table.others.items():
        if method.total_epochs(len(table.classes), len(table.rows)) and (other_labels(table, name) >= 0).any():
            try:
                inputs[name] = reader(other, np.arange(len(other)), budget)
            except CuratorError as e:
                raise CuratorError(f"split {name!r}: {e}") from e
            if inputs[name].shape != shape:
                raise CuratorError(
                    f"split {name!r}: expected rows of shape {shape}, as in split {table.split!r}, "
                    f"found {inputs[name].shape}"
                )
            budget -= inputs[name].nbytes
    return inputs


def _digest(table: Table, inputs: str) -> str:
    digest = hashlib.blake2b(inputs.encode(), digest_size=16)
    for part in (repr(table.dataset.features), repr(table.classes)):
        digest.update(part.encode())
    for array in (table.labels, table.rows):
        digest.update(array.tobytes())
    return digest.hexdigest()
