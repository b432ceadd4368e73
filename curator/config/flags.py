"""The flags: what they are, of which type and nature, and how --help groups them."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from curator.engine.views import Views
from curator.methods import AUTO, DEFAULT_METHOD, METHODS, ON_FEATURES
from curator.methods.fields import BELOW_1, AtLeast, Between

METHOD = "method."  # what the names of hyperparameters begin with

# The nature of a flag, which stands on its field.
NOT_IDENTITY = "does not change the result: an interrupted run may be continued with another value"
NOT_IN_RECIPES = "what a command does with its run, not what the run is"
PICKS = "picks the method or the recipe: read before the flags whose defaults follow from these"
PATH = "may be a path on this machine"


def _methods() -> str:
    """The help of --method: what METHODS says of itself."""
    about = " ".join(f"{name}: {(cls.__doc__ or '').splitlines()[0]}" for name, cls in METHODS.items())
    default = f"Default: {ON_FEATURES} on frozen features, else {DEFAULT_METHOD}."
    return f"How wrong labels are found. {about} {AUTO}: one of these, picked by the rows, and said why. {default}"


@dataclass
class DataFlags:
    """What is curated."""

    dataset: Annotated[str, PICKS] = "digits"
    """A named dataset (digits, cifar10, cifar100, cifar10n, cifar100n; from files you have, with --data-dir:
    animal10n, clothing1m, webvision, tiny-imagenet), a Hub id (owner/name), a local folder, or a
    CSV, JSON lines or parquet file with paths of images or with texts."""
    data_dir: Annotated[Path | None, NOT_IDENTITY, PATH] = None
    """Folder with the files of a named dataset, instead of downloading them; for any other dataset, a folder outside it
    from which files named in its rows may be read."""
    config_name: str | None = None
    """Configuration of the dataset. Clothing1M: noisy leaves its verified rows out."""
    class_level: Annotated[int, AtLeast(1)] | None = None
    """Of a local folder of images: which folders are the classes. 1: those in the dataset's folder, or in its train/,
    val/ and test/; 2: those in them. Default: the first level with more than one folder."""
    split: str | None = None
    """Split to curate. Default: the only one, or train."""
    revision: str | None = None
    """Revision of the dataset on the Hub: a branch, tag or commit."""
    image_column: str | None = None
    """Column with the images; guessed when there is one candidate."""
    text_column: Annotated[str | None, PICKS] = None
    """Column with the texts, of rows of text: --backbone makes features of them. Guessed when there is one candidate
    and no image."""
    label_column: str | None = None
    """Column with the given labels, or COLUMN.FIELD of a struct; guessed when there is one candidate."""
    reference_column: str | None = None
    """Column with the true labels, if known; used by the report only. Default: true_label, if there is one."""
    verified: Annotated[str | Path | float | None, tyro.conf.arg(aliases=["--trusted"]), PATH] = None
    """Rows with verified labels: a boolean column, a CSV or parquet file with the columns row,label, a review journal,
    or a fraction such as 0.1, sampled from the true labels (for experiments)."""
    label_noise: Annotated[str | None, PICKS] = None
    """CIFAR-10N: worst, aggre, rand1, rand2, rand3.
    Any dataset: inject sym:R, sym-other:R, asym:R, idn:R or idn-class:R, with the noise rate R in [0, 1]."""
    imbalance: Annotated[float | None, AtLeast(1), PICKS] = None
    """Make the classes long-tailed first: the largest has this many times the rows of the smallest (>= 1)."""
    limit_rows: Annotated[int, AtLeast(1)] | None = None
    """Curate a sample of this many rows, stratified by class; the output contains only these."""
    image_size: Annotated[int, Between(4, 4096)] | None = None
    """Resize images to squares of this many pixels a side.
    Default: their own size up to 64 px, else 64 (large nets and backbones: 224, or what their weights expect)."""
    allow_quarantine: bool = False
    """Continue even if more than 5 % of the rows are unusable: no label, an empty text, or an image that cannot be
    decoded."""


@dataclass
class MethodFlags:
    """What judges the labels."""

    method: Annotated[str, tyro.conf.arg(help=_methods()), PICKS] = DEFAULT_METHOD
    ensemble: Annotated[str | None, NOT_IN_RECIPES, PICKS] = None
    """Several methods, as in promix,confident: their probabilities and clean scores are averaged."""
    recipe: Annotated[str | None, NOT_IDENTITY, NOT_IN_RECIPES, PICKS, PATH] = None
    """A YAML file or a name in recipes/; :VARIANT picks a variant.
    Default: the recipe of the dataset and method, if there is one."""
    net: Annotated[str | None, PICKS] = None
    """Train from scratch: small, resnet18, preact18, resnet50 or vgg19_bn; on frozen features mlp or linear.
    Default on a named dataset: small without an accelerator, else resnet18; else see --backbone."""
    pretrained: bool = False
    """Start from torchvision's ImageNet weights (resnet50, vgg19_bn)."""
    backbone: Annotated[str | None, PICKS, PATH] = None
    """Train on frozen features of pretrained models: timm/NAME or another id of timm's or transformers' encoders on the
    Hub (owner/name, owner/name@revision), a classifier of torchvision (resnet50), or MODULE:CALLABLE, which maps uint8
    (b, 3, h, w) to float32 (b, d); several as a+b. Of texts: an id of sentence-transformers,
    or MODULE:CALLABLE, which maps a list of str to float32 (b, d). Default: auto, DINOv2 ViT-S/14 at 224 px, of texts
    multilingual-E5-small, on all but named datasets where neither --net nor --features-column is given."""
    features_column: Annotated[str | None, PICKS] = None
    """Train on a column of embeddings: lists of numbers, of the same length in every row."""
    pred_probs: Annotated[Path | None, PICKS, PATH] = None
    """For confident: your own out-of-sample probabilities, shape (n, classes), as .npy; nothing is trained."""
    guard: bool = True
    """Hold new labels back where an estimate by models that did not learn these rows says that they would harm:
    the rows are flagged and keep their labels."""


