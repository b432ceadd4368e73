"""Decisions carried into a user's folder and CSV file: as files, and back again."""

import csv
import json
import shutil
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as Pil

from curator.cli.main import main
from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.publish.apply import apply_moves
from curator.publish.classes import Classes
from curator.publish.moves import Folder, Stays
from curator.publish.policy import Fix, decisions, fixes_of
from curator.publish.sheet import cut, read_sheet
from curator.result.read import Rows

CLASSES = ("ant", "bee", "cat")


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of three classes, eight images of the same names each, and a run of it."""
    base = tmp_path_factory.mktemp("apply")
    rng = np.random.default_rng(0)
    for i in range(24):
        name = f"{CLASSES[i // 8]}/{i % 8}.png"
        path = base / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Pil.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    np.save(base / "p.npy", np.eye(3, dtype=np.float32)[np.arange(24) // 8] * 0.97 + 0.01)
    argv = ["clean", "--dataset", str(base / "photos"), "--pred-probs", str(base / "p.npy")]
    assert main([*argv, "--output", str(base / "run"), "--flag-worst", "3"]) == 0
    return base


@pytest.fixture
def user(made, tmp_path):
    """A copy of the folder and the run, with ant/1 a bee, ant/2 a cat, ant/2021/0 a bee, bee/3 dropped; by file."""
    for name in ("photos", "run"):
        shutil.copytree(made / name, tmp_path / name)
    rows = Rows(tmp_path / "run")
    row = dict(zip(rows.files, rows.row.tolist(), strict=True))
    decide(tmp_path / "run", {
        row["ant/1.png"]: "bee", row["ant/2.png"]: "cat", row["ant/0.png"]: "bee", row["bee/3.png"]: None,
        row["cat/4.png"]: "cat",
    })  # fmt: skip
    return tmp_path


def decide(run: Path, labels: dict[int, str | None], who: str = "ann") -> None:
    rows = Rows(run)
    given = {int(row): rows.classes[code] for row, code in zip(rows.row, rows.given, strict=True)}
    acts = [
        (row, "drop" if name is None else "keep" if name == given[row] else "relabel", name)
        for row, name in labels.items()
    ]
    with closing(Journal(run / "review.sqlite", rows.facts_for_a_journal())) as journal:
        journal.save([{"key": f"step-{len(journal.log(0))}-{who}", "kind": "do", "rows": acts}], who)


MOVED = {"ant/1.png": "bee/1-1.png", "ant/2.png": "cat/2-1.png", "ant/0.png": "bee/0-1.png"}
DROPPED = "../photos-dropped/bee/3.png"


def test_moves_and_back(user, capsys):
    photos, argv = user / "photos", ["apply", str(user / "run"), "--folder", str(user / "photos")]
    before = tree(photos)
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert all(f"move   {a} -> {b}" in said for a, b in {**MOVED, "bee/3.png": DROPPED}.items()) and "add --yes" in said
    assert tree(photos) == before and not list((user / "run").glob("moved*"))
    assert main([*argv, "--yes"]) == 0
    assert "4 files moved" in capsys.readouterr().out
    after = tree(photos)
    assert {MOVED.get(name, name): content for name, content in before.items() if name != "bee/3.png"} == after
    assert tree(user / "photos-dropped") == {"bee/3.png": before["bee/3.png"]}
    assert main([*argv, "--yes"]) == 0  # again: nothing is left to do
    assert "0 files moved" in capsys.readouterr().out and tree(photos) == after
    rows = Rows(user / "run")
    decide(
        user / "run", {rows.row[rows.files.index("ant/1.png")]: "cat", rows.row[rows.files.index("ant/2.png")]: "ant"}
    )
    assert main([*argv, "--yes"]) == 0  # the reviewer has thought better of it
    now = tree(photos)
    assert now["cat/1-1.png"] == before["ant/1.png"] and now["ant/2.png"] == before["ant/2.png"]
    assert "bee/1-1.png" not in now and "cat/2-1.png" not in now
    assert main([*argv, "--undo"]) == 0 and tree(photos) == now
    assert main([*argv, "--undo", "--yes"]) == 0
    assert tree(photos) == before and not (user / "photos-dropped").exists()
    assert main([*argv, "--undo", "--yes"]) == 2 and "nothing was moved" in capsys.readouterr().err


def test_files_that_stay(user, capsys):
    """One that changed, one that is a link, one that is gone; a class's folder that leads elsewhere."""
    photos, argv = user / "photos", ["apply", str(user / "run"), "--folder", str(user / "photos"), "--yes"]
    (user / "elsewhere").mkdir()
    shutil.rmtree(photos / "cat")
    (photos / "cat").symlink_to(user / "elsewhere")
    (photos / "ant/1.png").write_bytes(b"another")
    (photos / "bee/3.png").rename(photos / "bee/kept.png")
    (photos / "bee/3.png").symlink_to("kept.png")
    before = tree(photos)
    assert main(argv) == 0
    said = capsys.readouterr().out
    for line in (
        "ant/1.png: its content is not the one",
        "ant/2.png: a link on its path leads out",
        "bee/3.png: it is a link",
    ):
        assert f"left   {line}" in said
    assert "1 files moved" in said and tree(photos) == {
        "bee/0-1.png" if name == "ant/0.png" else name: content for name, content in before.items()
    }
    assert not list((user / "elsewhere").iterdir())
    (photos / "ant/0.png").write_bytes(b"new")
    assert main([*argv, "--undo"]) == 2 and "ant/0.png is taken" in capsys.readouterr().err
    assert (photos / "ant/0.png").read_bytes() == b"new"


