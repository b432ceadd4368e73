"""The layers of a run's settings, from the lowest to the highest.

The method's defaults, those for nets of this size, the recipe, its variants, what was given. Each overrides the ones
before it. Flags are named with underscores, hyperparameters "method.NAME".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from curator.config import defaults
from curator.config.defaults import DEFAULT_NOISE, NAMES
from curator.config.flags import METHOD, Settings
from curator.config.names import noise_name
from curator.config.recipes import named_recipe, own_recipe
from curator.config.values import nearest
from curator.engine import hardware
from curator.engine.nets import OF_FEATURES
from curator.errors import CuratorError
from curator.methods import AUTO, DEFAULT_METHOD, METHODS, ON_FEATURES, Method

Values = dict[str, Any]


@dataclass
class Layers:
    """What is set above the defaults, lowest first, and the method and recipe that this names."""

    method: str
    recipe: str | None  # its name and variants, as digits-ce:small
    ordered: list[Values]

    def merged(self) -> Values:
        """What holds above the defaults."""
        return {key: value for layer in self.ordered for key, value in layer.items()}


def layers(given: Values, method: Method | None = None) -> Layers:
    """Find method, recipe and net, and put what they say in order.

    Raises:
        CuratorError: for an unknown method, recipe or variant, and for a recipe that cannot be read.
    """
    given = with_encoder(given)
    recipe, label, picked = named_recipe(str(given["recipe"])) if given.get("recipe") is not None else ({}, None, [])
    dataset = str(given.get("dataset") or recipe.get("dataset") or Settings.dataset)
    given = _with_backbone(given, recipe, dataset)
    name = str(given.get("method") or recipe.get("method") or _default_method(given))
    if method is not None:
        name = next((k for k, v in METHODS.items() if v is type(method)), type(method).__name__.lower())
    elif name not in METHODS:
        names = [*METHODS, AUTO]
        raise CuratorError(f"--method: expected one of {', '.join(names)}{nearest(name, names)}; found {name!r}")
    if label is None and (path := own_recipe(dataset, name, is_frozen(given))):
        recipe, label, picked = named_recipe(str(path))
    variants = recipe.pop("variants", {})
    asked = {**recipe, **{k: v for k, v in given.items() if v}}
    chosen = picked or [v for v in _variants_of(dataset, asked) if v in variants]
    of_recipe = Layers(name, label, [recipe, *(variants[v] for v in chosen)]).merged()
    if of_recipe.get("method", DEFAULT_METHOD) != name or method is not None:  # another method inherits nothing
        of_recipe = {k: v for k, v in of_recipe.items() if not k.startswith(METHOD)}
    if f"{METHOD}epochs" in given and "epochs" not in given:
        of_recipe.pop("epochs", None)  # the recipe's scaling gives way
    net = _net({**of_recipe, **given})
    of_size = {} if method is not None else _of_size(net, METHODS[name])
    found = {"dataset": dataset, "method": name, "net": net}
    label = f"{label}:{'+'.join(chosen)}" if chosen else label
    return Layers(name, label, [of_size, of_recipe, given, found])


def with_encoder(given: Values) -> Values:
    """What was given; of texts with what reads them."""
    return {**given, "backbone": "auto"} if given.get("text_column") is not None and not is_frozen(given) else given


def is_frozen(given: Values) -> bool:
    """Whether frozen features are asked for."""
    return given.get("backbone") is not None or given.get("features_column") is not None


def _with_backbone(given: Values, recipe: Values, dataset: str) -> Values:
    """What was given, with the default backbone where nothing says what is learned from, and how."""
    said = ("net", "backbone", "features_column", "pred_probs")
    if dataset in NAMES or any(values.get(name) is not None for values in (given, recipe) for name in said):
        return given
    return {**given, "backbone": defaults.BACKBONE}


def _default_method(given: Values) -> str:
    """The method when none is named."""
    if given.get("pred_probs") is not None:
        return "confident"
    return ON_FEATURES if is_frozen(given) else DEFAULT_METHOD


def _variants_of(dataset: str, values: Values) -> list[str]:
    """The variants that are looked up, in their order: of the noise, of a long tail, of a machine without a GPU."""
    noise = values.get("label_noise") or DEFAULT_NOISE.get(dataset)
    holds = {noise_name(str(noise)): noise, "imbalanced": values.get("imbalance"), "small": hardware.no_accelerator()}
    return [variant for variant, wanted in holds.items() if wanted]


def _net(values: Values) -> Any:
    """The net that is named, or the one for these rows on this machine."""
    if values.get("net") is not None:
        return values["net"]
    small = "small" if hardware.no_accelerator() else "resnet18"
    return "mlp" if is_frozen(values) else small


def _of_size(net: Any, method: type[Method]) -> Values:
    """The method's defaults for nets of this size."""
    values = method.small_net if net in ("small", *OF_FEATURES) else method.large_net
    return {METHOD + name: value for name, value in values.items()}
