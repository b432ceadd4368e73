"""docs/hub.md, the skill and the extension of the hf command: what they name is there."""

import json
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from curator.cli.commands import Import, Publish, Review
from curator.cli.main import COMMANDS
from curator.cli.space import Pull, Space
from curator.config.flags import ALIASES, Settings
from tests.conftest import ROOT

PAGES = ["docs/hub.md", "docs/library.md", "skills/label-curator/SKILL.md"]


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_flags_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    groups = (Settings, Review, Publish, Import, Space, Pull)
    known = {*ALIASES, *(name for flags in groups for name in flags.__dataclass_fields__)}
    ours = re.sub(r"(hf jobs uv run .*?clean\.py|sky jobs launch.*|sbatch.*)", "", text)
    for flag in set(re.findall(r"(?<!\w)--([a-z]+(?:-[a-z]+)*)", ours)) - {"help", "state", "every", "no-storage"}:
        assert flag.replace("-", "_") in known, flag
    assert set(re.findall(r"label-curator (clean|[a-z]+) (?:RUN|runs|--|owner|X|pull)", text)) <= set(COMMANDS)
    assert all(
        (ROOT / file).exists() for file in re.findall(r"\b(?:jobs|docs)/[\w.]+\w", text.replace("docs/hub`", ""))
    )


def test_the_skill_says_when_to_use_it():
    head = yaml.safe_load((ROOT / PAGES[2]).read_text(encoding="utf-8").split("---")[1])
    assert head["name"] == Path(PAGES[2]).parent.name and 50 < len(head["description"]) < 1024


@pytest.mark.slow
def test_the_extension_of_the_hf_command(tmp_path):
    """As `hf extensions install` leaves it: a console script of the name hf-curator, and a manifest."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["hf-curator"].partition(":")
    folder = tmp_path / ".local/share/hf/extensions/hf-curator"
    folder.mkdir(parents=True)
    (folder / "hf-curator").write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
    (folder / "hf-curator").chmod(0o755)
    manifest = {
        "owner": "x", "repo": "hf-curator", "repo_id": "x/hf-curator", "short_name": "curator", "type": "python",
        "executable_path": str(folder / "hf-curator"), "installed_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    env = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
    hf = Path(sys.executable).with_name("hf")
    done = subprocess.run([hf, "curator", "--help"], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "space" in done.stdout, done.stderr