def test_a_name_that_is_taken_meanwhile(user, monkeypatch):
    def busy(source: Path, target: Path) -> None:
        raise FileExistsError(17, "File exists", str(target))

    before = tree(user / "photos")
    monkeypatch.setattr("curator.publish.moves.rename_new", busy)
    plan = apply_moves(user / "run", user / "photos", yes=True, say=lambda line: None)
    assert len(plan.stay) == 4 and tree(user / "photos") == before
    assert not list((user / "run").glob("moved*"))


def test_the_folder_of_the_run_is_known(made, tmp_path, capsys, monkeypatch):
    assert main(["apply", str(made / "run"), "--min-confidence", "0.5"]) == 2
    assert "no label was corrected yet" in capsys.readouterr().err  # it has found the folder
    shutil.copytree(made / "run", tmp_path / "run")
    assert main(["apply", str(tmp_path / "run")]) == 2
    assert "name their folder with --folder" in capsys.readouterr().err
    assert str(made) not in "".join(p.read_text(errors="replace") for p in (made / "run").rglob("*") if p.is_file())


def test_hostile_paths(user):
    """A stranger's run, or a stranger's journal of moves, moves nothing outside the folder."""
    (user / "secret.png").write_bytes((user / "photos/ant/1.png").read_bytes())
    rows = Rows(user / "run")
    row, digest = int(rows.row[rows.files.index("ant/1.png")]), rows.digests([0])["0"]
    file = user / "run" / f"moved-{rows.verdict[:16]}.json"
    content = rows.digests([row])[str(row)]
    held = {"files": {str(row): [content, ["../secret.png", "x/../../secret.png"]]}, "made": ["../empty"]}
    (user / "empty").mkdir()
    file.write_text(json.dumps(held))
    with pytest.raises(CuratorError, match="leads out of the folder"):
        apply_moves(user / "run", user / "photos", undo=True, yes=True, say=print)
    assert (user / "secret.png").exists() and (user / "empty").exists() and digest
    for odd in ('{"files": {"1": ["x", []]}, "made": []}', '{"files": 3}', "["):
        file.write_text(odd)
        with pytest.raises(CuratorError, match="cannot be read"):
            apply_moves(user / "run", user / "photos", say=print)


