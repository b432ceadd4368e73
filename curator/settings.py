"""The flags, and how a run's settings follow from the method's defaults, a recipe and the flags that were given."""

from __future__ import annotations

import copy
import dataclasses
import math
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from curator.engine.hardware import no_accelerator
from curator.engine.nets import NETS, PRETRAINED
from curator.evidence import CuratorError
from curator.methods import DEFAULT_METHOD, METHODS, Method, scale_epochs
from curator.methods.ensemble import Ensemble
from curator.sources.defaults import DEFAULT_NOISE
from curator.system import did_you_mean, is_path

METHOD = "method."


@dataclass
class Settings:
    """The flags of clean.py; curate() takes them with underscores."""

    dataset: str = "digits"
    """A named dataset (digits, cifar10, cifar100, cifar10n, cifar100n), a Hub id (owner/name) or a local folder."""
    data_dir: Path | None = None
    """Folder with a named dataset's files, instead of downloading them."""
    method: str = DEFAULT_METHOD
    """How wrong labels are found: promix, confident, ce or mixup."""
    ensemble: str | None = None
    """Several methods, as promix,confident: the means of their probabilities and clean scores."""
    recipe: str | None = None
    """A YAML file or a name in recipes/, with :VARIANT to pick one.
    Default: the one of the dataset and method, if any."""
    label_noise: str | None = None
    """CIFAR-10N: worst, aggre, rand1, rand2, rand3.
    Any dataset: inject sym:R, sym-other:R, asym:R or idn:R, R in [0, 1]."""
    imbalance: float | None = None
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
    """Configuration of the dataset."""
    revision: str | None = None
    """Revision of the dataset on the Hub: a branch, tag or commit."""
    limit_rows: int | None = None
    """Curate a sample of this many rows, stratified by class; the output holds only these."""
    image_size: int | None = None
    """Decode images to squares of this many pixels a side.
    Default: their own size up to 64 px, else 64 (large nets: 224)."""
    net: str | None = None
    """small, resnet18, preact18, resnet50 or vgg19_bn; mlp on frozen features.
    Default: small without an accelerator, else resnet18."""
    pretrained: bool = False
    """Start from torchvision's ImageNet weights (resnet50, vgg19_bn)."""
    backbone: str | None = None
    """Train on frozen features of a torchvision model with weights (resnet50),
    or of MODULE:CALLABLE, uint8 (b, 3, h, w) to float32 (b, d)."""
    features_column: str | None = None
    """Train on a column of embeddings, a list of numbers of one length in every row."""
    epochs: int | None = None
    """Scale every setting that counts epochs by this over the recipe's epochs."""
    early_stop: int | None = None
    """Stop when fewer than 0.1 % of the corrected labels changed over this many yields of the method."""
    max_minutes: float | None = None
    """Stop training after this many minutes and write what there is."""
    flag_worst: int | None = None
    """Mark exactly this many least clean rows as not selected, instead of the method's own rule."""
    pred_probs: Path | None = None
    """For confident: your own out-of-sample probabilities (n, classes) as .npy; nothing is trained."""
    seed: int = 123
    """Seed of everything that is drawn; 123 gives the published noisy labels of CIFAR."""
    mixed_precision: Literal["no", "bf16"] | None = None
    """Precision of the forward pass. Default: bf16 where the hardware has it."""
    compile: bool = False
    """Compile the net with torch.compile."""
    memory_budget: float | None = None
    """GiB the decoded images may take. Default: half of the free memory of the device."""
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
    dry_run: bool = False
    """Print columns, class counts, recipe, schedule, ETA and memory, and stop."""


# Settings that do not change the result: an interrupted run may be continued with others.
NOT_IDENTITY = {
    "output", "overwrite", "resume", "max_minutes", "keep_checkpoints", "track", "dry_run", "data_dir", "recipe",
    "epochs", "memory_budget",
}  # fmt: skip


BELOW_1 = 1 - 1e-6

