"""Recipes: YAML files of settings, found by name, and every key and value of them checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from curator.config.flags import NOT_IN_RECIPES, nearest, shown, typed
from curator.errors import CuratorError
from curator.methods import DEFAULT_METHOD, METHODS
from curator.system import is_path


def recipes_folder() -> Path:
    """recipes/ of the repository, or the copy inside an installed package."""
    here = Path(__file__).parent
    inside = here / "recipes"
    return inside if inside.is_dir() else here.parent / "recipes"


def named_recipe(text: str) -> tuple[dict[str, Any], str, list[str]]:
    """A recipe's values, its name, and the variants that were picked."""
    path, picked = Path(text), []
    if not os.path.exists(path):  # a name that is too long to be a path is none
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
        """A mapping whose keys differ, also where one has a dash and the other an underscore."""
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            name = str(key.value).replace("-", "_") if isinstance(key, yaml.ScalarNode) else ""
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
        part = {str(k).replace("-", "_"): v for k, v in part.items()}
        personal = sorted(NOT_IN_RECIPES & set(part))
        if personal:
            raise CuratorError(f"recipe {path}: {personal[0].replace('_', '-')!r} belongs on the command line")
        try:
            typed(part, METHODS[name])
        except CuratorError as e:
            raise CuratorError(f"recipe {path}{f', variant {shown(variant)}' if variant else ''}: {e}") from e
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