@pytest.mark.parametrize(
    "encoding, separator, end",
    [("utf-8", ",", "\n"), ("utf-8-sig", ";", "\r\n"), ("cp1252", "\t", "\r\n"), ("utf-16", ";", "\n")],
)
def test_a_csv_keeps_all_but_its_labels(user, capsys, encoding, separator, end):
    rows = Rows(user / "run")
    names = [*rows.files[:12], "none.png", *rows.files[12:]]
    given = {file: CLASSES[code] for file, code in zip(rows.files, rows.given, strict=True)}
    lines = [["id", "Dateiname", "label", "note"]]
    for i, name in enumerate(names):
        label = given.get(name, "bee")
        lines.append([str(i), name.replace("/", "\\"), f'"{label}"' if i == 1 else label, '"naïve""x"'])
    path = user / "labels.csv"
    text = end.join(separator.join(line) for line in [*lines, [""]])
    path.write_bytes(text.encode(encoding))
    path.chmod(0o640)
    before = path.read_bytes()
    argv = ["apply", str(user / "run"), "--csv", str(path)]
    assert main(argv) == 0 and path.read_bytes() == before
    assert main([*argv, "--yes"]) == 0
    said = capsys.readouterr().out
    assert "3 labels changed" in said and "1 dropped rows stay" in said
    wanted = {"ant/1.png": "bee", "ant/2.png": "cat", "ant/0.png": "bee"}
    for line in lines[1:]:
        name = line[1].replace("\\", "/")
        if name in wanted:
            line[2] = line[2].replace(given[name], wanted[name])
    assert path.read_bytes() == end.join(separator.join(line) for line in [*lines, [""]]).encode(encoding)
    assert oct(path.stat().st_mode)[-3:] == "640"
    assert main([*argv, "--yes"]) == 0 and "0 labels changed" in capsys.readouterr().out
    assert main([*argv, "--undo", "--yes"]) == 0 and path.read_bytes() == before
    assert main([*argv, "--undo", "--yes"]) == 2


@pytest.mark.parametrize(
    "cell, head",
    [
        (str, "file,label\n"),
        ("D:\\old\\{}".format, "sep=,\r\nfile,label,class\r\n"),
        ("https://x.org/a/{}?w=1".format, "file,label\n"),
        (lambda file: file[:-4], "id,label\n"),
        (str, ""),
    ],
)
def test_a_csv_that_curator_reads_is_changed_too(user, cell, head):
    """Its files are named by other paths than the run's; a header there is none of, or Excel's line is before it."""
    path, names = user / "t.csv", sorted(Rows(user / "run").files, key=lambda name: name != "ant/1.png")
    more = ",{}" if "class" in head else ""
    path.write_text(head + "".join(f"{cell(name)},{name[:3]}{more.format(name[:3])}\n" for name in names))
    before = path.read_text()
    assert main(["apply", str(user / "run"), "--csv", str(path), "--yes"]) == 0
    want = before
    for name, label in (("ant/1.png", "bee"), ("ant/2.png", "cat"), ("ant/0.png", "bee")):
        want = want.replace(f"{cell(name)},ant", f"{cell(name)},{label}")
    assert path.read_text() == want != before


def test_what_a_run_before_did_is_undone(user, capsys):
    """Its run was replaced by another, which has other given labels, or none of its own to undo."""
    table, argv = user / "t.csv", ["apply", str(user / "run")]
    names = Rows(user / "run").files
    table.write_text("file,label\n" + "".join(f"{name},{name[:3]}\n" for name in names))
    before = tree(user / "photos"), table.read_bytes()
    for words in (["--csv", str(table)], ["--folder", str(user / "photos")]):
        assert main([*argv, *words, "--yes"]) == 0
        for note in (user / "run").glob("*-*.json"):
            note.rename(note.with_name(f"{note.name.split('-')[0]}-0123456789abcdef.json"))
        assert main([*argv, *words, "--undo", "--yes"]) == 0
    assert (tree(user / "photos"), table.read_bytes()) == before and not list((user / "run").glob("*-*.json"))