# Hyperparameters by name: the values that a run can use.
RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, math.inf), "batch_size": (2, math.inf), "folds": (2, math.inf), "lr": (0, 1e300),
    "momentum": (0, BELOW_1), "weight_decay": (0, math.inf), "alpha": (0, math.inf), "warmup": (1, math.inf),
    "filter_rate": (1e-6, 1), "filter_rate_end": (1e-6, 1), "regroup": (0, math.inf), "tau": (0, 1), "rho": (0, 1),
    "lga_epochs": (0, math.inf), "prior_momentum": (0, 1), "temperature": (1e-6, math.inf), "lambda_u": (0, math.inf),
    "lambda_u_ramp": (0, math.inf), "gamma_ramp": (0, math.inf), "mixup_alpha": (1e-6, math.inf),
    "feature_noise": (0, math.inf), "feature_drop": (0, BELOW_1),
}  # fmt: skip

# What a command does with its run, not what the run is.
NOT_IN_RECIPES = {"recipe", "ensemble", "output", "overwrite", "resume", "dry_run"}


@dataclass
class Resolved:
    """Settings with nothing left to guess, the method with its hyperparameters, and where they come from."""

    settings: Settings
    method: Method
    recipe: str | None
    scaled: dict[str, tuple[int, int]]  # epochs fields that --epochs changed: before, after

    def describe(self) -> dict[str, Any]:
        """All settings and hyperparameters by flag name, as JSON values."""
        flat = {**dataclasses.asdict(self.settings), **{METHOD + k: v for k, v in hyperparameters(self.method).items()}}
        return {k: str(v) if isinstance(v, Path) else v for k, v in flat.items()}

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result."""
        return {k: v for k, v in self.describe().items() if k not in NOT_IDENTITY}


def resolve(given: dict[str, Any], method: Method | None = None) -> Resolved:
    """Settings from what was given: flag names with underscores, hyperparameters as "method.NAME".

    Precedence: the method's defaults, the recipe, its variants (noise, imbalanced, small), what was given.

    Raises:
        CuratorError: for an unknown name or value, naming the nearest known one.
    """
    given = {k.replace("-", "_"): v for k, v in given.items()}
    if given.get("ensemble") is not None:
        return _resolve_ensemble(given, method)
    recipe: dict[str, Any] | None = None
    label: str | None = None
    variants: list[str] = []
    if given.get("recipe") is not None:
        recipe, label, variants = _named_recipe(str(given["recipe"]))
    dataset = str(given.get("dataset") or (recipe or {}).get("dataset") or Settings.dataset)
    name = (
        _method_name(method)
        if method is not None
        else str(given.get("method") or (recipe or {}).get("method") or _default_method(given))
    )
    if method is None and name not in METHODS:
        raise CuratorError(f"--method: expected one of {', '.join(METHODS)}{_nearest(name, METHODS)}; found {name!r}")
    if recipe is None:
        frozen = given.get("backbone") is not None or given.get("features_column") is not None
        own = f"{folder_name(dataset)}-{name}"
        paths = [recipes_folder() / f"{n}.yaml" for n in ([f"{own}-features", f"features-{name}"] if frozen else [own])]
        if path := next((p for p in paths if p.exists()), None):
            recipe, label, variants = _named_recipe(str(path))
    values: dict[str, Any] = {}
    if recipe is not None:
        noise = given.get("label_noise") or recipe.get("label_noise") or DEFAULT_NOISE.get(dataset)
        tail = given.get("imbalance") or recipe.get("imbalance")
        found = {noise_name(str(noise)): noise, "imbalanced": tail, "small": no_accelerator()}
        wanted = variants or [v for v, holds in found.items() if holds]
        chosen = [v for v in wanted if v in recipe.get("variants", {})]
        for part in ({k: v for k, v in recipe.items() if k != "variants"}, *(recipe["variants"][v] for v in chosen)):
            values |= part
        label = ":".join([str(label), "+".join(chosen)]) if chosen else label
        if values.get("method", DEFAULT_METHOD) != name or method is not None:  # another method inherits nothing
            values = {k: v for k, v in values.items() if not k.startswith(METHOD)}
    values |= {"dataset": dataset, "method": name}
    if f"{METHOD}epochs" in given and "epochs" not in given:
        values.pop("epochs", None)  # the recipe's scaling gives way
    return _build(values, given, name, method, label)


def _resolve_ensemble(given: dict[str, Any], method: Method | None) -> Resolved:
    """Every member as it would be resolved alone, with its own recipe."""
    text = str(given["ensemble"])
    names = [name.strip() for name in text.split(",")]
    wrong = next((name for name in names if name not in METHODS), None)
    if wrong is not None or len(names) < 2 or len(set(names)) < len(names):
        hint = _nearest(wrong, METHODS) if wrong else ""
        raise CuratorError(f"--ensemble: expected two or more of {', '.join(METHODS)}, as a,b; found {text!r}{hint}")
    unfit = next((key for key in given if key in ("method", "recipe") or key.startswith(METHOD)), None)
    if method is not None or unfit:
        raise CuratorError(
            f"--ensemble {text}: every method takes its own recipe or defaults; leave --{unfit or 'method'} out"
        )
    rest = {key: value for key, value in given.items() if key != "ensemble"}
    members = {name: resolve({**rest, "method": name}) for name in names}
    settings = dataclasses.replace(members[names[0]].settings, method="+".join(names), ensemble=",".join(names))
    for name, member in members.items():
        for field, value in vars(member.settings).items():
            if field not in ("method", "ensemble") and value != getattr(settings, field):
                raise CuratorError(
                    f"--ensemble {text}: the recipes of {names[0]} and {name} differ in --{field.replace('_', '-')} "
                    f"({getattr(settings, field)} and {value}); give it"
                )
    labels = [member.recipe for member in members.values() if member.recipe]
    scaled = {f"{name}.{k}": v for name, member in members.items() for k, v in member.scaled.items()}
    ensemble = Ensemble({name: member.method for name, member in members.items()})
    return Resolved(settings, ensemble, " + ".join(labels) or None, scaled)


def hyperparameters(method: Method) -> dict[str, Any]:
    """The hyperparameters by name; those of an ensemble as "MEMBER.NAME"."""
    if isinstance(method, Ensemble):
        return {f"{name}.{k}": v for name, member in method.members.items() for k, v in vars(member).items()}
    return vars(method)


def _build(
    values: dict[str, Any], given: dict[str, Any], name: str, method: Method | None, label: str | None
) -> Resolved:
    flags, hyper = _typed({**values, **given}, type(method) if method is not None else METHODS[name])
    settings = Settings(**flags)
    settings.dataset, settings.method = values["dataset"], name
    if settings.backbone is not None and settings.features_column is not None:
        raise CuratorError("--backbone makes features, --features-column reads them; give only one")
    frozen = settings.backbone is not None or settings.features_column is not None
    if settings.net is None:
        settings.net = "mlp" if frozen else "small" if no_accelerator() else "resnet18"
    if settings.net not in NETS:
        raise CuratorError(
            f"--net: expected one of {', '.join(NETS)}{_nearest(settings.net, NETS)}; found {settings.net!r}"
        )
    if (settings.net == "mlp") != frozen:
        raise CuratorError(
            f"--net {settings.net}: on frozen features it is mlp; leave --net out"
            if frozen
            else "--net mlp reads features: add --backbone or --features-column"
        )
    if settings.pretrained and settings.net not in PRETRAINED:
        raise CuratorError(f"--pretrained is for --net {' or '.join(PRETRAINED)}; found --net {settings.net}")
    if settings.pred_probs is not None:
        if "pred_probs" not in _hints(METHODS.get(name, type(method))):
            raise CuratorError(f"--pred-probs is for --method confident; found --method {name}")
        hyper["pred_probs"] = settings.pred_probs
    if method is not None:
        if hyper:
            raise CuratorError(
                f"method: {METHOD}{next(iter(hyper))} was given beside a method object; set it on the object"
            )
        made = copy.copy(method)
    else:
        cls = METHODS[name]
        _refuse_against_preset(cls, hyper)
        size = "small_net" if settings.net in ("small", "mlp") else "large_net"
        made = cls(**{**getattr(cls, size, {}), **hyper})
    _check_ranges(settings, made)
    scaled = {}
    if settings.epochs is not None:
        if f"{METHOD}epochs" in given:
            raise CuratorError(
                "--epochs scales all settings that count epochs, --method.epochs sets that one; give only one"
            )
        if settings.epochs < 1:
            raise CuratorError(f"--epochs: expected at least 1, found {settings.epochs}")
        given_fields = {key.removeprefix(METHOD) for key in given if key.startswith(METHOD)}
        scaled = scale_epochs(made, settings.epochs, keep=given_fields)
    return Resolved(settings, made, label, scaled)


def _check_ranges(settings: Settings, method: Method) -> None:
    """One line for values that no run can use."""
    at_least = {
        "seed": 0,
        "limit_rows": 1,
        "image_size": 4,
        "early_stop": 1,
        "flag_worst": 0,
        "imbalance": 1,
        "max_minutes": 0,
        "memory_budget": 0,
    }
    for name, least in at_least.items():
        value = getattr(settings, name)
        if value is not None and not value >= least:
            raise CuratorError(f"--{name.replace('_', '-')}: expected at least {least}, found {value}")
    for name, (low, high) in RANGES.items():
        value = getattr(method, name, None)
        if isinstance(value, int | float) and not low <= value <= high:
            wanted = f"at least {low}" if high == math.inf else f"{low} to {high:g}"
            raise CuratorError(f"--{METHOD}{name.replace('_', '-')}: expected {wanted}, found {value}")


def _default_method(given: dict[str, Any]) -> str:
    """The method when none is named; probabilities of one's own are for one method only."""
    return "confident" if given.get("pred_probs") is not None else DEFAULT_METHOD


