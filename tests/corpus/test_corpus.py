"""Broken and odd inputs: one clear line and nothing half-written, rows set aside, or a result.

A case is a line of CASES or CHECKPOINTS; the inputs are made by make.py.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Array2D, ClassLabel, Image, List, Value

from curator.cli.main import main
from curator.engine.run import Run
from curator.evidence import evidence
from curator.methods.ce import CrossEntropy
from tests.corpus import make
from tests.corpus.make import NAMES, ODD, RED, N

QUICK = ["--method", "ce", "--method.epochs", "1", "--net", "small", "--image-size", str(make.SIZE)]
ROOT_USER = os.name == "posix" and os.geteuid() == 0
STRING, INTEGER, FLOAT, BOOL = (Value(kind) for kind in ("string", "int64", "float64", "bool"))
MARKUP = "<img src=x onerror=alert(1)>"
HUMAN = ["--data-dir", "{dir}", "--label-noise", "worst"]
PROBS = ["--method", "confident", "--pred-probs", "{dir}/probs.npy"]
EMBEDDING = ["--net", "mlp", "--features-column", "embedding"]
MINE = ["--recipe", "{dir}/mine.yaml"]
TRUSTED = ["--verified", "{dir}/trusted.csv"]


@dataclass
class Case:
    """An input and what must come of it.

    Without words and aside it is a result of all rows.
    """

    name: str
    build: make.Build
    flags: list[str] = field(default_factory=list)
    words: str = ""  # of the error's line
    aside: dict[int, str] = field(default_factory=dict)  # rows in quarantine: a word of the reason
    split: str = "train"  # where they are
    pixel: tuple[int, ...] | Callable[[np.ndarray], bool] | None = None  # what the method sees of row ODD
    skip: bool = False

    def argv(self, folder: Path) -> list[str]:
        """Build the input, and give the flags that name it."""
        folder.mkdir(parents=True, exist_ok=True)
        dataset = self.build(folder)
        own = [] if "--method" in self.flags else QUICK
        own = [*QUICK[:4], *EMBEDDING] if "--features-column" in self.flags else own
        return ["--dataset", str(dataset), *own, *(flag.replace("{dir}", str(folder)) for flag in self.flags)]


def error(name: str, build: make.Build, words: str, *flags: str, **more) -> Case:
    return Case(name, build, list(flags), words, **more)


def aside(name: str, build: make.Build, rows: dict[int, str], *flags: str, **more) -> Case:
    return Case(name, build, list(flags), aside=rows, **more)


def result(name: str, build: make.Build, *flags: str, **more) -> Case:
    return Case(name, build, list(flags), **more)


def picture(name: str, make_one: Callable[[], bytes | None], pixel) -> Case:
    return Case(f"image_{name}", make.pictures(make_one), pixel=pixel)


def recipe(name: str, content: str, words: str) -> Case:
    return Case(f"recipe_{name}", make.file("mine.yaml", content), MINE, words)


def trusted(name: str, content: str | bytes, words: str = "") -> Case:
    return Case(f"trusted_{name}", make.file("trusted.csv", content), TRUSTED, words)


def ramp(image: np.ndarray) -> bool:
    """From black to white in even steps."""
    wanted = np.linspace(0, 255, image.shape[1] * image.shape[2]).reshape(image.shape[1:])
    return bool(np.abs(image - wanted).max() < 2)


def red_on_top(image: np.ndarray) -> bool:
    return bool(image[0, :4].min() > 150 and image[0, 8:].max() < 100)


GRAY = (100, 100, 100)
CASES = [
    # Files
    error("no_dataset", make.good, "--dataset: it is empty", "--dataset", ""),
    error("empty_folder", make.empty_folder, "could not be loaded"),
    error("empty_file", make.empty_file, "could not be loaded"),
    error("truncated_parquet", make.truncated_parquet, "could not be loaded"),
    error("damaged_parquet", make.damaged_parquet, "could not be loaded"),
    error("no_image_column", make.no_image_column, "expected an image column (type Image), found none among label"),
    error("no_rows", make.no_rows, "train.parquet has no rows"),
    error("other_extension", make.not_a_dataset, ".csv or .jsonl file, found rows.xlsx"),
    error("splits_that_are_paths", make.saved_splits("../outside"), "leads out of the dataset"),
    error("split_with_a_space", make.saved_splits("my rows"), "'my rows'"),
    error("two_splits", make.saved_splits("north", "south"), "found north, south; choose one with --split"),
    error("split_is_not_there", make.saved_splits("north"), "the splits are north", "--split", "south"),
    error("unreadable_folder", make.unreadable_folder, "Permission", skip=ROOT_USER),
    error("long_output", make.good, "File name too long", "--output", "{dir}/" + "n" * 300),
    aside("text_named_png", make.text_as_png, {28: "image"}),
    aside("dangling_symlink", make.dangling_symlink, {28: "No such file"}),
    result("file_name_of_bytes", make.name_of_bytes),  # it is no row, which a note says
    result("loop_of_symlinks", make.loop_of_symlinks),
    result("jpeg_named_png", make.jpeg_named_png),
    result("upper_case_extension", make.upper_case_extension),
    result("files_of_file_managers", make.other_files_between),
    result("spaces_and_unicode", make.spaces_and_unicode),
    result("long_name", make.long_name(180)),
    error("longest_name", make.long_name(250), "could not be loaded"),  # the cache of datasets adds to it
    result("other_split_name", make.saved_splits("north.v2")),
    # Images
    picture("gray", make.gray, GRAY),
    picture("palette", make.palette(), RED),
    picture("palette_with_transparency", make.palette(transparency=bytes([255, 128, 0])), RED),
    picture("opaque", make.rgba(255), RED),
    picture("transparent", make.rgba(0), (255, 255, 255)),
    picture("gray_alpha", make.gray_alpha, GRAY),
    picture("cmyk_jpeg", make.cmyk, RED),
    picture("16_bit", make.sixteen_bit, ramp),
    picture("turned_by_exif", make.turned, red_on_top),
    picture("broken_exif", make.broken_exif, RED),
    picture("animated_gif", make.frames("GIF"), RED),
    picture("animated_png", make.frames("PNG"), RED),
    picture("animated_webp", make.frames("WEBP"), RED),
    picture("tiff_of_pages", make.frames("TIFF"), RED),
    picture("webp", make.still("WEBP"), RED),
    picture("bmp", make.still("BMP"), RED),
    picture("progressive_jpeg", make.still("JPEG", progressive=True), RED),
    picture("one_pixel", make.sized(1, 1), None),
    picture("very_wide", make.sized(3000, 2), None),
    result("images_of_many_sizes", make.pictures(*(make.sized(5 + i, 40 - i) for i in range(30)))),
    aside("image_cut_jpeg", make.pictures(make.cut_jpeg), {ODD: "image"}),
    aside("image_of_no_bytes", make.pictures(make.nothing), {ODD: "image"}),
    aside("image_is_html", make.pictures(make.html), {ODD: "image"}),
    aside("image_bomb", make.pictures(make.bomb), {ODD: "image"}),
    aside("image_text_bomb", make.pictures(make.text_bomb), {ODD: "image"}),
    aside("image_is_postscript", make.pictures(make.postscript), {ODD: "cannot identify image file"}),
    aside("image_of_a_huge_canvas", make.pictures(make.canvas), {ODD: "raise --memory-budget or make it smaller"},
          "--memory-budget", "0.2"),
    aside("image_file_missing", make.listed("nothing.png"), {ODD: "No such file"}),
    aside("image_file_of_the_system", make.pictures(make.environment), {ODD: "outside the dataset's folder"}),
    aside("image_file_without_end", make.pictures(make.zeros), {ODD: "outside the dataset's folder"}),
    aside("image_file_is_a_pipe", make.pipe, {ODD: "no regular file"}),
    aside("image_file_is_a_link_outside", make.link("/proc/self/environ"), {27: "outside the dataset's folder"}),
    result("image_file_is_a_link_inside", make.link("0005.png")),
    result("image_file_by_a_relative_path", make.listed("../in/odd.png")),
    aside("image_is_an_address", make.pictures(make.elsewhere), {ODD: "address"}),
    aside("listed_file_missing", make.listed_but_missing, {ODD: "No such file"}),
    aside("bad_image_in_another_split", make.two_splits(make.pictures(make.html)), {ODD: "image"}, split="test"),
    aside("only_bad_images_in_another_split", make.two_splits(make.only_html), dict.fromkeys(range(N), "image"),
          split="test"),
    aside("image_missing", make.pictures(make.missing), {ODD: "image"}),
    aside("two_bad_images", make.pictures(make.html, make.missing), {ODD: "image", ODD + 1: "image"}),
    error("three_bad_images", make.pictures(*[make.html] * 3), "--allow-quarantine"),
    aside("three_bad_images_allowed", make.pictures(*[make.html] * 3), dict.fromkeys(range(ODD, ODD + 3), "image"),
          "--allow-quarantine"),
    error("only_bad_images", make.pictures(*[make.html] * (N - ODD)), "--allow-quarantine"),
    # Labels
    aside("label_missing", make.one_label(None, NAMES), {ODD: "label"}),
    aside("label_minus_one", make.one_label(-1, NAMES), {ODD: "label"}),
    aside("label_out_of_range", make.one_label(7, NAMES), {ODD: "label"}),
    aside("label_string_missing", make.one_label(None, STRING), {ODD: "label"}),
    aside("label_string_empty", make.one_label("", STRING), {ODD: "label"}),
    aside("label_integer_minus_one", make.one_label(-1, INTEGER), {ODD: "label"}),
    error("half_of_the_labels_missing", make.labelled([0, None], NAMES), "--allow-quarantine"),
    error("labels_of_one_class", make.labelled(["ant"], STRING), "expected labels of two classes or more"),
    error("class_label_of_one_name", make.labelled([0], ClassLabel(names=["ant"])), "two classes or more"),
    error("labels_are_ids", make.labelled([f"photo {i}" for i in range(N)], STRING), "look like ids, not labels"),
    result("labels_are_large_integers", make.labelled([10**12, 1, 2], INTEGER)),
    result("labels_are_floats", make.labelled([0.0, 1.0], FLOAT)),
    error("labels_are_fractions", make.labelled([0.5, 1.0], FLOAT), "label: expected",
          "--label-column", "label"),
    result("labels_are_booleans", make.labelled([True, False], BOOL)),
    error("labels_are_lists", make.labelled([[0], [1]], List(INTEGER)), "expected class labels, strings, integers",
          "--label-column", "label"),
    result("class_names_odd", make.labelled(list(range(6)), ClassLabel(
        names=["a, b; c", "🐱 猫 \u202eright", MARKUP, "two\nlines", "x" * 300, "=cmd|' /C calc'!A0"]))),
    result("string_labels_odd", make.labelled(["a, b", "🐱", MARKUP, "two\nlines", "x" * 300, "=1+1"], STRING)),
    result("string_labels_with_spaces", make.labelled(["ant", "ant ", "bee"], STRING)),
    # Columns
    error("columns_of_ours", make.with_columns(selected=([True] * N, BOOL)), "add --overwrite-columns"),
    error("column_row", make.with_columns(row=(list(range(N)), INTEGER)), "(row): add --overwrite-columns"),
    result("column_row_replaced", make.with_columns(row=(list(range(N)), INTEGER)), "--overwrite-columns"),
    error("two_image_columns", make.with_columns(back=make.images()), "found image, back; choose one"),
    result("two_image_columns_one_named", make.with_columns(back=make.images()), "--image-column", "back"),
    error("two_label_columns", make.with_columns(kind=make.labels()), "found label, kind; choose one"),
    error("nested_image", lambda f: make.write(f, {"a": ([{"image": i} for i in make.images()[0]], {"image": Image()}),
                                                   "label": make.labels()}), "expected an image column"),
    error("list_of_images", lambda f: make.write(f, {"a": ([[i] for i in make.images()[0]], List(Image())),
                                                     "label": make.labels()}), "expected an image column"),
    error("image_is_an_array", lambda f: make.write(f, {"image": ([[[0]]] * N, Array2D((1, 1), "uint8")),
                                                        "label": make.labels()}), "expected an image column"),
    # Recipes
    recipe("unknown_key", "method: ce\nmethod.leraning-rate: 1\n", "unknown setting 'method.leraning-rate'"),
    recipe("wrong_type", "method: ce\nmethod.lr: fast\n", "--method.lr: expected float, found 'fast'"),
    recipe("list_as_value", "method: ce\nmethod.lr: [1, 2]\n", "'method.lr': expected one value"),
    recipe("not_a_mapping", "- method: ce\n", "expected a mapping of flag names"),
    recipe("aliases", f"{make.ALIASES}method.lr: *a9\n", "'a0': expected one value, found list"),
    recipe("aliases_as_method", f"{make.ALIASES}method: *a9\n", "'a0': expected one value, found list"),
    recipe("aliases_as_variant", f"variants:\n  x: &a [{'y, ' * 999}]\n  z: [{'*a, ' * 999}]\n",
           "variant 'x': expected a mapping, found list"),
    recipe("alias_of_itself", "seed: &a [*a]\n", "'seed': expected one value"),
    recipe("object_tag", "method: !!python/object/apply:os.mkdir ['{dir}/ran']\n", "not readable YAML"),
    recipe("twice_the_same_key", "method: ce\nmethod.lr: 0.1\nmethod.lr: 0.2\n", "'method.lr' twice"),
    recipe("twice_the_same_flag", "method.batch-size: 8\nmethod.batch_size: 9\n", "'method.batch_size' twice"),
    recipe("deeply_nested", "seed: " + "[" * 500, "not readable YAML"),
    recipe("number_of_many_digits", "seed: " + "9" * 5000, "not readable YAML"),
    recipe("no_such_date", "seed: 2024-99-99\n", "not readable YAML"),
    recipe("tabs", "method:\tce\n\tseed: 1\n", "not readable YAML"),
    recipe("value_of_many_digits", "method: ce\nmethod.lr: '" + "9" * 50_000 + "x'\n", "--method.lr: expected float"),
    error("recipe_of_bytes", make.file("mine.yaml", b"\xff\xfe\x00\x81"), "not readable YAML", *MINE),
    error("recipe_of_a_long_name", make.good, "no such recipe", "--recipe", "r" * 5000),
    error("recipe_is_a_folder", make.good, "no such recipe", "--recipe", "{dir}"),
    error("recipe_without_the_variant", make.file("mine.yaml", "variants: {fast: {seed: 1}}"), "no variant 'slow'",
          "--recipe", "{dir}/mine.yaml:slow"),
    result("recipe_empty", make.file("mine.yaml", "# only words\n"), *MINE),
    # Files of labels
    result("cifar_n", make.small_cifar(make.cifar_labels), *HUMAN),
    error("cifar_n_cut", make.small_cifar(make.cut_labels), "expected a CIFAR-N label file", *HUMAN),
    error("cifar_n_with_code", make.small_cifar(make.hostile_labels), "it was not opened", *HUMAN),
    error("cifar_n_without_file", make.small_cifar(lambda path: None), "in it or below, found none", *HUMAN),
    # Trusted rows
    trusted("with_bom", "\ufeffrow,label\n1,bee\n2,cat\n"),
    trusted("empty", "", "expected the columns row and label, found none"),
    trusted("out_of_range", f"row,label\n{N},bee\n", f"expected rows 0 to {N - 1}"),
    trusted("huge_row", f"row,label\n{'9' * 5000},bee\n", "expected row numbers in column row"),
    trusted("two_labels", "row,label\n1,bee\n1,cat\n", "row 1 has two labels"),
    trusted("unknown_class", "row,label\n1,beee\n", "did you mean 'bee'"),
    trusted("short_line", "row,label\n1\n", "row 1 has the label None"),
    trusted("long_line", "row,label\n1,bee,2,3\n"),
    trusted("zeros", b"row,label\n1,be\0e\n", "row 1 has the label"),
    trusted("latin_1", "row,label\n1,b\xe9e\n".encode("latin-1"), "row 1 has the label 'bée', which is not a class"),
    trusted("cut_parquet", b"PAR1" + bytes(40), "expected a CSV or parquet file"),
    trusted("cut_journal", b"SQLite format 3\0" + bytes(40), "expected a review journal that can be opened"),
    # Probabilities and features
    result("probs", make.array(np.full((N, 3), 1 / 3)), *PROBS),
    error("probs_of_other_shape", make.array(np.full((N, 4), 0.25)), f"expected floats of shape ({N}, 3)", *PROBS),
    error("probs_of_one_axis", make.array(np.full(N, 0.25)), f"expected floats of shape ({N}, 3)", *PROBS),
    error("probs_not_numbers", make.array(np.full((N, 3), np.nan)), "is a softmax missing?", *PROBS),
    error("probs_pickled", make.array(np.full((N, 3), None)), "expected an .npy file of numbers", *PROBS),
    error("probs_empty", make.file("probs.npy", b""), "expected an .npy file of numbers", *PROBS),
    error("probs_npz", make.file("probs.npy", make.npz()), "expected an .npy file of numbers", *PROBS),
    error("probs_zip", make.file("probs.npy", b"PK\x03\x04" + bytes(40)), "expected an .npy file of numbers", *PROBS),
    error("probs_promise_more", make.file("probs.npy", make.promising_npy()), "expected an .npy file", *PROBS),
    result("features", make.features_with([0.0, 1.0]), *EMBEDDING),
    error("features_not_numbers", make.features_with([0.0, float("nan")]), f"found nan in row {ODD}", *EMBEDDING),
    error("features_infinite", make.features_with([0.0, float("inf")]), f"found inf in row {ODD}", *EMBEDDING),
    error("features_missing", make.features_with(None), f"found no list in row {ODD}", *EMBEDDING),
    error("features_with_a_gap", make.features_with([0.0, None]), f"a missing value in row {ODD}", *EMBEDDING),
    error("features_ragged", make.features_with([0.0]), f"found 1 numbers in row {ODD}", *EMBEDDING),
]  # fmt: skip


@pytest.fixture
def quick(monkeypatch, request):
    """Without training, too, which takes its time; gives the rows that the method saw.

    Training is part of the cases in which rows are set aside.
    """
    seen, train = {}, CrossEntropy.__call__

    def look(self, data, run):
        n = len(data)
        seen.update(zip(data.rows.tolist(), data.inputs.batch(torch.arange(n)).cpu().numpy(), strict=True))
        if request.node.callspec.params["case"].aside:
            return train(self, data, run)
        other = (data.labels + torch.arange(n) % 2) % len(data.classes)  # half of the labels are flagged
        return iter([evidence(torch.nn.functional.one_hot(other, len(data.classes)).float(), data)])

    monkeypatch.setattr(CrossEntropy, "__call__", look)
    return seen


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*")) if p.name != ".lock"}


def refused(capsys, argv: list[str], words: str) -> None:
    """Exit code 2 and one short line, the last one, that holds the words; no traceback."""
    code = main(["clean", *argv])
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert code == 2 and len(lines) == 1 and err.splitlines()[-1] == lines[0] and "Traceback" not in err, err
    assert words in lines[0] and len(lines[0]) < 1100, lines[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case, tmp_path, capsys, quick):
    if case.skip:
        pytest.skip("root may read everything")
    argv, out = case.argv(tmp_path / "in"), tmp_path / "out"
    argv += [] if "--output" in argv else ["--output", str(out)]
    before = tree(tmp_path / "in")
    if case.words:
        refused(capsys, argv, case.words)
        assert not out.exists()
    else:
        code = main(["clean", *argv])
        err = capsys.readouterr().err
        assert code == 0 and "Warning" not in err, err
        whole(out, case)
    if case.pixel is not None:
        image = quick[ODD]
        fits = case.pixel(image) if callable(case.pixel) else np.abs(image.transpose(1, 2, 0) - case.pixel).max() < 12
        assert fits, image
    assert tree(tmp_path / "in") == before and not (tmp_path / "in" / "ran").exists()


def whole(out: Path, case: Case) -> None:
    """The result holds every row in its place; the columns of those set aside are empty, and they are listed."""
    aside, (file,) = case.aside, out.glob(f"data/{case.split if case.aside else '*'}-*.parquet")
    rows = pq.read_table(file, columns=["clean_score", "selected", "corrected_label", "teacher_soft_label", "row"])
    assert rows["row"].to_pylist() == list(range(len(rows)))
    for name in ("clean_score", "selected", "corrected_label", "teacher_soft_label"):
        assert [i for i, value in enumerate(rows[name].to_pylist()) if value is None] == sorted(aside), name
    listed = out / "quarantine.parquet"
    assert listed.exists() == bool(aside)
    if aside:
        found = pq.read_table(listed).to_pylist()
        assert {row["row"] for row in found} == set(aside) and {row["split"] for row in found} == {case.split}
        assert all(aside[row["row"]] in row["reason"] and "\n" not in row["reason"] for row in found), found
        assert all(" object at 0x" not in row["reason"] for row in found), "another run would say something else"


# What is done to the checkpoint of an interrupted run, and a part of the line that follows.
CHECKPOINTS = {
    "state_cut": (make.cut_state, "state.pt cannot be read"),
    "state_with_code": (make.hostile_state, "state.pt cannot be read"),
    "state_of_another_kind": (make.state([1, 2]), "state.pt holds list; start anew with --no-resume"),
    "state_of_other_keys": (make.state({"epoch": 3}), "does not hold what a run saves; start anew with --no-resume"),
    "state_of_other_shapes": (make.other_shapes, "checkpoint's 'logits' does not fit"),
    "state_missing": (lambda folder: make.state_file(folder).unlink(), "state.pt cannot be read (FileNotFoundError"),
    "latest_points_nowhere": (make.replaced("latest", b"000099"), "000099/state.pt cannot be read"),
    "latest_points_elsewhere": (make.replaced("latest", b"../../elsewhere"), "found '../../elsewhere'"),
    "latest_is_empty": (make.replaced("latest", b""), "expected the number of a checkpoint, found ''"),
    "latest_of_bytes": (make.replaced("latest", b"\xff\xfe\x80"), "latest cannot be read"),
    "latest_is_a_folder": (make.latest_is_a_folder, "latest cannot be read"),
    "settings_cut": (make.replaced("settings.json", b'{"dataset": '), "settings.json cannot be read"),
    "settings_missing": (make.removed("settings.json"), "settings.json cannot be read"),
    "settings_of_another_kind": (make.replaced("settings.json", b"[1]"), "settings.json cannot be read"),
}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The flags of a run that was interrupted after an epoch, and its output folder."""
    base = tmp_path_factory.mktemp("interrupted")
    (base / "in").mkdir()
    flags = ["clean", "--dataset", str(make.good(base / "in")), *QUICK[:2], "--method.epochs", "2", *QUICK[4:]]

    def stop(self):
        save(self)
        raise KeyboardInterrupt

    save = Run.checkpoint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "checkpoint", stop)
        assert main([*flags, "--output", str(base / "out")]) == 130
    return flags, base / "out"


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint(name, interrupted, tmp_path, capsys):
    """One line, and nothing is changed."""
    damage, words = CHECKPOINTS[name]
    flags, out = interrupted
    shutil.copytree(out, tmp_path / "out")
    damage(tmp_path / "out" / "checkpoints")
    before = tree(tmp_path)
    refused(capsys, [*flags[1:], "--output", str(tmp_path / "out")], words)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["latest_is_a_folder", "state_with_code"])
