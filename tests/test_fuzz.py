"""What strangers type and hand in: any command line, recipe or label file is taken, or refused in one line."""

import contextlib
import importlib
import io
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curator.cli.main import COMMANDS, main
from curator.config.flags import Settings, hints
from curator.config.recipes import read_recipe
from curator.config.resolve import resolve
from curator.errors import CuratorError
from curator.library.plan import Plan
from curator.methods import METHODS
from curator.sources.cifar_n import align, read_labels

# The same examples everywhere, and none kept in the repository.
settings.register_profile(
    "here", derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("here")

FLAGS = ["--" + name.replace("_", "-") for name in hints(Settings) if name not in ("push_to_hub", "public")]
HYPER = sorted({"--method." + name.replace("_", "-") for cls in METHODS.values() for name in hints(cls)})
VALUES = [
    *METHODS, "digits", "cifar10", "./nowhere", "digits-promix", "digits-promix:small", "promix,ce", "ce,ce", "sym:0.3",
    "sym:x", "asym:", "True", "False", "None", "no", "bf16", "mlp", "small", "resnet50", "paper", "nan", "inf", "-inf",
    "1e400", "1e999999", "-1", "0", "1", "3", "0.5", "1e3", "999999999999999999999999", "", " ", "--", "-", "=", "\0",
    "~", "~nobody/x", "../..", "{}", "[1]", "\n", "٣", "x" * 5000,
]  # fmt: skip
TEXT = st.text(max_size=12)  # any characters, surrogates of a broken file name among them
VALUE = st.sampled_from(VALUES) | TEXT | st.integers().map(str) | st.floats().map(str)
FLAG = st.sampled_from(FLAGS) | st.sampled_from(HYPER) | TEXT.map("--{}".format) | TEXT.map("--method.{}".format)
SHAPES = (
    lambda f, v: [f, v],
    lambda f, v: [f"{f}={v}"],
    lambda f, v: [f],
    lambda f, v: [v],
    lambda f, v: [f.replace("--", "--no-", 1)],
    lambda f, v: [f.replace("-", "_")],
    lambda f, v: [f.replace("--method.", "--method.no-", 1)],
)
WORDS = st.lists(st.builds(lambda make, f, v: make(f, v), st.sampled_from(SHAPES), FLAG, VALUE), max_size=4)


def outcome(argv: list[str]) -> tuple[int, str]:
    """The exit code and what stands on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv)
        except SystemExit as e:  # --help
            code = e.code or 0
    return code, err.getvalue()


def one_line(code: int, err: str) -> bool:
    """Done, or refused with one line."""
    return code == 0 or (code == 2 and err.startswith("error: ") and len(err.splitlines()) == 1 and err[-1] == "\n")


@pytest.fixture(scope="module")
def stopped():
    """Commands that end before they would read or serve anything."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (("curator.curate", "execute"), ("curator.review.page", "launch")):
            patch.setattr(
                importlib.import_module(module),
                name,
                lambda *args, **options: Plan(0, 0, "", None, "", None, 0, 0, 0, 0),
            )
        yield


@settings(max_examples=60)
@given(WORDS)
def test_any_command_line(stopped, words):
    """Right flags end with 0, wrong ones with 2 and a line; nothing with a traceback."""
    code, err = outcome(["clean", *(word for part in words for word in part)])
    assert one_line(code, err), (code, err)


@settings(max_examples=25)
@given(st.sampled_from(sorted(COMMANDS)), st.lists(VALUE | FLAG, max_size=4))
def test_any_command_line_of_the_other_commands(stopped, command, words):
    """None of them finds a run where there is none."""
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        code, err = outcome([command, *words])
        assert one_line(code, err), (code, err)
        assert not list(Path(empty).iterdir())


DATA_FLAGS = [f for f in FLAGS if f not in ("--backbone", "--dry-run")]  # a backbone may be any code
DATA_VALUES = [
    "image", "label", "true_label", "train", "sym:nan", "asym:1", "idn:1", "sym-other:1", "worst", "/", ".",
    "/dev/null", "/proc/self/mem", __file__, "1e-9", "1e9",
]  # fmt: skip


@settings(max_examples=20)
@given(st.sampled_from(DATA_FLAGS), st.sampled_from(DATA_VALUES) | VALUE)
@example("--dataset", "x" * 5000)
@example("--output", "x" * 5000)
@example("--recipe", "x" * 5000)
@example("--trusted", "x" * 5000)
def test_any_flag_reaches_the_data(flag, value):
    """One flag beside right ones, up to the training."""
    right = ["--limit-rows=40", "--method=ce", "--net=small", "--seed=1"]
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        code, err = outcome(["clean", "--dry-run", *right, f"{flag}={value}"])
        assert code == 0 or one_line(code, "".join(err.splitlines(keepends=True)[-1:])), (code, err)
        assert not list(Path(empty).iterdir())


def taken_or_refused(call, *args):
    """What the call gives, or None where it refuses in one line."""
    try:
        return call(*args)
    except CuratorError as e:
        assert str(e).strip() and len(" ".join(str(e).split())) < 1500
        return None


NAMES = st.sampled_from([*hints(Settings), *(h.removeprefix("--") for h in HYPER), "variants", "small", "sym30"]) | TEXT
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | VALUE
CONTENT = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | PLAIN, inner))
RECIPES = st.dictionaries(NAMES, PLAIN, max_size=3)
WHOLE = st.builds(lambda flat, variants: {**flat, "variants": variants}, RECIPES, st.dictionaries(NAMES, RECIPES))


