"""How a run's settings follow from the method's defaults, a recipe and the flags that were given."""

from __future__ import annotations

import copy
import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curator.config.defaults import DEFAULT_NOISE
from curator.config.flags import METHOD, Settings, check_ranges, hints, nearest, shown, typed
from curator.config.recipes import folder_name, named_recipe, noise_name, recipes_folder
from curator.engine.hardware import no_accelerator
from curator.engine.nets import NETS, OF_FEATURES, PRETRAINED
from curator.errors import CuratorError
from curator.methods import DEFAULT_METHOD, METHODS, ON_FEATURES, Method, scale_epochs
from curator.methods.ensemble import Ensemble

# Settings that do not change the result: an interrupted run may be continued with others.
NOT_IDENTITY = {
    "output", "overwrite", "resume", "max_minutes", "keep_checkpoints", "track", "dry_run", "data_dir", "recipe",
    "epochs", "memory_budget", "push_to_hub", "public",
}  # fmt: skip


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

    def again(self) -> dict[str, Any]:
        """The flags that give the result again; members of an ensemble take their hyperparameters from recipes."""
        if self.settings.ensemble is None:
            return self.identity()
        kept = {k: v for k, v in self.identity().items() if k != "method" and not k.startswith(METHOD)}
        return {**kept, "epochs": self.settings.epochs}


def resolve(given: dict[str, Any], method: Method | None = None) -> Resolved:
    """Settings from what was given: flag names with underscores, hyperparameters as "method.NAME".

    Precedence: the method's defaults, the recipe, its variants (noise, imbalanced, small), what was given.

    Raises:
        CuratorError: for an unknown name or value, naming the nearest known one.
    """
    given = {k.replace("-", "_"): v for k, v in given.items()}
    if empty := next((k for k in ("dataset", "method") if given.get(k) == ""), None):
        raise CuratorError(f"--{empty}: it is empty; was a variable of the shell not set?")
    if given.get("ensemble") is not None:
        return _resolve_ensemble(given, method)
    recipe: dict[str, Any] | None = None
    label: str | None = None
    variants: list[str] = []
    if given.get("recipe") is not None:
        recipe, label, variants = named_recipe(str(given["recipe"]))
    dataset = str(given.get("dataset") or (recipe or {}).get("dataset") or Settings.dataset)
    name = (
        _method_name(method)
        if method is not None
        else str(given.get("method") or (recipe or {}).get("method") or _default_method(given))
    )
    if method is None and name not in METHODS:
        raise CuratorError(f"--method: expected one of {', '.join(METHODS)}{nearest(name, METHODS)}; found {name!r}")
    if recipe is None:
        own = f"{folder_name(dataset)}-{name}"
        paths = [
            recipes_folder() / f"{n}.yaml"
            for n in ([f"{own}-features", f"features-{name}"] if is_frozen(given) else [own])
        ]
        if path := next((p for p in paths if os.path.exists(p)), None):  # also for a name that is too long for a file
            recipe, label, variants = named_recipe(str(path))
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
        hint = nearest(wrong, METHODS) if wrong else ""
        raise CuratorError(f"--ensemble: expected two or more of {', '.join(METHODS)}, as a,b; found {text!r}{hint}")
    fixed = (key for key in given if key in ("method", "recipe") or key.startswith(METHOD))
    unfit = next((key for key in fixed if given[key] is not None), None)
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
    flags, hyper = typed({**values, **given}, type(method) if method is not None else METHODS[name])
    settings = Settings(**flags)
    settings.dataset, settings.method = values["dataset"], name
    if settings.backbone is not None and settings.features_column is not None:
        raise CuratorError("--backbone makes features, --features-column reads them; give only one")
    frozen = is_frozen(vars(settings))
    if settings.net is None:
        settings.net = "mlp" if frozen else "small" if no_accelerator() else "resnet18"
    if settings.net not in NETS:
        raise CuratorError(
            f"--net: expected one of {', '.join(NETS)}{nearest(settings.net, NETS)}; found {settings.net!r}"
        )
    if (settings.net in OF_FEATURES) != frozen:
        raise CuratorError(
            f"--net {settings.net}: on frozen features it is mlp or linear; leave --net out, or the recipe that sets it"
            if frozen
            else f"--net {settings.net} reads features: add --backbone or --features-column"
        )
    if settings.pretrained and settings.net not in PRETRAINED:
        raise CuratorError(f"--pretrained is for --net {' or '.join(PRETRAINED)}; found --net {settings.net}")
    if settings.pred_probs is not None:
        if "pred_probs" not in hints(METHODS.get(name, type(method))):
            raise CuratorError(f"--pred-probs is for --method confident; found --method {name}")
        hyper["pred_probs"] = settings.pred_probs
    if method is not None:
        if hyper:
            raise CuratorError(
                f"method: {METHOD}{next(iter(hyper))} was given beside a method object; set it on the object"
            )
        if not isinstance(method, Method):
            raise CuratorError(
                f"method: expected a name or an object whose class inherits from curator.methods.Method, "
                f"found {type(method).__name__}"
            )
        made = copy.copy(method)
    else:
        cls = METHODS[name]
        of_net = cls.small_net if settings.net in ("small", *OF_FEATURES) else cls.large_net
        made = cls(**{**of_net, **hyper})
    check_ranges(settings, made)
    scaled = {}
    if settings.epochs is not None:
        if f"{METHOD}epochs" in given:
            raise CuratorError(
                "--epochs scales all settings that count epochs, --method.epochs sets that one; give only one"
            )
        given_fields = {key.removeprefix(METHOD) for key in given if key.startswith(METHOD)}
        scaled = scale_epochs(made, settings.epochs, keep=given_fields)
    return Resolved(settings, made, label, scaled)


def _default_method(given: dict[str, Any]) -> str:
    """The method when none is named."""
    if given.get("pred_probs") is not None:
        return "confident"
    return ON_FEATURES if is_frozen(given) else DEFAULT_METHOD


def is_frozen(given: dict[str, Any]) -> bool:
    """Whether frozen features are asked for."""
    return given.get("backbone") is not None or given.get("features_column") is not None


def _method_name(method: Method) -> str:
    return next((k for k, v in METHODS.items() if v is type(method)), type(method).__name__.lower())


def output_folder(settings: Settings, noise_given: bool) -> Path:
    """--output, or runs/DATASET-METHOD[-NOISE]."""
    suffix = f"-{noise_name(str(settings.label_noise))}" if noise_given and settings.label_noise else ""
    folder = settings.output or Path("runs") / f"{folder_name(settings.dataset)}-{settings.method}{suffix}"
    try:
        folder.exists()
    except OSError as e:  # a name that is too long, a folder that may not be looked into
        raise CuratorError(f"--output {shown(str(folder))}: it cannot be written ({e.strerror})") from e
    return folder