def test_a_damaged_checkpoint_gives_way(name, interrupted, tmp_path):
    flags, out = interrupted
    shutil.copytree(out, tmp_path / "out")
    CHECKPOINTS[name][0](tmp_path / "out" / "checkpoints")
    assert main([*flags, "--output", str(tmp_path / "out"), "--no-resume"]) == 0
    assert not (tmp_path / "out" / "checkpoints").exists() and not (tmp_path / "ran").exists()


def test_a_dataset_that_changed_since_the_checkpoint(interrupted, tmp_path, capsys):
    flags, out = interrupted
    source = Path(flags[2]) / "train.parquet"
    kept = source.read_bytes()
    shutil.copytree(out, tmp_path / "out")
    before = tree(tmp_path)
    try:
        make.pictures(make.gray)(source.parent)
        refused(capsys, [*flags[1:], "--output", str(tmp_path / "out")], "the dataset changed since its run was inter")
        make.write(source.parent, {"image": make.images(n=N - 1), "label": make.labels(N - 1)})
        refused(capsys, [*flags[1:], "--output", str(tmp_path / "out")], "the dataset changed since its run was inter")
    finally:
        source.write_bytes(kept)
    assert tree(tmp_path) == before


def test_checkpoints_is_a_file(interrupted, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoints").write_text("mine")
    refused(capsys, [*interrupted[0][1:], "--output", str(tmp_path / "out")], "that no run of Curator wrote")
    assert (tmp_path / "out" / "checkpoints").read_text() == "mine"