def recipe_of(text: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        taken_or_refused(read_recipe, path)
        taken_or_refused(resolve, {"recipe": str(path)})
        assert [p.name for p in Path(folder).iterdir()] == ["recipe.yaml"]


@settings(max_examples=100)
@given(RECIPES | WHOLE | CONTENT)
def test_any_recipe(content):
    """A mapping of anything to anything."""
    recipe_of(yaml.safe_dump(content, allow_unicode=True))


@settings(max_examples=60)
@given(st.text() | st.binary())
@example("a: &a [*a]")
@example("&a {method.lr: *a}")
@example("method: {}")
@example("variants: {1: {}, '1': {}}")
@example("? [a, b]\n: c")
@example("lr: 2001-99-99")
@example("x: !!python/object/apply:os.system ['touch ran']")
@example("!!python/object/new:os.system ['touch ran']")
@example("[" * 1500)
@example("{a: " * 1500)
@example("seed: 0x" + "f" * 5000)
@example("seed: " + "9" * 5000)
@example("seed: 1:" + "59:" * 300 + "1")
@example("epochs: 2001-01-01")
@example("label_noise: !!binary gggg")
@example("seed: !!int ''")
@example("compile: !!bool x")
@example("seed: !!timestamp x")
@example("seed: [" + "1, " * 5000 + "]")
def test_any_text_as_a_recipe(text):
    """Tags that would run code, loops, depths and numbers that are too large among it."""
    recipe_of(text)


CLEAN = np.arange(50) % 10
RAN = Path(tempfile.gettempdir()) / "curator-fuzz-ran"


class Hostile:
    """What a pickle can ask its reader to call."""

    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


def written(content, new: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, pickle_protocol=2, _use_new_zipfile_serialization=new)
    return file.getvalue()


REAL = [written({"clean_label": CLEAN, "worse_label": (CLEAN + 1) % 10}, new) for new in (True, False)]
REAL.append(pickle.dumps({"clean_label": CLEAN, "worse_label": CLEAN}, protocol=2))


def labels_of(content: bytes) -> None:
    """As a run reads them: to labels in range, or to an error; nothing else happens."""
    RAN.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "CIFAR-10_human.pt"
        path.write_bytes(content)
        arrays = taken_or_refused(read_labels, path)
        labels = None if arrays is None else taken_or_refused(align, arrays, "worse_label", CLEAN, 10, path)
    assert not RAN.exists()
    assert labels is None or (labels.shape == (50,) and labels.dtype == np.int64 and set(labels) <= set(range(10)))


@settings(max_examples=60)
@given(st.binary() | st.binary().map(b"PK\x03\x04".__add__) | st.binary().map(b"\x80\x02".__add__))
def test_any_bytes_as_labels(content):
    labels_of(content)


@settings(max_examples=200)
@given(st.sampled_from(REAL), st.floats(0, 1, exclude_max=True), st.integers(0, 255), st.sampled_from(["cut", "flip"]))
def test_damaged_label_files(content, place, value, kind):
    """Cut short, or with a byte changed anywhere."""
    at = int(place * len(content))
    labels_of(content[:at] if kind == "cut" else content[:at] + bytes([value]) + content[at + 1 :])


CALLS = [
    Hostile(open, str(RAN), "w"),
    Hostile(eval, f"open({str(RAN)!r}, 'w')"),
    Hostile(RAN.touch),
    Hostile(os.system, f"touch {RAN}"),
    Hostile(np.load, str(RAN)),
    Hostile(np.memmap, str(RAN), "uint8", "w+", 0, (4,)),
]
ARRAYS = st.sampled_from(
    [CLEAN, CLEAN.astype(np.int8), CLEAN * 1.0, CLEAN[:0], CLEAN.reshape(5, 10), CLEAN > 4, CLEAN.astype(str)]
)
HOSTILE = st.recursive(
    st.sampled_from(CALLS) | ARRAYS | PLAIN.filter(lambda v: not isinstance(v, str) or v.isprintable()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["clean_label", "worse_label"]), inner),
    max_leaves=4,
)


@settings(max_examples=80)
@given(HOSTILE, st.sampled_from(["new", "old", "pickle"]))
def test_hostile_label_files(content, writer):
    """Pickles that call something, at any place and beside real arrays."""
    labels_of(pickle.dumps(content, protocol=2) if writer == "pickle" else written(content, writer == "new"))
