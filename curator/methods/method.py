"""What a method is, and how its epochs are scaled."""

from __future__ import annotations

import copy
import typing
from abc import abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from curator.engine.run import Run
from curator.evidence import Evidence, NoisyDataset
from curator.methods.fields import counts_epochs


@runtime_checkable
class Method(Protocol):
    """A dataclass of hyperparameters that, called, trains and yields its evidence.

    It inherits from this and says what differs. Its docstring's first line is what --help says of it; its fields have
    attribute docstrings, and types that say which values a run can use (methods/fields.py).
    """

    epochs: int  # what --epochs scales, with all fields of type Epochs
    batch_size: int = 0  # rows a step; 0: there are no steps
    small_net: ClassVar[dict[str, Any]] = {}  # defaults that differ for the nets `small`, `mlp` and `linear`
    large_net: ClassVar[dict[str, Any]] = {}  # and for all larger ones
    early_stops: ClassVar[bool] = True  # whether corrected labels change in training, which --early-stop watches
    out_of_sample: ClassVar[bool] = False  # whether each label is judged by what did not learn it
    held_out: ClassVar[bool] = False  # whether its probabilities, too, are of models that do not know the row's label
    estimates: ClassVar[bool] = False  # whether it makes the estimate itself by which others are guarded
    fits: ClassVar[bool] = False  # whether it begins with models that are fitted whole, not in steps
    two_nets: ClassVar[bool] = False  # whether it trains two nets, which may be done at once

    @abstractmethod
    def __call__(self, data: NoisyDataset, run: Run) -> Iterator[Evidence]:
        """Train and yield evidence, usually once an epoch; the last one is the result.

        The caller owns the progress bar, early stop, time limit and checkpoints.
        """

    def total_epochs(self, classes: int, rows: int = 0) -> float:
        """Passes over all rows through one net, forward and backward, for the ETA; 0 where nothing trains."""
        return self.epochs

    def passes_done(self, progress: Mapping[str, int], classes: int, rows: int = 0) -> float:
        """Those of them that are done where the stages have come so far: epochs that ended, by stage."""
        part = copy.copy(self)
        part.epochs = progress.get("train", 0)
        return part.total_epochs(classes, rows) if part.epochs else 0.0

    def rows_at_once(self) -> int:
        """Rows that go through a net together in a training step; 0 where there are no steps."""
        return self.batch_size

    def require(self, labels: Tensor, trusted: Tensor, classes: Sequence[str]) -> None:
        """Refuse rows that the method cannot learn from, before anything takes long.

        Args:
            labels: (n,) int64, the verified label where there is one.
            trusted: (n,) bool, rows whose labels are verified.
            classes: names.

        Raises:
            CuratorError: naming what is missing.
        """
        return  # a body: without one a protocol's method is abstract

    def stages(self, data: NoisyDataset, run: Run, truth: Tensor) -> dict[str, Any]:
        """How good what it passes from stage to stage is against the truth, as JSON values.

        Called after the last epoch, for curation.json: no method sees the truth before. It is (n,) int64, and -1 where
        it is a class that no label names.
        """
        return {}


def scale_epochs(method: Method, epochs: int, keep: Container[str] = ()) -> dict[str, tuple[int, int]]:
    """Scale every hyperparameter that counts epochs by epochs / method.epochs, rounded, none but 0 to 0.

    Returns:
        The fields that were scaled: name -> (before, after). Fields in `keep` stay.
    """
    ratio, scaled = epochs / method.epochs, {}
    for field, hint in typing.get_type_hints(type(method), include_extras=True).items():
        if counts_epochs(hint) and field not in keep:
            before = getattr(method, field)
            setattr(method, field, max(1, round(before * ratio)) if before else 0)
            scaled[field] = (before, getattr(method, field))
    return scaled
