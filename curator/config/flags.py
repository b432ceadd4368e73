"""The flags: what they are, their types, and the values that a run can use."""

from __future__ import annotations

import contextlib
import dataclasses
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from curator.engine.views import Views
from curator.errors import CuratorError
from curator.methods import DEFAULT_METHOD, METHODS, ON_FEATURES, Method
from curator.methods.fields import BELOW_1, AtLeast, Between, ranges
from curator.text import did_you_mean

METHOD = "method."  # what the names of hyperparameters begin with


def _methods() -> str:
    """The help of --method: what METHODS says of itself."""
    about = " ".join(f"{name}: {(cls.__doc__ or '').splitlines()[0]}" for name, cls in METHODS.items())
    return f"How wrong labels are found. {about} Default: {ON_FEATURES} on frozen features, else {DEFAULT_METHOD}."


@dataclass
class Settings:
    """The flags of clean.py; curate() takes them with underscores."""

    dataset: str = "digits"
    """A named dataset (digits, cifar10, cifar100, cifar10n, cifar100n; from files you have, with --data-dir:
    animal10n, clothing1m, webvision, tiny-imagenet), a Hub id (owner/name) or a local folder."""
    data_dir: Path | None = None
    """Folder with a named dataset's files, instead of downloading them; of another dataset, one outside of it in which
    files that its rows name may lie."""
    method: Annotated[str, tyro.conf.arg(help=_methods())] = DEFAULT_METHOD
    ensemble: str | None = None
    """Several methods, as promix,confident: the means of their probabilities and clean scores."""
    recipe: str | None = None
    """A YAML file or a name in recipes/, with :VARIANT to pick one.
    Default: the one of the dataset and method, if any."""
    label_noise: str | None = None
    """CIFAR-10N: worst, aggre, rand1, rand2, rand3.
    Any dataset: inject sym:R, sym-other:R, asym:R or idn:R, R in [0, 1]."""
    imbalance: Annotated[float, AtLeast(1)] | None = None
    """Make a long tail first: the largest class has this many times the rows of the smallest (>= 1)."""
    image_column: str | None = None
    """Column of images; guessed when there is one candidate."""
    label_column: str | None = None
    """Column of given labels; guessed when there is one candidate."""
    reference_column: str | None = None
    """Column of true labels, if known: only the report sees it. Default: true_label, where there is one."""
    split: str | None = None
    """Split to curate; by default the only one, or train."""
    config_name: str | None = None
    """Configuration of the dataset. Clothing1M: noisy leaves its verified rows out."""
    revision: str | None = None
    """Revision of the dataset on the Hub: a branch, tag or commit."""
    limit_rows: Annotated[int, AtLeast(1)] | None = None
    """Curate a sample of this many rows, stratified by class; the output holds only these."""
    image_size: Annotated[int, Between(4, 4096)] | None = None
    """Decode images to squares of this many pixels a side.
    Default: their own size up to 64 px, else 64 (large nets and backbones: 224, or what their weights want)."""
    net: str | None = None
    """small, resnet18, preact18, resnet50 or vgg19_bn; mlp or linear on frozen features.
    Default: small without an accelerator, else resnet18."""
    pretrained: bool = False
    """Start from torchvision's ImageNet weights (resnet50, vgg19_bn)."""
    backbone: str | None = None
    """Train on frozen features of a torchvision model with weights (resnet50),
    or of MODULE:CALLABLE, uint8 (b, 3, h, w) to float32 (b, d)."""
    features_column: str | None = None
    """Train on a column of embeddings, a list of numbers of one length in every row."""
    trusted: str | Path | float | None = None
    """Rows whose labels are verified: a boolean column, a CSV or parquet file row,label, a review journal,
    or a share as 0.1, drawn from the reference (for experiments)."""
    epochs: Annotated[int, AtLeast(1)] | None = None
    """Scale every setting that counts epochs by this over the recipe's epochs."""
    early_stop: Annotated[int, Between(1, 1000)] | None = None
    """Stop when fewer than 0.1 % of the corrected labels changed over this many yields of the method."""
    max_minutes: Annotated[float, AtLeast(0)] | None = None
    """Stop training after this many minutes and write what there is."""
    flag_worst: Annotated[int, AtLeast(0)] | None = None
    """Mark exactly this many least clean rows as not selected, instead of the method's own rule."""
    pred_probs: Path | None = None
    """For confident: your own out-of-sample probabilities (n, classes) as .npy; nothing is trained."""
    flip: bool = True
    """Mirror images left-right at random; off where a mirrored image may be of another class, as for digits."""
    feature_noise: Annotated[float, AtLeast(0)] = 0.2
    """On features: deviation of the noise that is added in training, in deviations of a feature (>= 0)."""
    feature_drop: Annotated[float, BELOW_1] = 0.2
    """On features: share of the features set to their mean in training, in [0, 1)."""
    seed: Annotated[int, AtLeast(0)] = 123
    """Seed of everything that is drawn; 123 gives the published noisy labels of CIFAR."""
    mixed_precision: Literal["no", "bf16"] | None = None
    """Precision of the forward pass. Default: bf16 where the hardware has it."""
    compile: bool = False
    """Compile the net with torch.compile."""
    memory_budget: Annotated[float, AtLeast(0)] | None = None
    """GiB the decoded images may take; what does not fit is decoded anew in every epoch.
    An image that cannot be decoded in half of it (16 bytes a pixel; 16.8 million pixels always can) is set aside.
    Default: half of the free memory of the device."""
    allow_quarantine: bool = False
    """Go on although more than 5 % of the rows have no label or no image that can be decoded."""
    output: Path | None = None
    """Output folder. Default: runs/DATASET-METHOD, plus -NOISE when --label-noise is given."""
    overwrite: bool = False
    """Replace the results of a finished run in the output folder; review.sqlite is never touched."""
    resume: bool = True
    """Continue an interrupted run of the output folder when its settings are the same."""
    keep_checkpoints: bool = False
    """Keep the last checkpoint when done."""
    overwrite_columns: bool = False
    """Replace columns of the source that have the names Curator writes."""
    column_prefix: str = ""
    """Put this before the names of the columns Curator writes."""
    track: Literal["tensorboard", "wandb", "trackio"] | None = None
    """Log every epoch to a tracker."""
    push_to_hub: str | None = None
    """Push the result to this Hub id (owner/name) when done, all columns, labels as given; see also publish."""
    public: bool = False
    """With --push-to-hub: make a new repository public instead of private."""
    dry_run: bool = False
    """Print columns, class counts, recipe, schedule, ETA and memory, and stop."""

    def views(self) -> Views:
        """How rows look in training."""
        return Views(self.flip, self.feature_noise, self.feature_drop)


