import re
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import numpy as np
import pytest
import yaml

from curator.cli.parse import parse
from curator.config.flags import GROUPS, NOT_IDENTITY, NOT_IN_RECIPES, PATH, PICKS, Settings, flags_of, hints
from curator.config.names import noise_name, output_folder
from curator.config.recipes import read_recipe, recipes_folder
from curator.config.resolve import resolve
from curator.config.values import coerce
from curator.engine.views import Views
from curator.errors import CuratorError
from curator.methods import METHODS
from curator.methods.ce import CrossEntropy
from curator.methods.fields import BELOW_1, SHARE, Above, AtLeast, Between, Epochs, ranges
from curator.methods.promix import ProMix
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
    features = path.stem.startswith("features-")
    name = "augdmix" if content.get("method.augment") == "augdmix" and not features else content["method"]
    name += "-features" if "backbone" in content else ""
    assert path.stem == (f"features-{name}" if features else f"{content['dataset']}-{name}")
    assert path.read_text().startswith("# ")
    if features:
        assert "dataset" not in content
        assert resolve({"backbone": "resnet50", "method": content["method"]}).recipe.startswith(path.stem)
        return
    for variant in ("", *content["variants"]):
        resolved = resolve({"recipe": path.stem + (f":{variant}" if variant else "")})
        assert resolved.settings.dataset == content["dataset"]


SLOW = {"warmup": 30, "tau": 0.95, "alpha": 0.5}  # of CIFAR-100
SIZED = {"quota": "proportional"}
IDN = {**SIZED, "regroup": 50}
RELEASED = {
    "net": "resnet18", "filter_rate": 0.5, "tau": 0.99, "alpha": 0.8, "warmup": 10, "epochs": 600, "lr": 0.05,
    "weight_decay": 5e-4, "lga_epochs": 250, "batch_size": 256, "quota": "balanced", "regroup": 0,
}  # fmt: skip
# What is published for ProMix (Wang et al., IJCAI 2023), or assumed where it is not: all that differs from RELEASED.
PROMIX = {
    **{f"cifar10n-promix:{v}": {} for v in ("aggre", "rand1", "rand2", "rand3", "worst")},
    "cifar100n-promix": SLOW,
    "cifar10-promix:asym40": {"confidence_penalty": "released"},
    **{
        f"{name}:{variant}": {**of_classes, **of_noise}
        for name, of_classes in {"cifar10-promix": {}, "cifar100-promix": SLOW}.items()
        for variant, of_noise in {
            "sym20": {"filter_rate": 0.7},
            "sym50": {},
            "sym80": {"filter_rate": 0.2},
            "sym90": {"filter_rate": 0.1},
            "idn20": {"filter_rate": 0.7, **IDN},
            "idn40": IDN,
            "idn60": {"filter_rate": 0.3, **IDN},
            "imbalanced": SIZED,
        }.items()
    },
    "animal10n-promix": {"net": "vgg19_bn", "epochs": 300, "filter_rate": 0.7, "lga_epochs": 150},
    "clothing1m-promix": {
        "net": "resnet50", "epochs": 80, "warmup": 1, "lr": 0.002, "weight_decay": 1e-3, "lga_epochs": 40,
        "batch_size": 32, "mixup_alpha": 0.5, "base_selection": "gaussian_mixture", "strong": "auto_imagenet",
    },
}  # fmt: skip


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr("curator.engine.hardware.no_accelerator", lambda: False)


@pytest.mark.parametrize("name, differs", PROMIX.items(), ids=list(PROMIX))
def test_published_values_of_promix(name, differs, gpu):
    r = resolve({"recipe": name})
    assert {"net": r.settings.net, **vars(r.method)} == {**vars(ProMix()), **RELEASED, **differs}
    photos = {"animal10n": (False, 64, None), "clothing1m": (True, 256, 224)}
    found = (r.settings.pretrained, r.settings.image_size, r.settings.crop)
    assert found == photos.get(r.settings.dataset, (False, None, None))


def test_published_values_are_of_all_promix_recipes():
    names = set()
    for path in sorted(recipes_folder().glob("*-promix.yaml")):
        if path.stem.startswith("features-"):  # our own choice
            continue
        variants = [v for v in read_recipe(path)["variants"] if v != "small"]
        names |= {f"{path.stem}:{v}" for v in variants} or {path.stem}
    assert names - {"digits-promix"} == set(PROMIX)


