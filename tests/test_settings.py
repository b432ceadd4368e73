from pathlib import Path
from typing import Literal

import pytest
import yaml

from curator.evidence import CuratorError
from curator.methods import METHODS
from curator.methods.ce import CrossEntropy, Epochs
from curator.settings import Settings, coerce, noise_name, output_folder, read_recipe, recipes_folder, resolve
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("no_gpu")
RECIPES = sorted(recipes_folder().glob("*.yaml"))


def recipe(tmp_path: Path, **content) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_and_variant(path):
    content = read_recipe(path)
    assert path.stem == f"{content['dataset']}-{content['method']}"
    assert path.read_text().startswith("# ")
    for variant in ("", *content["variants"]):
        resolved = resolve({"recipe": path.stem + (f":{variant}" if variant else "")})
        assert resolved.settings.dataset == content["dataset"]


def test_recipes_exist():
    assert RECIPES and recipes_folder() == ROOT / "recipes"


def test_defaults():
    r = resolve({})
    assert (r.settings.dataset, r.settings.method, r.settings.net, r.recipe) == (
        "digits",
        "confident",
        "small",
        "digits-confident",
    )
    assert r.method.flip is False
    assert resolve({"dataset": "cifar10n"}).method.epochs == 60
    assert resolve({"dataset": "cifar10n", "net": "resnet18"}).method.epochs == 120


def test_precedence(tmp_path):
    variants = {"sym50": {"method.lr": 0.4, "method.momentum": 0.8}, "small": {"method.lr": 0.3}}
    content = {"dataset": "cifar10", "method": "ce", "method.lr": 0.5, "method.batch_size": 64, "seed": 5}
    path = recipe(tmp_path, **content, variants=variants)
    r = resolve({"recipe": path, "label_noise": "sym:0.5"})
    assert (r.method.lr, r.method.momentum, r.method.batch_size, r.settings.seed) == (0.3, 0.8, 64, 5)
    assert r.recipe == "mine:sym50+small"
    assert resolve({"recipe": path + ":sym50"}).method.lr == 0.4
    assert resolve({"recipe": path, "method.lr": 0.1, "seed": 6}).method.lr == 0.1
    with pytest.raises(CuratorError, match="no variant 'sym20'; it has small, sym50"):
        resolve({"recipe": path + ":sym20"})


def test_keys_that_do_not_belong_in_a_recipe(tmp_path):
    with pytest.raises(CuratorError, match="'overwrite' belongs on the command line"):
        resolve({"recipe": recipe(tmp_path, overwrite=True)})


def test_a_recipes_epochs_give_way(tmp_path):
    path = recipe(tmp_path, method="ce", epochs=7)
    assert resolve({"recipe": path}).method.epochs == 7
    assert resolve({"recipe": path, "method.epochs": 9}).method.epochs == 9


def test_a_recipe_without_a_method_is_the_defaults(tmp_path):
    path = recipe(tmp_path, **{"method.folds": 3})
    assert resolve({"recipe": path}).method.folds == 3
    assert type(resolve({"recipe": path, "method": "ce"}).method) is METHODS["ce"]


def test_another_method_inherits_nothing(tmp_path):
    path = recipe(tmp_path, **{"method": "ce", "method.lr": 0.5, "seed": 9})
    r = resolve({"recipe": path, "method": "mixup"})
    assert type(r.method) is METHODS["mixup"] and r.method.lr == 0.1 and r.settings.seed == 9


@pytest.mark.parametrize("content, message", [
    ({"method.lrr": 1}, "unknown setting 'method.lrr'; did you mean 'method.lr'"),
    ({"sead": 1}, "unknown setting 'sead'; did you mean 'seed'"),
    ({"method.folds": 3, "method": "ce"}, "unknown setting 'method.folds'"),
    ({"method.lr": "fast"}, "--method.lr: expected float, found 'fast'"),
    ({"seed": 1.5}, "--seed: expected int, found 1.5"),
    ({"compile": "yes"}, "--compile: expected bool, found 'yes'"),
    ({"variants": {"small": {"nett": "small"}}}, "variant 'small': unknown setting 'nett'; did you mean 'net'"),
    ({"variants": [1]}, "expected a mapping"),
    ({"variants": {"small": 3}}, "variant 'small': expected a mapping"),
    ({"method": "promax"}, "method: expected one of"),
])  # fmt: skip
def test_wrong_recipes(tmp_path, content, message):
    with pytest.raises(CuratorError, match=message):
        resolve({"recipe": recipe(tmp_path, **content)})


