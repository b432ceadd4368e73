"""What README and pages say is so: their commands and their Python run."""

import inspect
import re
from pathlib import Path

from curator.cli.main import COMMANDS, main
from curator.config.defaults import BACKBONE
from curator.config.flags import ALIASES, Settings
from curator.methods import METHODS
from curator.review.session import Session
from curator.sources.backbones import AUTO
from tests.conftest import ROOT, image_folder
from tests.hub import hub  # noqa: F401
from tests.review.serving import shown
from tests.sources.models import timm_files
from tests.test_rooms import RANK

README = (ROOT / "README.md").read_text()
PAGES = {path.relative_to(ROOT / "docs").as_posix(): path.read_text() for path in (ROOT / "docs").rglob("*.md")}


def blocks(text: str, kind: str = "") -> list[str]:
    """The code blocks of a kind."""
    return [block for head, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if head == kind]


def lines_of(text: str, kind: str = "") -> list[list[str]]:
    """The words of each command in blocks of a kind, without comments, each command once."""
    lines = [line.split("#")[0].split() for block in blocks(text, kind) for line in block.splitlines()]
    return [list(words) for words in dict.fromkeys(map(tuple, lines)) if words[:1] == ("label-curator",)]


def run_all(lines: list[list[str]]) -> None:
    """Run commands in the working folder; in the place of the page, decide a row."""
    for _, command, *words in lines:
        words = [word.replace("owner/", "me/") for word in words]
        if command == "review":
            session = Session([Path(words[0])])
            step = {"key": f"of {words[0]}", "kind": "do", "rows": [[3, "relabel", 1], [4, "keep", None]]}
            session.save({**shown(session), "steps": [step]}, "ann")
            session.journal.close()
        else:
            assert main([command, *words, *["--epochs", "2"] * (command == "clean")]) == 0, words


def renamed(tutorial: str) -> str:
    """The tutorial with the README's names of folder and runs: commands that both have need not run twice."""
    text = re.sub(r"(--dataset) photos\b", r"\1 folder/of/images", tutorial)
    return text.replace("runs/photos-posterior", "runs/images-posterior").replace("runs/photos-2", "runs/again")


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    said = README + (ROOT / "CONTRIBUTING.md").read_text()
    for target in {"demo", "test", "test-slow", "lint", "docs", "bench", "app", *re.findall(r"`?make ([a-z-]+)", said)}:
        assert re.search(rf"^{target}: \$\((READY|TESTING)\)", makefile, re.M), target


def test_flags_methods_and_datasets_exist():
    from curator.sources.opening import NAMED

    modules = {inspect.getmodule(command) for command in COMMANDS.values()}
    classes = [Settings, *(cls for module in modules for _, cls in inspect.getmembers(module, inspect.isclass))]
    known = {*ALIASES, *(name for cls in classes for name in getattr(cls, "__dataclass_fields__", ()))}
    ours = "\n".join(
        [README, *(line for page in PAGES.values() for line in re.findall(r"^label-curator .*", page, re.M))]
    )
    for flag in set(re.findall(r"--([a-z]+(?:-[a-z]+)*)", ours)) - {"help", "method", "no"}:
        assert flag.replace("-", "_") in known, flag
    assert {words[1] for text in PAGES.values() for words in lines_of(text, "bash")} <= set(COMMANDS)
    table = README.split("| method | what it does |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.M)))) == set(METHODS)
    assert all(f"`{name}`" in PAGES["howto/data.md"] for name in NAMED)


def test_the_tree_lists_every_room_in_its_order():
    """And every module that is in none; of each module's contents its first line tells."""
    (tree,) = blocks(PAGES["architecture.md"].split("## What is where")[1].split("## ")[0], "text")
    listed = re.findall(r"^  (\w+)(?:/|\.py) ", tree, re.M)
    there = {p.stem for p in (ROOT / "curator").iterdir() if p.suffix == ".py" or (p.is_dir() and any(p.glob("*.py")))}
    assert set(listed) == there - {"__init__", "clean"} and len(listed) == len(set(listed))
    assert [RANK[room] for room in listed] == sorted(RANK[room] for room in listed)


def test_the_examples_run(tmp_path, monkeypatch, hub):  # noqa: F811
    """The commands and the Python of README and tutorial, in an empty folder with a folder of images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("curator.config.defaults.BACKBONE", BACKBONE)
    hub.serve_model(AUTO, timm_files(side=224))
    image_folder(tmp_path / "folder" / "of" / "images")
    first, rest = README.split("## Quick start")
    of_readme, (python,) = lines_of(rest), blocks(rest, "python")
    assert len(of_readme) >= 7 and all(line in of_readme for line in lines_of(first) if line[2:])
    run_all(of_readme)
    exec(python.replace('images")  #', 'images", epochs=2, overwrite=True)  #'), {})

    of_tutorial = lines_of(renamed(PAGES["tutorial.md"]), "bash")
    assert [line[1] for line in of_tutorial[:4]] == ["clean", "clean", "review", "clean"]
    run_all([line for line in of_tutorial if line not in of_readme])
    loaded: dict = {}
    exec(blocks(PAGES["tutorial.md"], "python")[0], loaded)
    assert len(loaded["everything"]["train"]) == 30 >= len(loaded["clean"]["train"])


def test_the_python_of_pages_runs(tmp_path, monkeypatch, capsys):
    import torch

    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(blocks(PAGES["howto/encoder.md"], "python")[0], found)
    assert found["encode"](torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape == (2, 6)
    exec(blocks(PAGES["howto/embeddings.md"], "python")[0], found)
    assert abs(int(re.search(r"(\d+) rows are flagged", capsys.readouterr().out)[1]) - 15) <= 3


def test_readme_is_short_and_its_pictures_are_there():
    assert len(README.splitlines()) <= 130
    for name, text in {"../README.md": README, **PAGES}.items():
        for path in re.findall(r"!\[[^]]+\]\(([^)]+)\)", text):
            assert (ROOT / "docs" / name).parent.joinpath(path).stat().st_size > 1000, (name, path)
