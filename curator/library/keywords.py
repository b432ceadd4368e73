"""The flags as keywords of Python, with their types."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from numpy.typing import ArrayLike
    from torch import Tensor

    Rows: TypeAlias = str | PathLike[str] | Dataset | DatasetDict | "ArrowTable" | Sequence[str | PathLike[str]] | None


class ArrowTable(Protocol):
    """A DataFrame of pandas or polars, or any other table that Arrow reads."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


class Keywords(TypedDict, total=False):
    """What curate() takes besides dataset, method and dry_run: the flags, and what a command line cannot be given."""

    labels: Sequence[Any]
    features: ArrayLike
    data_dir: str | Path | None
    config_name: str | None
    class_level: int | None
    split: str | None
    revision: str | None
    image_column: str | None
    text_column: str | None
    label_column: str | None
    reference_column: str | None
    verified: str | Path | float | None
    label_noise: str | None
    imbalance: float | None
    limit_rows: int | None
    image_size: int | None
    allow_quarantine: bool
    ensemble: str | None
    recipe: str | None
    net: str | None
    pretrained: bool
    backbone: str | Callable[[Tensor], Tensor] | Callable[[list[str]], Tensor] | None
    features_column: str | None
    pred_probs: str | Path | ArrayLike | None
    guard: bool
    epochs: int | None
    eval_every: int | None
    early_stop: int | None
    max_minutes: float | None
    flip: bool
    crop: int | None
    crop_area: float | None
    feature_noise: float
    feature_drop: float
    seed: int
    mixed_precision: Literal["no", "bf16"] | None
    compile: bool
    memory_budget: float | None
    track: Literal["tensorboard", "wandb", "trackio"] | None
    output: str | Path | None
    overwrite: bool
    resume: bool
    keep_checkpoints: bool
    flag_worst: int | None
    overwrite_columns: bool
    column_prefix: str
    push_to_hub: str | None
    public: bool


class _Default:
    def __repr__(self) -> str:
        return "..."


def with_signature(call: Callable) -> Callable:
    """The function with every keyword in its signature, as help() and the completion of notebooks show it."""
    known = inspect.signature(call)
    places = [p for p in known.parameters.values() if p.kind is not p.VAR_KEYWORD]
    rest = [p for p in known.parameters.values() if p.kind is p.VAR_KEYWORD]
    default = _Default()
    keywords = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=getattr(hint, "__forward_arg__", hint)
        )
        for name, hint in Keywords.__annotations__.items()
    ]
    call.__signature__ = known.replace(parameters=[*places, *keywords, *rest])  # type: ignore[attr-defined]
    return call