@pytest.mark.parametrize("given, chosen, rate, quota", [
    ({"dataset": "cifar10n"}, "cifar10n-promix:worst", 0.5, "balanced"),
    ({"dataset": "cifar10n", "label_noise": "aggre"}, "cifar10n-promix:aggre", 0.5, "balanced"),
    ({"dataset": "cifar10"}, "cifar10-promix", 0.5, "balanced"),
    ({"dataset": "cifar10", "label_noise": "sym:0.3"}, "cifar10-promix", 0.5, "balanced"),
    ({"dataset": "cifar10", "imbalance": 10}, "cifar10-promix:imbalanced", 0.5, "proportional"),
    ({"dataset": "cifar100", "imbalance": 50, "label_noise": "sym:0.2"}, "cifar100-promix:sym20+imbalanced", 0.7,
     "proportional"),
    ({"recipe": "cifar10-promix:sym20", "imbalance": 50}, "cifar10-promix:sym20", 0.7, "balanced"),
    ({"recipe": "cifar10-promix:sym20+imbalanced"}, "cifar10-promix:sym20+imbalanced", 0.7, "proportional"),
])  # fmt: skip
def test_variants_that_are_looked_up(given, chosen, rate, quota, gpu):
    r = resolve(given)
    assert (r.recipe, r.method.filter_rate, r.method.quota) == (chosen, rate, quota)


def test_order_of_variants(tmp_path):
    lr = {"sym50": 0.2, "imbalanced": 0.3, "small": 0.4}
    path = recipe(tmp_path, method="ce", imbalance=10, variants={k: {"method.lr": v} for k, v in reversed(lr.items())})
    r = resolve({"recipe": path, "label_noise": "sym:0.5"})
    assert r.recipe == "mine:sym50+imbalanced+small" and r.method.lr == 0.4


def test_recipes_exist():
    assert RECIPES and recipes_folder() == ROOT / "recipes"


def test_defaults():
    r = resolve({})
    assert (r.settings.dataset, r.settings.method, r.settings.net, r.recipe) == (
        "digits",
        "promix",
        "small",
        "digits-promix",
    )
    assert r.settings.flip is False
    assert resolve({"dataset": "owner/name"}).method.epochs == 90
    assert resolve({"dataset": "owner/name", "net": "resnet18"}).method.epochs == 600


def test_precedence(tmp_path):
    variants = {"sym50": {"method.lr": 0.4, "method.weight_decay": 0.8}, "small": {"method.lr": 0.3}}
    content = {"dataset": "cifar10", "method": "ce", "method.lr": 0.5, "method.batch_size": 64, "seed": 5}
    path = recipe(tmp_path, **content, variants=variants)
    r = resolve({"recipe": path, "label_noise": "sym:0.5"})
    assert (r.method.lr, r.method.weight_decay, r.method.batch_size, r.settings.seed) == (0.3, 0.8, 64, 5)
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
    path = recipe(tmp_path, **{"method.tau": 0.8})
    assert resolve({"recipe": path}).method.tau == 0.8
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
    r = resolve({"epochs": 3, "dataset": "cifar10", "method": "ce"})
    assert r.method.epochs == 3 and r.scaled == {"epochs": (60, 3)}
    assert resolve({"method.epochs": 7, "dataset": "cifar10"}).scaled == {}
    assert resolve({"recipe": "cifar10-promix:idn20", "epochs": 60}).scaled == {
        "epochs": (600, 60), "warmup": (10, 1), "lga_epochs": (250, 25), "regroup": (50, 5),
        "lambda_u_ramp": (100, 10), "gamma_ramp": (50, 5), "lr_ramp": (0, 0),
    }  # fmt: skip
    with pytest.raises(CuratorError, match="give only one"):
        resolve({"epochs": 3, "method.epochs": 7})