@dataclass
class TrainingFlags:
    """How it is trained."""

    epochs: Annotated[int | None, AtLeast(1), NOT_IDENTITY] = None
    """Train for this many epochs: every setting that counts epochs is scaled in proportion."""
    eval_every: Annotated[int, AtLeast(1)] | None = None
    """Score every other split that has labels after every N-th epoch, and after the last one: top-1 and top-5 accuracy,
    last, best and mean of the last 10, in the report and curation.json. Default: the test split, at the end alone."""
    early_stop: Annotated[int, Between(1, 1000)] | None = None
    """Stop early when fewer than 0.1 % of the corrected labels changed over this many yields of the method,
    usually one per epoch."""
    max_minutes: Annotated[float | None, AtLeast(0), NOT_IDENTITY] = None
    """Stop training after this many minutes and write the result so far."""
    flip: bool = True
    """Flip images horizontally at random. Default: unless a quick look finds that flipped images of a class look like
    another class, as for digits."""
    crop: Annotated[int, Between(4, 4096)] | None = None
    """Pixels a side of the window that nets see of each image: anywhere in it during training, else its centre.
    Default: the whole image, moved by up to an eighth over a black margin during training."""
    crop_area: Annotated[float, Between(0.001, 1)] | None = None
    """With --crop: the window has a random shape and at least this share of the image's area in training, and is scaled
    to --crop (torchvision's RandomResizedCrop, which has 0.08), from 0.001 to 1."""
    feature_noise: Annotated[float, AtLeast(0)] = 0.2
    """On features: deviation of the uniform noise added in training, relative to that of each feature (>= 0)."""
    feature_drop: Annotated[float, BELOW_1] = 0.2
    """On features: fraction of the features replaced by their mean in training, in [0, 1)."""
    seed: Annotated[int, AtLeast(0)] = 123
    """Random seed; 123 gives the published noisy labels of CIFAR."""
    mixed_precision: Literal["no", "bf16"] | None = None
    """Precision of the forward pass. Default: what accelerate launch --mixed_precision says, else bf16 where the
    hardware is quicker in it."""
    compile: bool = False
    """Compile the net with torch.compile."""
    memory_budget: Annotated[float | None, AtLeast(0), NOT_IDENTITY] = None
    """GiB of memory for decoded images; what does not fit is decoded again in every epoch.
    An image that would need more than half of it (16 bytes per pixel; up to 16.8 million pixels always fit) is set
    aside. Default: half of the free memory of the device."""
    track: Annotated[Literal["tensorboard", "wandb", "trackio"] | None, NOT_IDENTITY] = None
    """Log every epoch to an experiment tracker."""


