"""Recipes: YAML files of settings, found by name, and every key and value of them checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from curator.config.flags import NOT_IN_RECIPES, field_name, flags_of
from curator.config.names import folder_name
from curator.config.values import nearest, shown, typed
from curator.errors import CuratorError
from curator.methods import DEFAULT_METHOD, METHODS


def recipes_folder() -> Path:
    """recipes/ of the repository, or the copy inside an installed package."""
    package = Path(__file__).parent.parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def own_recipe(dataset: str, method: str, frozen: bool) -> Path | None:
    """The recipe of a dataset and a method; on frozen features, else the one of the method on any dataset."""
    own = f"{folder_name(dataset)}-{method}"
    paths = [recipes_folder() / f"{n}.yaml" for n in ([f"{own}-features", f"features-{method}"] if frozen else [own])]
    return next((p for p in paths if os.path.exists(p)), None)  # also for a name that is too long for a file


def named_recipe(text: str) -> tuple[dict[str, Any], str, list[str]]:
    """A recipe's values, its name, and the variants that were picked."""
    path, picked = Path(text), []
    if not os.path.exists(path):  # False also for a name that is too long to be a path
        name, _, variant = text.rpartition(":") if ":" in text else (text, "", "")
        path = Path(name) if os.path.exists(name) else recipes_folder() / f"{name.removesuffix('.yaml')}.yaml"
        picked = variant.split("+") if variant else []
    if not os.path.isfile(path):
        names = sorted(p.stem for p in recipes_folder().glob("*.yaml"))
        raise CuratorError(
            f"--recipe: no file {text[:100]!r} and no such recipe{nearest(text, names)}; "
            f"the recipes are {', '.join(names)}"
        )
    recipe = read_recipe(path)
    for variant in picked:
        if variant not in recipe.get("variants", {}):
            raise CuratorError(
                f"--recipe: {path.stem} has no variant {variant!r}; it has {', '.join(recipe.get('variants', {}))}"
            )
    return recipe, path.stem, [variant for variant in recipe.get("variants", {}) if variant in picked]


class _Loader(yaml.SafeLoader):
    """YAML of plain values; a key that stands twice, of which YAML takes the last without a word, is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys differ, also where one is written with a dash or is an alias."""
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            name = field_name(str(key.value)) if isinstance(key, yaml.ScalarNode) else ""
            if name in seen:
                raise yaml.constructor.ConstructorError(problem=f"{key.value!r} twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe file: a flat mapping of flag names, and `variants`, each of the same form; every key and value checked.

    Raises:
        CuratorError: naming the file and what is wrong in it.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        content = {} if content is None else content
    except Exception as e:  # yaml lets through what its reading of dates, numbers and depths meets
        raise CuratorError(f"recipe {path}: it is not readable YAML ({' '.join(str(e).split())[:150]})") from e
    if not isinstance(content, dict) or not isinstance(content.get("variants", {}), dict):
        raise CuratorError(
            f"recipe {path}: expected a mapping of flag names to values, and of variant names under 'variants'"
        )
    parts = {"": {k: v for k, v in content.items() if k != "variants"}, **content.get("variants", {})}
    for variant, part in parts.items():
        if not isinstance(part, dict):
            raise CuratorError(
                f"recipe {path}: variant {shown(variant)}: expected a mapping, found {type(part).__name__}"
            )
        # Values are not printed before this: by aliases a small file holds lists of thousand millions of words.
        if odd := next((k for k, v in part.items() if not isinstance(v, str | int | float | None)), None):
            raise CuratorError(f"recipe {path}: {shown(odd)}: expected one value, found {type(part[odd]).__name__}")
    name = str(parts[""].get("method", DEFAULT_METHOD))
    if name not in METHODS:
        raise CuratorError(f"recipe {path}: method: expected one of {', '.join(METHODS)}, found {shown(name)}")
    clean = {}
    for variant, part in parts.items():
        part = {field_name(str(k)): v for k, v in part.items()}
        personal = sorted(set(flags_of(NOT_IN_RECIPES)) & set(part))
        if personal:
            raise CuratorError(f"recipe {path}: {personal[0].replace('_', '-')!r} belongs on the command line")
        try:
            typed(part, METHODS[name])
        except CuratorError as e:
            raise CuratorError(f"recipe {path}{f', variant {shown(variant)}' if variant else ''}: {e}") from e
        clean[variant] = part
    return {**clean.pop(""), "variants": clean}