@pytest.mark.parametrize("given, message", [
    ({"epochs": 0}, "--epochs: expected at least 1"), ({"limit_rows": 0}, "--limit-rows: expected at least 1, found 0"),
    ({"method.reading": "parity"}, "--method.reading: expected one of released, paper, recommended; found 'parity'"),
    ({"method.preset": "paper"}, "unknown setting 'method.preset'; did you mean 'method.reading'"),
    ({"method.flip": False}, "unknown setting 'method.flip'; did you mean 'flip'"),
    ({"method.momentum": 0.9}, "unknown setting 'method.momentum'; it is always 0.9"),
    ({"method.filter_rate": 0}, "--method.filter-rate"),
    ({"feature_drop": 1.0}, "--feature-drop: expected 0 to below 1, found 1.0"),
    ({"method.warmup": 0}, "--method.warmup: expected at least 1"), ({"method.tau": 2}, "--method.tau"),
    ({"pretrained": True, "net": "small"}, "--pretrained is for --net resnet50 or vgg19_bn; found --net small"),
    ({"imbalance": 0.5}, "--imbalance"), ({"crop_area": 0.08}, "--crop-area is of windows scaled to --crop"),
    ({"method.batch_size": 1}, "--method.batch-size: expected at least 2"),
    ({"method": "confident", "method.folds": 1}, "--method.folds"), ({"method.lr": "nan"}, "--method.lr"),
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
    assert r.settings.method == "ce" and r.method.epochs == 3 and mine.epochs == 9
    assert r.settings.flip is False  # what the recipe says of the data holds for any method
    with pytest.raises(CuratorError, match="method.lr was given beside a method object"):
        resolve({"method.lr": 0.1}, mine)

    class Plain:
        epochs = 3

        def __call__(self, data, run):
            yield

    with pytest.raises(CuratorError, match="inherits from curator.methods.Method, found Plain"):
        resolve({}, Plain())


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
    [(True, int), (1, bool), (1.5, int), ("inf", int), (None, int), (1, str), ([], float), ("x", Literal["a"])]
    + [(np.zeros(2), Path), (np.zeros(2), Literal["a"])],  # with which == gives no bool
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
    assert output_folder(Settings(dataset="owner/name"), False) == Path("runs/owner--name-promix")
    assert output_folder(Settings(dataset="cifar10n", label_noise="worst", method="ce"), True) == Path(
        "runs/cifar10n-ce-worst"
    )
    assert output_folder(Settings(), False) == Path("runs/digits-promix")
    assert output_folder(Settings(dataset="owner/name", backbone="auto"), False) == Path("runs/owner--name-promix")
    assert output_folder(Settings(backbone="auto"), False) == Path("runs/digits-promix-auto")
    for given, name in {
        ("backbone", "dinov2s"): "digits-promix-dinov2s",
        ("backbone", "my.models:dinov2.small"): "digits-promix-models-dinov2-small",
        ("features_column", "a/b: c"): "digits-promix-a-b-c",
        ("features_column", "../.."): "digits-promix",
    }.items():  # another backbone is another run
        assert output_folder(Settings(**dict([given])), False) == Path("runs", name)
    both = Settings(backbone="resnet50", label_noise="sym:0.5")
    assert output_folder(both, True) == Path("runs/digits-promix-resnet50-sym50")


@pytest.mark.parametrize("given, free", [
    ({"dataset": "./mine", "method": "ce"}, True),
    ({"dataset": "./mine", "method": "ce", "method.batch_size": 128}, False),  # the user said it
    ({"method": "promix"}, False),  # the recipe of this dataset says it
    ({"method": "ce"}, True),  # that one does not
    ({"dataset": "./mine", "method": "ce", "backbone": "resnet50"}, True),  # a recipe for any dataset
    ({"dataset": "./mine", "backbone": "resnet50", "recipe": "features-ce"}, False),  # which the user chose
    ({"dataset": "./mine", "backbone": "resnet50"}, False),  # no nets on few rows
])  # fmt: skip
def test_whose_batch_size_may_follow_from_the_rows(given, free, no_gpu):
    assert bool(resolve(given).fits_batch) == free


def test_every_flag_is_documented():
    from tyro._docstrings import get_field_docstring

    for field in Settings.__dataclass_fields__:
        text = (
            hints(Settings)[field].__metadata__[0].help
            if field == "method"
            else get_field_docstring(Settings, field, ())
        )
        assert text and text.rstrip().endswith("."), field


def test_the_help_of_method_is_made_of_the_methods():
    arg, *_ = hints(Settings)["method"].__metadata__
    for name, cls in METHODS.items():
        assert f"{name}: {cls.__doc__.splitlines()[0]}" in arg.help


@pytest.mark.parametrize("hint, inside, outside, words", [
    (Annotated[int, AtLeast(2)], [2, 10**9], [1, float("inf"), float("nan")], "at least 2"),
    (Annotated[float, Above(0)], [1e-12, 1e300], [0, -1, float("inf"), float("nan")], "more than 0"),
    (Annotated[float, SHARE] | None, [0, 0.5, 1], [-1e-9, 1.1, float("nan")], "0 to 1"),
    (Annotated[float, BELOW_1], [0, 0.999], [1], "0 to below 1"),
    (Annotated[Epochs, Between(1, 9)], [1, 9], [0, 10], "1 to 9"),
    (Literal["a", "b"] | None, [], [], None),
])  # fmt: skip
def test_ranges_stand_on_the_field(hint, inside, outside, words):
    found = ranges(hint)
    assert [str(wanted) for wanted in found] == ([words] if words else [])
    assert all(value in found[0] for value in inside) and not any(value in found[0] for value in outside)


FROZEN = {"backbone": "resnet50"}


def test_recipes_of_frozen_features(tmp_path, monkeypatch):
    """The dataset's own, then the one of all datasets; never that of images."""
    for name, lr in {"cifar10-ce": 1, "cifar10-ce-features": 2, "features-ce": 3}.items():
        (tmp_path / f"{name}.yaml").write_text(
            f"method: ce\nmethod.lr: {lr}\nvariants: {{sym50: {{method.lr: {lr}.5}}}}\n"
        )
    monkeypatch.setattr("curator.config.recipes.recipes_folder", lambda: tmp_path)
    asked = {"dataset": "cifar10", "method": "ce"}
    assert resolve(asked).method.lr == 1
    assert resolve({**asked, **FROZEN}).method.lr == 2
    assert resolve({**asked, "features_column": "e", "label_noise": "sym:0.5"}).method.lr == 2.5
    assert resolve({**asked, **FROZEN, "dataset": "digits"}).method.lr == 3
    assert resolve({**asked, "dataset": "digits"}).method.lr == CrossEntropy().lr
    (tmp_path / "cifar10-ce-features.yaml").unlink()
    (tmp_path / "features-ce.yaml").unlink()
    assert resolve({**asked, **FROZEN}).method.lr == CrossEntropy().lr


def test_features_are_read_by_the_mlp():
    assert resolve(FROZEN).settings.net == "mlp" == resolve({"features_column": "e", "net": "mlp"}).settings.net
    with pytest.raises(CuratorError, match="--net small: on frozen features it is mlp"):
        resolve({**FROZEN, "net": "small"})
    with pytest.raises(CuratorError, match="--net mlp reads features: add --backbone or --features-column"):
        resolve({"net": "mlp"})
    with pytest.raises(CuratorError, match="give only one"):
        resolve({**FROZEN, "features_column": "e"})


def test_ensemble():
    r = resolve({"ensemble": "promix,mixup", "epochs": 10})
    assert r.settings.method == "promix+mixup" and str(output_folder(r.settings, False)) == "runs/digits-promix+mixup"
    alone = {name: resolve({"method": name, "epochs": 10}) for name in ("promix", "mixup")}
    assert {name: vars(m) for name, m in r.method.members.items()} == {n: vars(a.method) for n, a in alone.items()}
    assert r.recipe == " + ".join(a.recipe for a in alone.values())
    assert r.scaled["promix.epochs"] == (20, 10) and r.identity()["method.mixup.epochs"] == 10
    yaml.safe_dump(r.describe())  # plain values only


def test_members_see_rows_alike():
    """What may be done to the data is set once: recipes on features differ in the noise that they add."""
    with pytest.raises(
        CuratorError, match="the recipes of promix and ce differ in --feature-noise .0.2 and 0.0.; set it"
    ):
        resolve({"ensemble": "promix,ce", **FROZEN})
    r = resolve({"ensemble": "promix,ce", "feature_noise": 0.1, "crop": 28, **FROZEN})
    assert r.settings.views() == Views(noise=0.1, drop=0.5, crop=28)


@pytest.mark.parametrize("given, words", [
    ({"ensemble": "promix"}, "expected two or more of promix, dividemix, .*, as a,b; found 'promix'"),
    ({"ensemble": "promix,promix"}, "expected two or more"),
    ({"ensemble": "promix,mixp"}, "did you mean 'mixup'"),
    ({"ensemble": "promix,mixup", "method": "ce"}, "leave --method out"),
    ({"ensemble": "promix,mixup", "method.lr": "1"}, "leave --method.lr out"),
    ({"ensemble": "promix,mixup", "recipe": "digits-mixup"}, "leave --recipe out"),
    ({"ensemble": "promix,mixup", "pred_probs": "p.npy"}, "--pred-probs is for --method confident"),
])  # fmt: skip
def test_ensemble_refusals(given, words):
    with pytest.raises(CuratorError, match=words):
        resolve(given)


def test_members_whose_recipes_differ(tmp_path, monkeypatch):
    (tmp_path / "digits-ce.yaml").write_text("dataset: digits\nmethod: ce\nimage_size: 16\n")
    monkeypatch.setattr("curator.config.recipes.recipes_folder", lambda: tmp_path)
    with pytest.raises(CuratorError, match="the recipes of mixup and ce differ in --image-size .None and 16.; set it"):
        resolve({"ensemble": "mixup,ce"})
    assert resolve({"ensemble": "mixup,ce", "image_size": 8}).settings.image_size == 8


# Every published setting of DivideMix, AugDMix (presets of its code) and CPC that is not the method's default.
C100 = {"warmup": 30, "lambda_u": 150.0}
NINETY = {"p_threshold": 0.6, "loss_history": 5}
PHOTOS = {
    "epochs": 80, "warmup": 1, "lr": 0.002, "lr_drop": 40, "weight_decay": 1e-3, "batch_size": 32,
    "warmup_batch": 64, "batches": 1000,
    "mix_unlabelled": False, "lambda_u": 0.0, "alpha": 0.5, "confidence_penalty": True,
}  # fmt: skip
AUG = {"augment": "augdmix", "batch_size": 128}
ASYM = {"lambda_u": 0.0, "confidence_penalty": True}
WEB = {
    **PHOTOS, "epochs": 100, "lr": 0.01, "lr_drop": 50, "cpc_warmup": 5, "cpc_alpha": 1.0, "augment": "weak",
    "confidence_penalty": False,
}  # fmt: skip
DIVIDEMIX = {
    "cifar10-dividemix:sym20": {"lambda_u": 0.0}, "cifar10-dividemix:sym50": {}, "cifar10-dividemix:sym80": {},
    "cifar10-dividemix:sym90": {"lambda_u": 50.0, **NINETY}, "cifar10-dividemix:asym40": ASYM,
    "cifar100-dividemix:sym20": {**C100, "lambda_u": 25.0}, "cifar100-dividemix:sym50": C100,
    "cifar100-dividemix:sym80": C100, "cifar100-dividemix:sym90": {**C100, **NINETY},
    "cifar100-dividemix:asym40": {**C100, "confidence_penalty": True},
    "clothing1m-dividemix": PHOTOS,
    "webvision-dividemix": {
        "epochs": 80, "warmup": 5, "lr": 0.01, "lr_drop": 40, "batch_size": 32, "warmup_batch": 64,
        "mix_unlabelled": False, "lambda_u": 0.0, "alpha": 0.5,
    },
    "cifar10-augdmix:sym20": {**AUG, "lambda_u": 0.0}, "cifar10-augdmix:sym50": AUG,
    "cifar10-augdmix:sym80": {**AUG, "epochs": 350, "lr_drop": 200},
    "cifar10-augdmix:sym90": {**AUG, **NINETY, "epochs": 350, "lr_drop": 250, "lambda_u": 50.0},
    "cifar10-augdmix:asym40": {**AUG, **ASYM, "epochs": 350, "lr_drop": 250},
    **{
        f"cifar100-augdmix:{noise}": {**C100, **AUG, "epochs": 400, "lr_drop": 300, **own}
        for noise, own in {"sym20": {"lambda_u": 25.0}, "sym50": {}, "sym80": {}, "sym90": NINETY}.items()
    },
    "clothing1m-augdmix": {**PHOTOS, "augment": "augdmix", "strong": "auto_imagenet"},
    "cifar10-cpc:sym20": {"lambda_u": 0.0}, "cifar10-cpc:sym50": {}, "cifar10-cpc:sym80": {},
    "cifar10-cpc:sym90": {"lambda_u": 50.0, "loss_history": 5},
    "cifar10-cpc:asym40": {**ASYM, "cleaner": "cpc_agn"}, "cifar10-cpc:asym40+gmm_awr": {**ASYM, "cleaner": "gmm_awr"},
    "cifar100-cpc:sym20": {**C100, "lambda_u": 25.0}, "cifar100-cpc:sym50": C100,
    "cifar100-cpc:sym80": {**C100, "cpc_warmup": 45},
    **{
        f"cifar100-cpc:sym90{pick}": {**C100, "cpc_warmup": 45, "loss_history": 5, **own}
        for pick, own in {"": {}, **{f"+{c}": {"cleaner": c} for c in ("gmm_agn", "gmm_awr", "cpc_agn")}}.items()
    },
    "clothing1m-cpc": {
        **PHOTOS, "cleaner": "cpc_agn", "strong": "auto_imagenet", "cpc_warmup": 4, "cpc_alpha": 1.0,
        "p_threshold": 0.7,
    },
    "webvision-cpc": WEB, "webvision-cpc:gmm_awr": {**WEB, "cleaner": "gmm_awr"},
}  # fmt: skip


@pytest.mark.parametrize("name, differs", DIVIDEMIX.items(), ids=list(DIVIDEMIX))
def test_published_values_of_dividemix_augdmix_and_cpc(name, differs, gpu):
    r = resolve({"recipe": name})
    assert vars(r.method) == {**vars(type(r.method)()), **differs}
    photos = name.startswith(("clothing1m", "webvision"))
    assert r.settings.net == ("resnet50" if photos else "preact18")
    assert r.settings.pretrained == name.startswith("clothing1m")
    assert (type(r.method) is METHODS["cpc"]) == ("-cpc" in name)


# The same for bootstrapping: what differs from M-DYR-H with a Beta mixture, whose schedule is the default.
SH = {"target": "annealed", "mix": "dynamic"}
BOOTSTRAP = {
    **{f"cifar10-bootstrap:{noise}": {} for noise in ("sym0", "sym20", "sym50", "sym80", "sym50+hard")},
    **{f"cifar10-bootstrap:{noise}": SH for noise in ("sym85", "sym90", "sym80+dynamic")},
    **{f"cifar10-bootstrap:{noise}+gaussian": {"mixture": "gaussian"} for noise in ("sym0", "sym20", "sym50", "sym80")},
    **{f"cifar10-bootstrap:{noise}+beta_draw": {**SH, "weights": "beta"} for noise in ("sym80", "sym85", "sym90")},
    "cifar10-bootstrap:sym90+binomial_draw": {**SH, "weights": "binomial"},
    "cifar10-bootstrap:sym50+soft": {"target": "soft"},
    "cifar10-bootstrap:sym50+mixup": {"target": "given"},
    "cifar10-bootstrap:sym50+ce": {
        "target": "given", "mix": "none", "epochs": 120, "first_drop": 30, "second_drop": 80, "third_drop": 110,
    },
    **{f"cifar100-bootstrap:{noise}": SH for noise in ("sym0", "sym20", "sym50", "sym90")},
    "cifar100-bootstrap:sym80": {}, "cifar100-bootstrap:sym50+hard": {}, "cifar10n-bootstrap": {},
    **{
        f"tiny-imagenet-bootstrap-features:{noise}": {
            "optimizer": "adam", "lr": 0.001, "batch_size": 256, "epochs": 100, "warmup": 35, "first_drop": 30,
            "second_drop": 80, **own,
        }
        for noise, own in {"sym0": {}, "sym20": {}, "sym80": {}, "sym80+mixup": {"target": "given"}}.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name, differs", BOOTSTRAP.items(), ids=list(BOOTSTRAP))
def test_published_values_of_bootstrapping(name, differs, gpu):
    r = resolve({"recipe": name})
    of_features = name.startswith("tiny")
    defaults = {
        "epochs": 300, "warmup": 105, "batch_size": 128, "optimizer": "sgd", "lr": 0.1, "first_drop": 100,
        "second_drop": 250, "weight_decay": 1e-4, "mixup_alpha": 32.0,
        "dynamic_warmup": 5, "anneal": 89, "target": "hard", "mix": "static",
        "mixture": "beta", "weights": "ratio", "reading": "recommended",
    }  # fmt: skip
    of_small_nets = METHODS["bootstrap"].small_net if of_features else {}
    expected = {**vars(METHODS["bootstrap"]()), **defaults, **of_small_nets, **differs}
    assert vars(r.method) == expected
    assert (r.settings.feature_noise, r.settings.feature_drop) == ((0, 0) if of_features else (0.2, 0.2))
    assert (r.settings.net, r.settings.backbone) == (("linear", "resnet50") if of_features else ("preact18", None))


# ELR on CIFAR-10 with symmetric noise and SOP are the defaults.
ELR_100 = {"restart": 0, "first_drop": 80, "second_drop": 120, "beta": 0.9, "lambda_t": 7.0}
OF_TWO = {"plus": True, "restart": 0, "weight_decay": 5e-4, "drop": 0.1}
SOP_ASYM = {"rate_u": 0.1, "rate_v": 100.0}
SOP_PLUS = {"epochs": 300, "first_drop": 0, "second_drop": 0, "consistency": 0.9, "balance": 0.1}
ELR_AND_SOP = {
    "cifar10-elr": {}, "cifar10n-elr": {}, "cifar100-elr": ELR_100, "cifar100n-elr": ELR_100,
    "cifar10-elr:asym40": {
        "epochs": 120, "restart": 0, "first_drop": 40, "second_drop": 80, "beta": 0.9, "lambda_t": 1.0,
    },
    **{f"{c}-elr:plus": {**OF_TWO, "epochs": 200, "first_drop": 150} for c in ("cifar10", "cifar10n")},
    **{
        f"{c}-elr:plus": {
            **ELR_100, **OF_TWO, "epochs": 250, "first_drop": 200, "second_drop": 0, "lambda_ramp": 102,
            "weigh_labels": True,
        }
        for c in ("cifar100", "cifar100n")
    },
    "cifar100-sop": {}, "cifar10n-sop": {}, "cifar100-sop:asym40": SOP_ASYM,
    "cifar100-sop:asym40+plus": SOP_ASYM | SOP_PLUS,
    **{f"{c}-sop:plus": SOP_PLUS for c in ("cifar10", "cifar100", "cifar10n", "cifar100n")},
}  # fmt: skip


@pytest.mark.parametrize("name, differs", ELR_AND_SOP.items(), ids=list(ELR_AND_SOP))
def test_published_values_of_elr_and_sop(name, differs, gpu):
    r = resolve({"recipe": name})
    defaults: dict[str, dict] = {
        "elr": {
            "epochs": 150, "lr": 0.02, "weight_decay": 1e-3, "restart": 10, "drop": 0.01, "beta": 0.7, "lambda_t": 3.0,
            "averaging": 0.997, "alpha": 1.0,
        },
        "sop": {
            "epochs": 120, "lr": 0.02, "weight_decay": 1e-3, "rate_u": 1.0, "rate_v": 10.0, "first_drop": 40,
            "second_drop": 80, "consistency": 0.0, "balance": 0.0, "strong": "auto_cifar10_cutout",
        },
    }  # fmt: skip
    expected = {**vars(type(r.method)()), "batch_size": 128, **defaults[r.settings.method], **differs}
    assert vars(r.method) == expected
    assert r.settings.net == ("preact18" if "sop" in name or "plus" in name else "resnet18")


def test_features_of_tiny_imagenet_find_their_recipe():
    given = {"dataset": "tiny-imagenet", "method": "bootstrap", "backbone": "resnet50", "label_noise": "sym:0.2"}
    assert resolve(given).recipe == "tiny-imagenet-bootstrap-features:sym20"


def test_every_flag_stands_in_one_group():
    grouped = [name for group in GROUPS.values() for name in hints(group)]
    assert sorted(grouped) == sorted(hints(Settings)) and list(hints(Settings)) == grouped


@pytest.mark.parametrize("nature, names", [
    (NOT_IDENTITY, "output overwrite resume max_minutes keep_checkpoints track dry_run data_dir recipe epochs "
     "memory_budget push_to_hub public"),
    (NOT_IN_RECIPES, "recipe ensemble output overwrite resume dry_run push_to_hub public"),
    (PICKS, "dataset method ensemble recipe label_noise imbalance net backbone features_column pred_probs text_column"),
    (PATH, "data_dir recipe verified output pred_probs backbone"),
])  # fmt: skip
def test_the_nature_of_a_flag_stands_on_its_field(nature, names):
    assert set(flags_of(nature)) == set(names.split())


def words_of(name: str, hint: object) -> tuple[list[str], object]:
    """A flag with a value, and what it means."""
    flag = "--" + name.replace("_", "-")
    hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] or [hint]
    kind = kinds[0] if get_origin(hint) is not Literal else hint
    if kind is bool:
        return [f"--no-{name.replace('_', '-')}"], False
    if get_origin(kind) is Literal:
        return [flag, get_args(kind)[0]], get_args(kind)[0]
    value = {"dataset": "cifar10", "method": "ce", "ensemble": "ce,mixup", "recipe": "digits-ce", "net": "resnet18",
             "backbone": "resnet50"}.get(name, "7")  # fmt: skip
    return [flag, value], kind(value)


@pytest.mark.parametrize("name", hints(Settings))
def test_every_flag_parses(name):
    words, value = words_of(name, hints(Settings)[name])
    for written in (words, ["=".join(words)]):
        assert parse(written) == {name: value}


def test_hyperparameters_parse():
    words = ["--method", "confident", "--method.folds", "3", "--method.lr=1e-3"]
    assert parse(words) == {"method": "confident", "method.folds": 3, "method.lr": 1e-3}
    assert parse(["--pred-probs", "p.npy", "--method.folds", "3"])["method.folds"] == 3  # which picks confident
    assert parse(["--method.no-mhcs"]) == {"method.mhcs": False}


def test_trusted_is_an_alias_of_verified(tmp_path):
    assert parse(["--trusted", "0.1"]) == parse(["--verified", "0.1"]) == {"verified": "0.1"}
    assert resolve({"trusted": 0.1}).settings.verified == resolve({"verified": 0.1}).settings.verified == 0.1
    path = recipe(tmp_path, method="ce", trusted=0.1, variants={"small": {"trusted": 0.2}})
    assert resolve({"recipe": path}).settings.verified == 0.2
    assert resolve({"recipe": path, "trusted": 0.3}).identity()["verified"] == 0.3
    with pytest.raises(CuratorError, match="--trusted is --verified; give only one"):
        resolve({"trusted": 0.1, "verified": 0.2})
    with pytest.raises(CuratorError, match="'verified' twice"):
        resolve({"recipe": recipe(tmp_path, method="ce", trusted=0.1, verified=0.2)})


@pytest.mark.parametrize("words, hint", [
    (["--method.no-flip"], "did you mean '--flip'?"), (["--method.flip", "False"], "did you mean '--flip'?"),
    (["--method.feature-noise", "0.1"], "did you mean '--feature-noise'?"),
    (["--method.preset", "parity"], "did you mean '--method.reading'?"),
    (["--method.momentum", "0.9"], "it is always 0.9"), (["--sead=1"], "did you mean '--seed'?"),
])  # fmt: skip
def test_options_of_earlier_versions(words, hint):
    with pytest.raises(CuratorError, match="Unrecognized options.*; " + re.escape(hint)):
        parse(words)


def test_help_groups_the_flags(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    said = capsys.readouterr().out
    places = [said.index(f"{title} options") for title in (*GROUPS, "method")]
    assert places == sorted(places)
    assert said.index("--dataset") < places[1] < said.index("--net") < places[2] < said.index("--epochs") < places[3]
    assert places[3] < said.index("--overwrite") < places[4] < said.index("--push-to-hub") < places[5]


def test_flips_are_decided_by_images_where_nobody_says():
    """A recipe or a flag decides; else it is open, which is another run than one that was told."""
    assert resolve({"dataset": "digits", "method": "promix"}).says_flip
    open_, told = (resolve({"dataset": "rows", "net": "small", **more}) for more in ({}, {"flip": True}))
    assert not open_.says_flip and told.says_flip
    assert open_.identity()["flip"] is None and told.identity()["flip"] is True
    both = {"dataset": "rows", "net": "small", "ensemble": "ce,promix"}
    assert not resolve(both).says_flip and resolve({**both, "flip": False}).says_flip
