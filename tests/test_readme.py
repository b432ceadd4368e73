"""What the README says is so."""

import re

from curator.cli.commands import Apply, Diff, Publish, Review
from curator.cli.main import main
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


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in {"demo", "test", "test-slow", "lint", "bench", "app", *re.findall(r"`?make ([a-z-]+)", README)}:
        assert re.search(rf"^{target}: \$\(READY\)", makefile, re.M), target


def test_flags_methods_and_datasets_exist():
    from curator.sources.opening import NAMED

    known = {
        *ALIASES,
        *(name for flags in (Settings, Review, Publish, Diff, Apply) for name in flags.__dataclass_fields__),
    }
    ours = re.sub(r"(accelerate launch|torchrun) [^`]*?(curator/clean\.py|`)", "", README)  # without launchers' flags
    for flag in set(re.findall(r"--([a-z]+(?:-[a-z]+)*)", ours)) - {"help", "method"}:
        assert flag.replace("-", "_") in known, flag
    table = README.split("| method | what it does |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.M)) <= set(METHODS)  # a new one is in --help by itself
    assert all(f"`{name}`" in README for name in NAMED)


def test_the_tree_lists_every_room_in_its_order():
    """And every module that is in none; of each module's contents its first line tells."""
    tree = README.split("## What is where")[1].split("```")[1]
    listed = re.findall(r"^  (\w+)(?:/|\.py) ", tree, re.M)
    there = {p.stem for p in (ROOT / "curator").iterdir() if p.suffix == ".py" or (p.is_dir() and any(p.glob("*.py")))}
    assert set(listed) == there - {"__init__", "clean"} and len(listed) == len(set(listed))
    assert [RANK[room] for room in listed] == sorted(RANK[room] for room in listed)


def test_the_examples_run(tmp_path, monkeypatch, hub):  # noqa: F811
    """The commands and the Python lines, in an empty folder with a folder of images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("curator.config.defaults.BACKBONE", BACKBONE)
    hub.serve_model(AUTO, timm_files(side=224))
    image_folder(tmp_path / "folder" / "of" / "images")
    first, again = re.findall(r"accelerate launch curator/clean.py (--dataset folder[^#\n]+)", README)
    assert main(["clean", *first.split(), "--epochs", "2"]) == 0
    (python,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(python.replace('images")  #', 'images", epochs=2, overwrite=True)  #'), {})
    (app,) = re.findall(r"python app.py (\S+-posterior) ", README)
    session = Session([tmp_path / app])  # what the page does
    step = {"key": "a-decision", "kind": "do", "rows": [[3, "keep", None]]}
    session.save({**shown(session), "steps": [step]}, "ann")
    session.journal.close()
    assert main(["clean", *again.split(), "--epochs", "2"]) == 0
    (tmp_path / "verified.csv").write_text("row,label\n4,kind1\n")
    block = README.split("## Publish")[1].split("```")[1].replace("owner/name", "me/name")
    commands = [line.split("#")[0].split() for line in block.strip().splitlines()]
    assert [words[1] for words in commands] == ["publish", "diff", "import"]
    for words in [*commands, [*commands[0][:3], "./curated", "--format", "imagefolder"]]:
        assert main(words[1:]) == 0, words


def test_no_placeholder_is_left():
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert "RESULTS_TABLE" not in README and len(pictures) >= 4
    assert all((ROOT / path).stat().st_size > 10_000 for path in pictures)
