"""How a run's settings follow from the method's defaults, a recipe and the flags that were given."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curator.config.checks import check_auto, check_ensemble, check_method_object, check_net, check_ranges
from curator.config.flags import METHOD, NOT_IDENTITY, Settings, field_name, flags_of, hints
from curator.config.layers import layers
from curator.config.values import typed
from curator.errors import CuratorError
from curator.methods import AUTO, METHODS, ON_FEATURES, Method, scale_epochs
from curator.methods.ensemble import Ensemble


@dataclass
class Resolved:
    """Settings with nothing left to guess, the method with its hyperparameters, and where they come from."""

    settings: Settings
    method: Method
    recipe: str | None
    scaled: dict[str, tuple[int, int]]  # epochs fields that --epochs changed: before, after
    given: dict[str, Any] = dataclasses.field(default_factory=dict)  # what the user set, as JSON values by flag name
    named: dict[str, Any] = dataclasses.field(default_factory=dict)  # the same as it was given
    fits_batch: list[Method] = dataclasses.field(default_factory=list)  # whose batch size may follow from the rows
    batch_was: int | None = None  # where it did
    says_flip: bool = True  # whether flag or recipe say whether images are flipped; else the images do
    asked: Resolved | None = None  # where a method was picked (config/picked.py): what held before
    picked: dict[str, Any] | None = None  # then: the method and why, as JSON values

    def describe(self) -> dict[str, Any]:
        """All settings and hyperparameters by flag name, as JSON values."""
        flip = self.settings.flip if self.says_flip else None
        flat = {
            **dataclasses.asdict(self.settings),
            "flip": flip,
            **{METHOD + k: v for k, v in hyperparameters(self.method).items()},
        }
        return {k: str(v) if isinstance(v, Path) else v for k, v in flat.items()}

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result.

        Before a method is picked these are those of none; after it they are the same, and what was picked.
        """
        found = self._deciding()
        if self.settings.method == AUTO:
            return {k: v for k, v in found.items() if not k.startswith(METHOD)}
        return found if self.asked is None else {**found, **self.asked.identity(), AUTO: self.picked}

    def _deciding(self) -> dict[str, Any]:
        others = flags_of(NOT_IDENTITY)
        return {k: v for k, v in self.describe().items() if k not in others}

    def again(self) -> dict[str, Any]:
        """The flags that give the result again; members of an ensemble take their hyperparameters from recipes."""
        if self.settings.ensemble is None:
            return self._deciding()
        kept = {k: v for k, v in self._deciding().items() if k != "method" and not k.startswith(METHOD)}
        return {**kept, "epochs": self.settings.epochs}


def resolve(given: dict[str, Any], method: Method | None = None) -> Resolved:
    """Settings from what was given: flag names with underscores, hyperparameters as "method.NAME".

    Precedence: see config/layers.py.

    Raises:
        CuratorError: for an unknown name or value, naming the nearest known one.
    """
    named = {field_name(k): v for k, v in given.items()}
    if len(named) < len(given):
        twice = next(k for k in given if k not in named)
        raise CuratorError(f"--{twice} is --{field_name(twice)}; give only one".replace("_", "-"))
    if empty := next((k for k in ("dataset", "method") if named.get(k) == ""), None):
        raise CuratorError(f"--{empty}: it is empty; was a variable of the shell not set?")
    if named.get("ensemble") is not None:
        found = _resolve_ensemble(named, method)
    elif named.get("method") == AUTO:  # the rows are read as they are for the default
        check_auto(named)
        found = _resolve_one({k: v for k, v in named.items() if k != "method"}, method)
        found.settings.method = AUTO
    else:
        found = _resolve_one(named, method)
    found.named = named
    found.given = {k: v if isinstance(v, bool | int | float | None) else str(v) for k, v in named.items()}
    return found


def _resolve_one(given: dict[str, Any], method: Method | None) -> Resolved:
    found = layers(given, method)
    cls = type(method) if method is not None else METHODS[found.method]
    flags, hyper = typed(found.merged(), cls)
    settings = Settings(**flags)
    check_net(settings)
    if settings.pred_probs is not None:
        if "pred_probs" not in hints(cls):
            raise CuratorError(f"--pred-probs is for --method confident; found --method {found.method}")
        hyper["pred_probs"] = settings.pred_probs
    if method is not None:
        check_method_object(method, hyper)
        made = copy.copy(method)
    else:
        made = cls(**hyper)
    check_ranges(settings, made)
    scaled = {}
    if settings.epochs is not None:
        if f"{METHOD}epochs" in given:
            raise CuratorError(
                "--epochs scales all settings that count epochs, --method.epochs sets that one; give only one"
            )
        set_by_name = {key.removeprefix(METHOD) for key in given if key.startswith(METHOD)}
        scaled = scale_epochs(made, settings.epochs, keep=set_by_name)
    # What was found for one dataset stays as it was found; the recipes of frozen features are for any.
    general = found.recipe is not None and found.recipe.startswith("features-") and "recipe" not in given
    held = [given] if general else found.ordered[1:]  # the method's defaults come first
    set_before = any(f"{METHOD}batch_size" in layer for layer in held)
    posterior = found.method == ON_FEATURES  # it has no nets on few rows
    fits = method is None and not set_before and not posterior and settings.pred_probs is None
    says = "flip" in found.merged()
    return Resolved(settings, made, found.recipe, scaled, fits_batch=[made] * fits, says_flip=says)


def _resolve_ensemble(given: dict[str, Any], method: Method | None) -> Resolved:
    """Every member as it would be resolved alone, with its own recipe."""
    text = str(given["ensemble"])
    names = [name.strip() for name in text.split(",")]
    check_ensemble(text, names, given, method)
    rest = {key: value for key, value in given.items() if key != "ensemble"}
    members = {name: _resolve_one({**rest, "method": name}, None) for name in names}
    settings = dataclasses.replace(members[names[0]].settings, method="+".join(names), ensemble=",".join(names))
    for name, member in members.items():
        for field, value in vars(member.settings).items():
            if field not in ("method", "ensemble") and value != getattr(settings, field):
                raise CuratorError(
                    f"--ensemble {text}: the recipes of {names[0]} and {name} differ in --{field.replace('_', '-')} "
                    f"({getattr(settings, field)} and {value}); set it"
                )
    labels = [member.recipe for member in members.values() if member.recipe]
    scaled = {f"{name}.{k}": v for name, member in members.items() for k, v in member.scaled.items()}
    ensemble = Ensemble({name: member.method for name, member in members.items()})
    fits = [method for member in members.values() for method in member.fits_batch]
    says = any(member.says_flip for member in members.values())
    return Resolved(settings, ensemble, " + ".join(labels) or None, scaled, fits_batch=fits, says_flip=says)


def hyperparameters(method: Method) -> dict[str, Any]:
    """The hyperparameters by name; those of an ensemble as "MEMBER.NAME"."""
    if isinstance(method, Ensemble):
        return {f"{name}.{k}": v for name, member in method.members.items() for k, v in vars(member).items()}
    return vars(method)