# What a command does with its run, not what the run is.
NOT_IN_RECIPES = {"recipe", "ensemble", "output", "overwrite", "resume", "dry_run", "push_to_hub", "public"}


def check_ranges(settings: Settings, method: Method) -> None:
    """One line for values that no run can use."""
    if settings.public and settings.push_to_hub is None:
        raise CuratorError("--public is for --push-to-hub ID; add it, or leave --public out")
    if settings.early_stop is not None and not method.early_stops:
        raise CuratorError(
            f"--early-stop watches the corrected labels, which --method {settings.method} has before its last nets "
            "train; leave it out, or shorten the training with --epochs"
        )
    for prefix, holder in (("", settings), (METHOD, method)):
        for name, hint in hints(type(holder)).items():
            value = getattr(holder, name)
            for wanted in ranges(hint):
                if value is not None and value not in wanted:
                    flag = f"--{prefix}{name.replace('_', '-')}"
                    raise CuratorError(f"{flag}: expected {wanted}, found {value}")


def hints(cls: type) -> dict[str, Any]:
    """Types of a dataclass's fields; none of another class's."""
    if not dataclasses.is_dataclass(cls):
        return {}
    found = typing.get_type_hints(cls, include_extras=True)
    return {f.name: found[f.name] for f in dataclasses.fields(typing.cast(Any, cls))}


def typed(values: dict[str, Any], cls: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split values into flags and hyperparameters of the method, each of its field's type."""
    flags, hyper = {}, {}
    known = {**hints(Settings), **{METHOD + k: v for k, v in hints(cls).items()}}
    for key, value in values.items():
        if key not in known:
            raise CuratorError(f"unknown setting {shown(key.replace('_', '-'))}{nearest(key, known)}")
        value = coerce(value, known[key], f"--{key.replace('_', '-')}")
        if key.startswith(METHOD):
            hyper[key.removeprefix(METHOD)] = value
        else:
            flags[key] = value
    return flags, hyper


def nearest(key: str, known: Iterable[str]) -> str:
    """The end of an error for what may be far off, as a flag typed from memory."""
    return did_you_mean(key, known, 0.5)


def coerce(value: Any, hint: Any, flag: str) -> Any:
    """The value as the type: numbers may be written as text (YAML reads 1e-3 as text), nothing else is bent.

    Raises:
        CuratorError: naming the flag, the type and the value.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return coerce(value, args[0], flag)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = [a for a in args if a is not type(None)]
        for kind in kinds[:-1]:
            with contextlib.suppress(CuratorError):
                return coerce(value, kind, flag)
        return coerce(value, kinds[-1], flag)
    if origin is Literal:
        value = "no" if value is False and "no" in args else value  # YAML reads no as false
        if value not in args:
            raise CuratorError(f"{flag}: expected one of {', '.join(map(str, args))}; found {shown(value)}")
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if hint is Path and value == "":  # it would be the working folder
        raise CuratorError(f"{flag}: it is empty; was a variable of the shell not set?")
    if hint is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    if hint in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
            if hint is float and number == number or hint is int and number.is_integer():
                return hint(number) if not isinstance(value, int) else hint(value)
        except (ValueError, OverflowError):
            pass
    raise CuratorError(f"{flag}: expected {getattr(hint, '__name__', hint)}, found {shown(value)}")


def shown(value: Any) -> str:
    """A value as an error quotes it: of strangers, so not at any length."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:97]}..."