def test_csv_files_that_do_not_fit(user, capsys):
    path, argv = user / "t.csv", ["apply", str(user / "run"), "--csv", str(user / "t.csv"), "--yes"]
    for text, expected in {
        "file,label\nx.png,ant\n": "no column names files of the run",
        "file,note\nant/1.png,good\n": "none of its columns (file, note) holds the labels",
        "file,a,b\nant/1.png,ant,ant\n": "the columns a, b hold the same labels",
        "": "no column names files",
    }.items():
        path.write_text(text)
        assert main(argv) == 2 and expected in capsys.readouterr().err and path.read_text() == text
    path.write_text("file,label\nant/1.png,cat\nant/5.png,ant\n")
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert "leave  ant/1.png: its label is 'cat' there" in said and "ant/2.png: it is not in the table" in said
    assert main([*argv[:-1], "--move"]) == 2 and "--csv changes labels" in capsys.readouterr().err


@pytest.mark.parametrize("text", ['a,"b\nc",d\r\n\r\n"x""y",,z', ",\n", "", 'a"b,c', '"a'])
def test_cells_are_those_of_csv(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, newline="")
    sheet = read_sheet(tmp_path / "t.csv")
    found = [[sheet.value(span) for span in line] for line in cut(text, ",")]
    if text != '"a':  # an open quote, of which Python's reader makes another value
        assert found == [line for line in csv.reader(text.splitlines(keepends=True)) if line]


def test_confident_labels_go_along(user, capsys):
    """With --min-confidence, what publish would relabel; the flagged rows of this run have no other suggestion."""
    rows = Rows(user / "run")
    rows.confidence[:] = 0
    sure = int(np.flatnonzero(rows.given == 2)[0])
    rows.confidence[sure], rows.suggested[sure] = 0.95, 0
    with decisions(rows, None) as journal:
        assert {fix.file for fix in fixes_of(rows, journal, 0.9)} - {fix.file for fix in fixes_of(rows, journal)} == {
            rows.files[sure]
        }
    assert main(["apply", str(user / "run"), "--min-confidence", "7"]) == 2
    assert "expected a number from 0 to 1" in capsys.readouterr().err


def test_names_alone_are_found_where_they_are_in_their_class(user, monkeypatch):
    """A run of before paths were kept; two files of one name, each in its class."""
    monkeypatch.setattr(Rows, "files", property(lambda self: [f"{i % 8}.png" for i in range(24)]))
    plan = apply_moves(user / "run", user / "photos", say=lambda line: None)
    assert {move.source for move in plan.moves} == {*MOVED, "bee/3.png"}


@pytest.mark.parametrize("files, given, moves", [
    (["train/ant/2021/a.png", "train/bee/b.png"], [0, 1], {"train/ant/2021/a.png": "train/bee/2021/a.png"}),
    (["Insect/ant/a.png", "Pet/cat/b.png"], [0, 2], {"Insect/ant/a.png": "Insect/bee/a.png"}),  # a folder that is new
    (["Insect/ant/a.png", "Other/bee/b.png"], [0, 1], {"Insect/ant/a.png": "Other/bee/a.png"}),  # of a nested class
    (["ant/ant/a.png", "bee/ant/b.png", "bee/x.png"], [0, 1, 1], {"ant/ant/a.png": "bee/ant/a.png"}),
    (["bee/a.png", "ant/b.png", "bee/c.png"], [0, 0, 1], {"bee/a.png": None}),  # noise was injected: no such folder
])  # fmt: skip
def test_which_folder_is_a_class(tmp_path, files, given, moves):
    rows = SimpleNamespace(folder=tmp_path, files=files, given=np.array(given), classes=list(CLASSES))
    classes = Classes(rows, Folder(tmp_path))
    for file, target in moves.items():
        fix = Fix(0, files.index(file), file, given[files.index(file)], 1)
        if target is None:
            with pytest.raises(Stays, match="not in a folder ant"):
                classes.target(file, fix)
        else:
            assert classes.target(file, fix) == target