def _refuse_against_preset(cls: type, hyper: dict[str, Any]) -> None:
    """A preset sets several hyperparameters; one of them that was given, too, must agree."""
    name = hyper.get("preset")
    for field, value in getattr(cls, "presets", {}).get(name or "", {}).items():
        if hyper.get(field, value) != value:
            raise CuratorError(
                f"--{METHOD}preset {name} sets {field.replace('_', '-')} to {value}, but {hyper[field]} was given, "
                "too; give only one"
            )


def _method_name(method: Method) -> str:
    return next((k for k, v in METHODS.items() if v is type(method)), type(method).__name__.lower())


def _hints(cls: type) -> dict[str, Any]:
    """Types of a dataclass's fields."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(typing.cast(Any, cls))}


def _typed(values: dict[str, Any], cls: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split values into flags and hyperparameters of the method, each of its field's type."""
    flags, hyper = {}, {}
    known = {**_hints(Settings), **{METHOD + k: v for k, v in _hints(cls).items()}}
    for key, value in values.items():
        if key not in known:
            raise CuratorError(f"unknown setting {key.replace('_', '-')!r}{_nearest(key, known)}")
        typed = coerce(value, known[key], f"--{key.replace('_', '-')}")
        if key.startswith(METHOD):
            hyper[key.removeprefix(METHOD)] = typed
        else:
            flags[key] = typed
    return flags, hyper


