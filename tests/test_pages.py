"""The pages: what docs/hooks.py puts into them, the notebook, and the package that they tell of."""

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

import curator
from curator.cli.main import COMMANDS
from curator.config.flags import Settings
from curator.methods import METHODS
from tests.conftest import ROOT

DOCS = ROOT / "docs"
SPEC = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
hooks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hooks)


def test_every_flag_command_and_hyperparameter_is_on_a_page():
    made = hooks.filled((DOCS / "reference/flags.md").read_text(), "reference/flags.md")
    rows = dict(re.findall(r"^\| `--([\w-]+)` \|.*\| (.*) \|$", made, re.M))
    assert set(rows) == {f.name.replace("_", "-") for f in dataclasses.fields(Settings)} and all(rows.values())
    assert "| `--image-size` | whole number |  |" in made and "| `--flip` | yes or no | yes |" in made
    others = hooks.filled((DOCS / "reference/commands.md").read_text(), "reference/commands.md")
    assert {*COMMANDS} - {"clean"} <= set(re.findall(r"^## (\w+)", others, re.M))
    assert "label-curator publish RUN TARGET [FLAGS]" in others and "| `--policy` | text | `relabel` |" in others
    texts = {path: path.read_text() for path in (DOCS / "methods").glob("*.md")}
    options = [name for text in texts.values() for name in re.findall(r"<!-- made: options (\w+) -->", text)]
    assert sorted(options) == sorted(METHODS)
    page = hooks.filled(texts[DOCS / "methods/promix.md"], "methods/promix.md")
    assert "| `--method.tau` | number | `0.99` |" in page and "lambda_u falls to 0 when its ramp ends" in page
    assert "| worst promix |" in page and "| worst cpc |" not in page
    assert not re.search(r"<!-- (made|include)", page)


def test_functions_that_pages_name_are_there():
    """Beside each equation of a method's page stands a function; all of them are in the code."""
    code = "\n".join(
        path.read_text() for room in ("methods", "signals", "engine") for path in (ROOT / "curator" / room).glob("*.py")
    )
    equations = [path.read_text().partition("## Options")[0] for path in sorted((DOCS / "methods").glob("[!r]*.md"))]
    named = {name for text in equations for name in re.findall(r"`(?:([A-Z]\w+)\.)?([a-z]\w+)`", text)}
    assert len(named) > 50
    for owner, name in sorted(named):
        assert re.search(rf"def {name}\b" if owner else rf"\b{name}\b", code), name
        assert not owner or f"class {owner}" in code, owner


def test_links_lead_where_they_can_on_the_site():
    link = hooks.relinked
    assert link("[a](docs/howto/data.md#x)", "README.md", "index.md") == "[a](howto/data.md#x)"
    assert link("[r](../../bench/RESULTS.md)", "docs/howto/large.md", "howto/large.md") == "[r](../results.md)"
    assert link("![p](loop.png)", "bench/RESULTS.md", "results.md") == "![p](results/loop.png)"
    assert (
        link("[`ce.py`](../../curator/methods/ce.py)", "docs/methods/x.md", "methods/x.md") == "`curator/methods/ce.py`"
    )
    assert link("[no](../nowhere.md)", "docs/index.md", "index.md") == "[no](../nowhere.md)"  # which mkdocs refuses
    assert link("```\n[a](README.md)\n```", "docs/x.md", "x.md") == "```\n[a](README.md)\n```"


def test_citation_and_changes_are_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == curator.__version__ and cited["license"] == "Apache-2.0" and cited["authors"]
    assert f"## {curator.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(DOCS / "tutorial.ipynb", 4)
    for cell in notebook.cells:
        cell.get("outputs", []).clear()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # label-curator
    os.environ["PYTHONPATH"] = str(ROOT)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    htmls = ["".join(o["data"]["text/html"]) for o in shown if "text/html" in o.get("data", {})]
    assert any("<img src='data:image/" in html and "flagged" in html for html in htmls)  # the worst rows
    assert any("10 relabelled" in o.get("text", "") for o in shown)
    assert (tmp_path / "photos-curated" / "README.md").is_file()


@pytest.mark.slow
def test_the_wheel_works_where_it_is_installed_alone(tmp_path):
    """Outside the repository, in an environment of its own that has the dependencies of this one."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "build", "--wheel", "--out-dir", tmp_path, ROOT], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("label_curator-*.whl")
    venv.create(tmp_path / "env", symlinks=True)
    home = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    theirs = next(path for path in sys.path if path.endswith("site-packages"))
    (home / "dependencies.pth").write_text(theirs)  # whose own .pth files are not read: no editable install
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([*uv, "pip", "install", "-q", "--no-deps", "--python", python, wheel], check=True)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*words: str) -> str:
        command = [python.with_name("label-curator"), *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert run("--version").split() == ["label-curator", curator.__version__]
    assert "recipe    digits-ce" in run("clean", "--method", "ce", "--epochs", "2")
    facts = json.loads((tmp_path / "runs/digits-ce/curation.json").read_text())
    assert facts["versions"]["label-curator"] == curator.__version__ and facts["metrics"]["noisy_f1"] > 0.5
    assert "written to" in run("publish", "runs/digits-ce", "./curated")
    where = [
        python,
        "-c",
        "import os, curator.review as room; print(*os.listdir(os.path.join(*room.__path__, 'web')))",
    ]
    page = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout.split()
    assert set(page) >= {path.name for path in (ROOT / "curator/review/web").iterdir()}