@dataclass
class OutputFlags:
    """What is written."""

    output: Annotated[Path | None, NOT_IDENTITY, NOT_IN_RECIPES, PATH] = None
    """Output folder. Default: runs/DATASET-METHOD, plus -BACKBONE (or the column of features) and -NOISE where they are
    given."""
    overwrite: Annotated[bool, NOT_IDENTITY, NOT_IN_RECIPES] = False
    """Replace the results of a finished run in the output folder; review.sqlite is kept."""
    resume: Annotated[bool, NOT_IDENTITY, NOT_IN_RECIPES] = True
    """Continue an interrupted run in the output folder if its settings are the same."""
    keep_checkpoints: Annotated[bool, NOT_IDENTITY] = False
    """Keep the last checkpoint when the run is finished."""
    dry_run: Annotated[bool, NOT_IDENTITY, NOT_IN_RECIPES] = False
    """Print columns, class counts, recipe, schedule, ETA and memory, then exit."""
    flag_worst: Annotated[int, AtLeast(0)] | None = None
    """Flag exactly this many rows, those with the lowest clean scores, instead of using the method's own rule."""
    overwrite_columns: bool = False
    """Replace source columns that have the names of columns that Curator writes."""
    column_prefix: str = ""
    """Prefix for the names of the columns that Curator writes."""


@dataclass
class HubFlags:
    """Publishing when done."""

    push_to_hub: Annotated[str | None, NOT_IDENTITY, NOT_IN_RECIPES] = None
    """Push the result to this Hub repository (owner/name) when done: all columns, labels as given; see also publish."""
    public: Annotated[bool, NOT_IDENTITY, NOT_IN_RECIPES] = False
    """With --push-to-hub: make a new repository public instead of private."""


@dataclass
class Settings(HubFlags, OutputFlags, TrainingFlags, MethodFlags, DataFlags):  # the last is the first in order
    """The flags of clean.py; curate() takes them with underscores."""

    def views(self) -> Views:
        """How rows look in training."""
        return Views(self.flip, self.feature_noise, self.feature_drop, self.crop, self.crop_area)


GROUPS: dict[str, Any] = {  # by its title in --help
    "Data": DataFlags,
    "Method": MethodFlags,
    "Training": TrainingFlags,
    "Output": OutputFlags,
    "Hub": HubFlags,
}


def hints(cls: type) -> dict[str, Any]:
    """Types of a dataclass's fields; none of another class's."""
    if not dataclasses.is_dataclass(cls):
        return {}
    found = typing.get_type_hints(cls, include_extras=True)
    return {f.name: found[f.name] for f in dataclasses.fields(typing.cast(Any, cls))}


def flags_of(nature: str) -> list[str]:
    """The flags on whose field a nature stands."""
    return [name for name, hint in hints(Settings).items() if nature in getattr(hint, "__metadata__", ())]


# Other names of a flag, by the name it goes by.
ALIASES = {
    alias.removeprefix("--").replace("-", "_"): name
    for name, hint in hints(Settings).items()
    for part in getattr(hint, "__metadata__", ())
    for alias in getattr(part, "aliases", None) or ()
}


def field_name(flag: str) -> str:
    """The field of a flag or of a recipe's key: `label-noise` is label_noise, and `trusted` is verified."""
    name = flag.replace("-", "_")
    return ALIASES.get(name, name)


def as_words(values: dict[str, Any]) -> list[str]:
    """Values by flag name as words of a command line; what is None or empty is left out."""
    words: list[str] = []
    for name, value in values.items():
        head, dot, last = name.replace("_", "-").rpartition(".")
        if isinstance(value, bool):
            words.append(f"--{head}{dot}{'' if value else 'no-'}{last}")
        elif value not in (None, ""):
            words += [f"--{head}{dot}{last}", str(value)]
    return words