def _nearest(key: str, known: Iterable[str]) -> str:
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
        return coerce(value, next(a for a in args if a is not type(None)), flag)
    if origin is Literal:
        value = "no" if value is False and "no" in args else value  # YAML reads no as false
        if value not in args:
            raise CuratorError(f"{flag}: expected one of {', '.join(map(str, args))}; found {value!r}")
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if hint is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    if hint in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
            if hint is float and number == number or hint is int and number.is_integer():
                return hint(number) if not isinstance(value, int) else hint(value)
        except (ValueError, OverflowError):
            pass
    raise CuratorError(f"{flag}: expected {getattr(hint, '__name__', hint)}, found {value!r}")


def recipes_folder() -> Path:
    """recipes/ of the repository, or the copy inside an installed package."""
    here = Path(__file__).parent
    inside = here / "recipes"
    return inside if inside.is_dir() else here.parent / "recipes"


def _named_recipe(text: str) -> tuple[dict[str, Any], str, list[str]]:
    """A recipe's values, its name, and the variants that were picked."""
    path, picked = Path(text), []
    if not path.exists():
        name, _, variant = text.rpartition(":") if ":" in text else (text, "", "")
        path = Path(name) if Path(name).exists() else recipes_folder() / f"{name.removesuffix('.yaml')}.yaml"
        picked = variant.split("+") if variant else []
    if not path.is_file():
        names = sorted(p.stem for p in recipes_folder().glob("*.yaml"))
        raise CuratorError(
            f"--recipe: no file {text!r} and no such recipe{_nearest(text, names)}; the recipes are {', '.join(names)}"
        )
    recipe = read_recipe(path)
    for variant in picked:
        if variant not in recipe.get("variants", {}):
            raise CuratorError(
                f"--recipe: {path.stem} has no variant {variant!r}; it has {', '.join(recipe.get('variants', {}))}"
            )
    return recipe, path.stem, picked


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe file: a flat mapping of flag names, and `variants`, each of the same form; every key and value checked.

    Raises:
        CuratorError: naming the file and what is wrong in it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as e:
        raise CuratorError(f"recipe {path}: it is not readable YAML ({' '.join(str(e).split())[:150]})") from e
    if not isinstance(content, dict) or not isinstance(content.get("variants", {}), dict):
        raise CuratorError(
            f"recipe {path}: expected a mapping of flag names to values, and of variant names under 'variants'"
        )
    parts = {"": {k: v for k, v in content.items() if k != "variants"}, **content.get("variants", {})}
    name = str(parts[""].get("method", DEFAULT_METHOD))
    if name not in METHODS:
        raise CuratorError(f"recipe {path}: method: expected one of {', '.join(METHODS)}, found {name!r}")
    clean = {}
    for variant, part in parts.items():
        if not isinstance(part, dict):
            raise CuratorError(f"recipe {path}: variant {variant!r}: expected a mapping, found {part!r}")
        part = {str(k).replace("-", "_"): v for k, v in part.items()}
        personal = sorted(NOT_IN_RECIPES & set(part))
        if personal:
            raise CuratorError(f"recipe {path}: {personal[0].replace('_', '-')!r} belongs on the command line")
        try:
            _typed(part, METHODS[name])
        except CuratorError as e:
            raise CuratorError(f"recipe {path}{f', variant {variant!r}' if variant else ''}: {e}") from e
        clean[variant] = part
    return {**clean.pop(""), "variants": clean}


def noise_name(noise: str) -> str:
    """sym:0.5 -> sym50, worst -> worst: the noise in names of folders and variants."""
    kind, colon, rate = noise.partition(":")
    try:
        return f"{kind}{100 * float(rate):g}" if colon else noise
    except ValueError:
        return noise


def folder_name(dataset: str) -> str:
    """owner/name -> owner--name; a local path -> its last part."""
    path = Path(dataset)
    if is_path(dataset):
        return path.resolve().name
    return dataset.replace("/", "--")


def output_folder(settings: Settings, noise_given: bool) -> Path:
    """--output, or runs/DATASET-METHOD[-NOISE]."""
    if settings.output is not None:
        return settings.output
    suffix = f"-{noise_name(str(settings.label_noise))}" if noise_given and settings.label_noise else ""
    return Path("runs") / f"{folder_name(settings.dataset)}-{settings.method}{suffix}"