@pytest.mark.parametrize("text", ["[1, 2", "- a", "3", "!!python/object/apply:os.system ['true']", "\x00"])
def test_recipes_that_are_no_mappings(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(CuratorError, match="recipe"):
        resolve({"recipe": str(path)})


def test_unknown_recipe_and_method():
    with pytest.raises(CuratorError, match="no file 'digits-cee' and no such recipe; did you mean 'digits-ce'"):
        resolve({"recipe": "digits-cee"})
    with pytest.raises(CuratorError, match="--method: expected one of .* did you mean 'confident'"):
        resolve({"method": "confidant"})


def test_epochs_scale():
    r = resolve({"epochs": 3, "dataset": "cifar10"})
    assert r.method.epochs == 3 and r.scaled == {"epochs": (60, 3)}
    assert resolve({"method.epochs": 7, "dataset": "cifar10"}).scaled == {}
    with pytest.raises(CuratorError, match="give only one"):
        resolve({"epochs": 3, "method.epochs": 7})


@pytest.mark.parametrize("given, message", [
    ({"epochs": 0}, "--epochs: expected at least 1"), ({"limit_rows": 0}, "--limit-rows: expected at least 1, found 0"),
    ({"imbalance": 0.5}, "--imbalance"), ({"method.batch_size": 1}, "--method.batch-size: expected at least 2"),
    ({"method.folds": 1}, "--method.folds"), ({"method.lr": "nan"}, "--method.lr"),
    ({"flag_worst": -1}, "--flag-worst"), ({"limit_rows": "abc"}, "--limit-rows: expected int, found 'abc'"),
    ({"seed": None}, "--seed"), ({"mixed_precision": "fp8"}, "expected one of no, bf16"),
    ({"method": "ce", "pred_probs": "x.npy"}, "--pred-probs is for --method confident"),
])  # fmt: skip
def test_wrong_values(given, message):
    with pytest.raises(CuratorError, match=message):
        resolve(given)


def test_method_objects():
    mine = CrossEntropy(epochs=9, lr=0.2)
    r = resolve({"dataset": "digits", "epochs": 3}, mine)
    assert r.settings.method == "ce" and r.method.epochs == 3 and r.method.flip is True and mine.epochs == 9
    with pytest.raises(CuratorError, match="method.lr was given beside a method object"):
        resolve({"method.lr": 0.1}, mine)


@pytest.mark.parametrize("value, hint, expected", [
    ("1e-3", float, 1e-3), (3, float, 3.0), ("7", int, 7), (7.0, int, 7), (2**60 + 1, int, 2**60 + 1),
    (None, int | None, None), ("a", Path | None, Path("a")),
    (False, Literal["no", "bf16"] | None, "no"), (4, Epochs, 4), (True, bool, True),
])  # fmt: skip
def test_coerce(value, hint, expected):
    got = coerce(value, hint, "--x")
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize(
    "value, hint",
    [(True, int), (1, bool), (1.5, int), ("inf", int), (None, int), (1, str), ([], float), ("x", Literal["a"])],
)
def test_coerce_refuses(value, hint):
    with pytest.raises(CuratorError, match="--x: expected"):
        coerce(value, hint, "--x")


def test_names_of_folders():
    assert (
        noise_name("sym:0.5") == "sym50"
        and noise_name("worst") == "worst"
        and noise_name("sym-other:0.125") == "sym-other12.5"
    )
    assert output_folder(Settings(dataset="owner/name"), False) == Path("runs/owner--name-confident")
    assert output_folder(Settings(dataset="cifar10n", label_noise="worst", method="ce"), True) == Path(
        "runs/cifar10n-ce-worst"
    )
    assert output_folder(Settings(), False) == Path("runs/digits-confident")


def test_every_flag_is_documented():
    from tyro._docstrings import get_field_docstring

    for field in Settings.__dataclass_fields__:
        text = get_field_docstring(Settings, field, ())
        assert text and text.rstrip().endswith("."), field
