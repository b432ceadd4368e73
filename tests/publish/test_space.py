"""A run and its Space on a Hub of this machine, and the decisions that come home from it."""

import json
import shutil
from contextlib import closing

import pytest
import yaml

import curator
from curator.cli.main import main
from curator.decisions.journal import FILE, Journal
from curator.errors import CuratorError
from curator.publish.space import pull_space, push_space
from curator.result.read import Rows
from tests.decisions.steps import do, labels


def quiet(line):
    pass


@pytest.fixture
def run(small_run, tmp_path):
    return shutil.copytree(small_run, tmp_path / "run")


def opened(folder, name=FILE):
    rows = Rows(folder)
    return closing(Journal(folder / name, rows.facts_for_a_journal()))


def test_a_space_of_a_user(run, hub, monkeypatch, capsys, tmp_path):
    hub.tokens["hf_small"] = "nobody"
    monkeypatch.setenv("CURATOR_SPACE_TOKEN", "hf_small")
    with opened(run) as journal:
        journal.save([do("before", (1, "drop", None))], "me")
    assert (
        main(["space", str(run), "me/pets", "--private", "--reviewers", "julia,ben", "--hardware", "cpu-upgrade"]) == 0
    )
    said = capsys.readouterr()
    assert "/spaces/me/pets" in said.out and "public" not in said.err and "your own token" not in said.err
    data, space = hub.repos["me/pets"], hub.spaces["me/pets"]
    assert data.private and space.private and hub.buckets == {"me/pets": True}
    sent = set(hub.files(data))
    assert {"README.md", "curation.json", "issues.csv", "trusted.parquet", "duplicates.parquet", FILE} < sent
    assert any(path.startswith("data/train-") for path in sent) and not any("lock" in path for path in sent)
    written = {path: content.decode() for path, content in hub.files(space).items()}
    assert set(written) == {"README.md", "app.py", "requirements.txt"}
    assert written["requirements.txt"] == f"label-curator[space]=={curator.__version__}\n"
    compile(written["app.py"], "app.py", "exec")
    head = yaml.safe_load(written["README.md"].split("---")[1])
    assert head["sdk"] == "gradio" and head["hf_oauth"] and "write-discussions" in head["hf_oauth_scopes"]
    assert "hf_oauth_authorized_org" not in head and head["app_file"] in written
    assert space.settings["secrets"] == {"HF_TOKEN": "hf_small"}
    assert space.settings["variables"] == {
        "CURATOR_RUN": "me/pets", "CURATOR_REVIEWERS": "julia,ben", "CURATOR_STORAGE": "/data",
    }  # fmt: skip
    (volume,) = space.settings["volumes"]["volumes"]
    assert (volume["type"], volume["source"], volume["mountPath"]) == ("bucket", "me/pets", "/data")
    assert space.settings["hardware"] == {"flavor": "cpu-upgrade"}
    # what was decided in the Space comes home, and what was decided here goes there with the next push
    (tmp_path / "away").mkdir()
    copy = tmp_path / "away" / FILE
    copy.write_bytes(hub.files(data)[FILE])
    with closing(Journal(copy, {**Rows(run).facts_for_a_journal()})) as away:
        assert labels(away, "me") == {1: ("drop", None)}
        away.save([do("there", (2, "drop", None))], "julia")
        away.copy(tmp_path / "copy")
    from huggingface_hub import HfApi

    HfApi().upload_file(path_or_fileobj=tmp_path / "copy", path_in_repo=FILE, repo_id="me/pets", repo_type="dataset")
    with opened(run) as journal:
        journal.save([do("meanwhile", (5, "unsure", None))], "me")
    push_space(run, "me/pets", say=quiet)
    assert space.settings["variables"]["CURATOR_REVIEWERS"] == "julia,ben"
    (tmp_path / "whole").write_bytes(hub.files(data)[FILE])
    with closing(Journal(tmp_path / "whole")) as whole:
        assert set(labels(whole, "me")) == {1, 5} and set(labels(whole, "julia")) == {2}
    assert main(["space", "pull", "me/pets", str(run)]) == 0 and "1 decisions are new" in capsys.readouterr().out
    assert pull_space("me/pets", run)[0] == 0
    with opened(run) as journal:
        assert set(labels(journal, "julia")) == {2} and set(labels(journal, "me")) == {1, 5}
    everything = b"".join(hub.objects.values()).decode("latin-1") + said.out + said.err
    assert "hf_small" not in everything and "owner" not in json.dumps(space.settings)


def test_a_space_of_an_organisation(run, hub, capsys):
    hub.orgs["me"] = ["zoo"]
    push_space(run, "zoo/pets", storage=False, package="label-curator @ https://x/y.whl", say=print)
    assert "the Space is public" in (said := capsys.readouterr().out) and "your own token" in said
    written = {path: content.decode() for path, content in hub.files(hub.spaces["zoo/pets"]).items()}
    assert yaml.safe_load(written["README.md"].split("---")[1])["hf_oauth_authorized_org"] == "zoo"
    assert written["requirements.txt"] == "label-curator @ https://x/y.whl\n"
    space = hub.spaces["zoo/pets"]
    assert not hub.buckets and "volumes" not in space.settings
    assert space.settings["variables"]["CURATOR_STORAGE"] == "" and space.settings["secrets"]["HF_TOKEN"] == "owner"


def test_what_is_refused(run, hub, tmp_path, small_run):
    for words, expected in (
        (("run",), "expected a Hub id"),
        (("somebody/pets",), "you are me; choose an owner"),
        (("me/pets", {"bucket": "x", "storage": False}), "--bucket and --no-storage"),
        (("me/pets", {"reviewers": ["a", "b c"]}), "--reviewers: expected names of accounts"),
    ):
        with pytest.raises(CuratorError, match=expected):
            push_space(run, words[0], **(words[1] if len(words) > 1 else {}), say=quiet)
    assert not hub.repos and not hub.spaces
    with pytest.raises(CuratorError, match="no decisions|not there"):
        pull_space("me/nothing", run)
    (run / "data" / "link").symlink_to("/etc/passwd")
    with pytest.raises(CuratorError, match="a link; a Space is given the run's own files alone"):
        push_space(run, "me/pets", say=quiet)
    (run / "data" / "link").unlink()
    hub.fail("POST", "/api/spaces/me/pets/secrets", 503)
    push_space(run, "me/pets", say=quiet, wait=0)  # is tried again
    assert "refused" not in hub.files(hub.spaces["me/pets"])
    hub.repos["me/pets"].private = False
    with pytest.raises(CuratorError, match="the dataset me/pets is public"):
        push_space(run, "me/pets", say=quiet)
    assert not (run / FILE).exists()
