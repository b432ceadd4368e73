"""Publishing with the real clients, to folders and to a Hub on this machine."""

import json
from contextlib import closing
from pathlib import Path

import datasets
import pytest
from datasets import Value
from huggingface_hub import HfApi

import curator
from curator.cli.main import main
from curator.errors import CuratorError
from curator.publish.hub import next_tag, publish_hub
from curator.review.session import Session
from tests.conftest import hf_dataset


def load(target, config: str = "default", split: str = "train", **options) -> datasets.Dataset:
    return datasets.load_dataset(str(target), config, split=split, **options)


def expected(run: Path, policy: str, least: float = 0.9) -> tuple[list[int], list[bool]]:
    """Labels of all rows and whether they are clean, row by row from the words of the issue."""
    rows = load(run).with_format("numpy")[:]
    session = Session([run])
    with closing(session.journal):
        verified = {r: session.code[name] for r, name in session.journal.verified().labels.items()}
        ann = {r: d for r in session.journal.log(0) if (d := session.journal.decision(r, "ann"))}
        contested = set(session.journal.conflicts())
    labels, clean = [], []
    for i in range(len(rows["row"])):
        given, corrected = rows["label"][i], rows["corrected_label"][i]
        label = given
        if policy == "relabel":
            sure = rows["teacher_soft_label"][i][corrected] >= least and not rows["ambiguous"][i]
            label = verified.get(i, corrected if sure else given)
        if policy == "filter":
            label = verified.get(i, given)
        right = rows["selected"][i] if i not in verified else policy != "annotate" or verified[i] == given
        dropped = i in ann and ann[i].action == "drop"
        labels.append(int(label))
        clean.append(bool(right) and not dropped and i not in contested)
    return labels, clean


def check(run: Path, target, policy: str, least: float = 0.9, **options) -> None:
    """What was published is what the policy says: rows, labels, image bytes, the other split, the card."""
    source, labels, clean = load(run), *expected(run, policy, least)
    everything, kept = load(target, **options), load(target, "clean", **options)
    rows = [i for i in range(len(source)) if policy != "filter" or clean[i]]
    assert everything["row"][:] == rows and everything["label"][:] == [labels[i] for i in rows]
    assert kept["row"][:] == [i for i in range(len(source)) if clean[i]]
    assert kept["label"][:] == [labels[i] for i in kept["row"]]
    assert everything.features["label"] == source.features["label"]
    raw = [d.cast_column("image", datasets.Image(decode=False))["image"] for d in (source, everything)]
    assert [raw[0][i]["bytes"] for i in rows] == [image["bytes"] for image in raw[1]]
    if policy == "relabel":
        assert everything["original_label"][:] == source["label"][:]
        assert everything.features["original_label"] == source.features["label"]
    else:
        assert everything.features == source.features
    test = load(target, split="test", **options)
    assert test["label"][:] == load(run, split="test")["label"][:]
    assert load(target, "clean", split="test", **options)["row"][:] == test["row"][:]


@pytest.mark.parametrize("policy", ["annotate", "relabel", "filter"])
def test_to_a_folder(run, tmp_path, policy, capsys):
    target = tmp_path / "curated"
    argv = ["publish", str(run), str(target), "--policy", policy]
    assert main([*argv, "--dry-run"]) == 0 and not target.exists()
    assert f"would publish {policy}" in capsys.readouterr().err
    assert main(argv) == 0
    check(run, target, policy)
    facts = json.loads((target / "curation.json").read_text())["published"]
    assert facts["reviewers"] == {"ann": 19, "ben": 1} and facts["verified"] == 13 and facts["dropped"] == 4
    card = (target / "README.md").read_text()
    assert f"| policy | {policy}" in card and "ann 19, ben 1" in card and "expert-generated" in card
    assert list(tmp_path.iterdir()) == [target]  # nothing half-written beside it
    assert main(argv) == 2 and "add --overwrite, or name another folder" in capsys.readouterr().err
    assert main([*argv, "--overwrite"]) == 0
    assert list(tmp_path.iterdir()) == [target]


def test_how_sure_a_label_must_be(run, tmp_path):
    for least in (0.0, 0.5, 1.0):
        target = tmp_path / str(least)
        assert main(["publish", str(run), str(target), "--min-confidence", str(least)]) == 0
        check(run, target, "relabel", least)


@pytest.mark.parametrize("kind", ["string", "int32"])
def test_labels_keep_their_type(tmp_path, kind):
    rows = hf_dataset(60, 3, 0.4).remove_columns("true_label").cast_column("label", Value(kind))
    curator.curate(rows, method="ce", epochs=1, output=tmp_path / "out", column_prefix="c_", guard=False)
    assert main(["publish", str(tmp_path / "out"), str(tmp_path / "p"), "--min-confidence", "0"]) == 0
    found, run = load(tmp_path / "p"), load(tmp_path / "out")
    assert found.features["label"] == rows.features["label"] and found["original_label"][:] == rows["label"][:]
    names = run.features["c_corrected_label"].names
    corrected = [names[c] if kind == "string" else int(names[c]) for c in run["c_corrected_label"]]
    left = zip(run["c_ambiguous"][:], rows["label"][:], corrected, strict=True)  # ambiguous rows are left to people
    corrected = [given if unsure else new for unsure, given, new in left]
    assert found["label"][:] == corrected and found["label"][:] != rows["label"][:]


def test_what_cannot_be_published(run, tmp_path, capsys):
    def error(*words: object) -> str:
        assert main(["publish", *map(str, words)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "did you mean 'relabel'" in error(run, tmp_path / "x", "--policy", "relable")
    assert "expected a number from 0 to 1" in error(run, tmp_path / "x", "--min-confidence", "2")
    assert "finished run" in error(tmp_path, tmp_path / "x")
    assert "--journal" in error(run, tmp_path / "x", "--journal", tmp_path / "none.sqlite")
    assert "--public is for the Hub" in error(run, tmp_path / "x", "--public")
    assert "--overwrite is for folders" in error(run, "me/data", "--overwrite")
    assert "owner/name" in error(run, "data")
    assert "give only one" in error(run, "me/data", "--create-pr", "--branch", "b")
    before = sorted(path.name for path in run.iterdir())
    assert "is not empty; name another folder" in error(run, run, "--overwrite")  # a run is no version
    assert sorted(path.name for path in run.iterdir()) == before
    assert "--tag: expected a name" in error(run, "me/data", "--tag", "no good")
    assert "--branch: expected a name" in error(run, "me/data", "--branch", "a..b")
    assert "is not empty; name another folder" in error(run, run, "--dry-run")
    for odd in ("x" * 300, "~nosuchuser/x", "a\0b", "/" + "x" * 300):
        assert error(run, odd).startswith("error: ")
    assert "owner/name" in error(run, "me/a--b") and "owner/name" in error(run, "data", "--dry-run")
    (tmp_path / "file").write_text("mine")
    assert "file" in error(run, tmp_path / "file" / "below")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    assert "is not empty; name another folder" in error(run, tmp_path / "mine", "--overwrite")
    assert (tmp_path / "mine" / "file").read_text() == "mine" and not (tmp_path / "x").exists()


@pytest.mark.parametrize("policy", ["annotate", "relabel", "filter"])
def test_to_the_hub(run, hub, policy, capsys):
    assert main(["publish", str(run), "me/curated", "--policy", policy]) == 0
    printed = capsys.readouterr().err
    assert "pushed to http://127.0.0.1" in printed and "tag v1" in printed and "owner" not in printed
    repo = hub.repos["me/curated"]
    assert repo.private and len(repo.commits) == 2  # the first one is empty: all of the version came in one
    check(run, "me/curated", policy)
    assert policy in repo.messages[-1] and "ce" in repo.messages[-1] and "seed 123" in repo.messages[-1]


def test_versions_branches_tags_and_pull_requests(run, hub, monkeypatch):
    assert main(["publish", str(run), "me/curated", "--policy", "annotate", "--public"]) == 0
    assert not hub.repos["me/curated"].private
    sent = len(hub.uploads)
    assert main(["publish", str(run), "me/curated", "--policy", "relabel", "--branch", "better"]) == 0
    assert main(["publish", str(run), "me/curated", "--policy", "relabel", "--branch", "even/better"]) == 0
    assert main(["diff", "me/curated@even/better", "me/curated@better"]) == 0
    check(run, "me/curated", "annotate")
    check(run, "me/curated", "relabel", revision="better")
    assert main(["publish", str(run), "me/curated", "--policy", "filter"]) == 0
    check(run, "me/curated", "filter")
    check(run, "me/curated", "annotate", revision="v1")
    assert sorted(hub.repos["me/curated"].tags) == ["v1", "v2", "v3", "v4"]
    files = hub.repos["me/curated"].commits[hub.repos["me/curated"].branches["main"]]
    assert not [path for path in files if path.startswith("clean/")]  # those of older versions are gone
    assert len(hub.uploads) == len(set(hub.uploads)) and len(hub.uploads) > sent  # nothing is sent twice

    monkeypatch.setenv("HF_TOKEN", "reader")
    assert main(["publish", str(run), "me/curated", "--policy", "relabel"]) == 2
    assert main(["publish", str(run), "me/curated", "--policy", "relabel", "--create-pr"]) == 0
    check(run, "me/curated", "relabel", revision="refs/pr/1")
    check(run, "me/curated", "filter")
    assert HfApi().list_repo_refs("me/curated", repo_type="dataset").tags[-1].name == "v4"
    assert next_tag(["v9", "v10", "draft", "v2.1"]) == "v11"


# Every route that a push takes.
ROUTES = {
    "look": ("GET", "/api/datasets/me/curated$"),
    "create": ("POST", "/api/repos/create"),
    "yaml": ("POST", "/api/validate-yaml"),
    "preupload": ("POST", "/preupload/"),
    "batch": ("POST", "/objects/batch"),
    "upload": ("PUT", "/objects/"),
    "commit": ("POST", "/commit/"),
    "refs": ("GET", "/refs$"),
    "tag": ("POST", "/tag/"),
}


def push(run, lines: list[str] | None = None) -> None:
    publish_hub(run, "me/curated", "relabel", say=(lines if lines is not None else []).append, wait=0.01)


@pytest.mark.parametrize("route", ROUTES)
def test_what_passes_is_tried_again(run, hub, route, monkeypatch):
    """One after the other: conflicts, too many requests, an error of the server, a cut connection."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's own pauses, too
    for status in (409, 412, 429, 500, 503, 0):
        if status != 409 or route not in ("create", "tag"):  # there it means that the thing is there already
            hub.fail(*ROUTES[route], status)
    push(run)
    assert [fault[3] for fault in hub.faults] == [0] * len(hub.faults)
    repo = hub.repos["me/curated"]
    assert len(repo.commits) == 2 and list(repo.tags) == ["v1"]
    check(run, "me/curated", "relabel")


@pytest.mark.parametrize("route", ROUTES)
def test_what_does_not_pass_is_said_and_leaves_nothing_half(run, hub, route, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hints = {401: "hf auth login", 403: "--create-pr", 404: "", 503: "run the same", 0: "run the same"}
    for status, hint in hints.items():
        if route == "look" and status == 404:
            continue  # the usual answer for a repository that is to be made
        hub.repos.clear()
        hub.objects.clear()
        hub.uploads.clear()
        hub.faults.clear()
        hub.fail(*ROUTES[route], status, times=10_000)
        lines: list[str] = []
        with pytest.raises(CuratorError) as e:
            push(run, lines)
        assert hint in str(e.value) and "\n" not in str(e.value), (route, status, str(e.value))
        assert "owner" not in str(e.value) + " ".join(lines)
        repo = hub.repos.get("me/curated")
        version = {} if repo is None else repo.commits[repo.branches["main"]]
        assert not version or {path.split("/")[0] for path in version} >= {"data", "clean", "README.md"}
    hub.faults.clear()
    push(run)
    check(run, "me/curated", "relabel")
    assert len(hub.uploads) == len(set(hub.uploads))  # what was there is not sent again


def test_clean_pushes_when_it_is_done(run, hub, tmp_path, capsys, monkeypatch):
    hf_dataset(60, 3, 0.3).to_parquet(tmp_path / "rows.parquet")
    argv = ["clean", "--dataset", str(tmp_path / "rows.parquet"), "--method", "ce", "--method.epochs", "1"]
    argv += ["--output", str(tmp_path / "out"), "--push-to-hub", "me/rows"]
    monkeypatch.setenv("HF_TOKEN", "nobody")
    assert main(argv) == 2 and not (tmp_path / "out").exists()  # before the training
    assert "hf auth login" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "owner")
    assert main([*argv[:-1], "rows"]) == 2 and "owner/name" in capsys.readouterr().err
    assert main([*argv[:-2], "--public"]) == 2 and "--public is for --push-to-hub" in capsys.readouterr().err
    hub.fail("POST", "/commit/", 403, times=100)
    assert main(argv) == 2
    again = f"label-curator publish {tmp_path / 'out'} me/rows --policy annotate"
    assert again in capsys.readouterr().err.splitlines()[-1]
    hub.faults.clear()
    assert main(again.split()[1:]) == 0
    assert main([*argv, "--overwrite"]) == 0
    assert sorted(hub.repos["me/rows"].tags) == ["v1", "v2"] and hub.repos["me/rows"].private
    assert load("me/rows")["label"][:] == load(tmp_path / "out")["label"][:]
    curator.curate(hf_dataset(60, 3), method="ce", epochs=1, output=tmp_path / "b", push_to_hub="me/other", public=True)
    assert not hub.repos["me/other"].private and len(load("me/other")) == 60


def test_a_push_that_was_stopped(hub, tmp_path, capsys, monkeypatch):
    """By a signal or the network: the same command pushes the finished run and trains nothing, once."""
    import curator.publish.hub as publishing

    hf_dataset(60, 3, 0.3).to_parquet(tmp_path / "rows.parquet")
    argv = ["clean", "--dataset", str(tmp_path / "rows.parquet"), "--method", "ce", "--method.epochs", "1"]
    argv += ["--output", str(tmp_path / "out"), "--push-to-hub", "me/rows"]

    def stop(*args, **kwargs):
        raise SystemExit(143)

    def trains(*args):
        raise AssertionError("it trains")

    def times() -> dict[str, int]:
        return {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("[a-z]*.*")}

    for again in ([], ["--overwrite", "--seed", "9"]):
        with monkeypatch.context() as patch:
            patch.setattr(publishing, "publish_hub", stop)
            with pytest.raises(SystemExit):
                main([*argv, *again])
        before = times()
        with monkeypatch.context() as patch:
            patch.setattr("curator.train.train", trains)
            hub.fail("POST", "/commit/", 403)
            assert main([*argv, *again]) == 2 and "the same command, which trains nothing" in capsys.readouterr().err
            if not again:
                assert main([*argv, "--seed", "9"]) == 2 and "it holds a finished run" in capsys.readouterr().err
            assert main([*argv, *again]) == 0 and "nothing is trained" in capsys.readouterr().err
        assert times() == before and not (tmp_path / "out" / "checkpoints").exists()
        assert load("me/rows")["clean_score"][:] == load(tmp_path / "out")["clean_score"][:]
        assert main(argv) == 2 and "it holds a finished run" in capsys.readouterr().err
    assert sorted(hub.repos["me/rows"].tags) == ["v1", "v2"]


def test_a_target_that_is_a_link(run, tmp_path):
    """The folder that it leads to is meant; it is replaced where it lies, and the link stays."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "v").symlink_to(tmp_path / "disk" / "v")
    for policy in ("annotate", "relabel"):
        assert main(["publish", str(run), str(tmp_path / "v"), "--policy", policy, "--overwrite"]) == 0
        facts = json.loads((tmp_path / "disk" / "v" / "curation.json").read_text())
        assert facts["published"]["policy"] == policy and (tmp_path / "v").is_symlink()
    assert [p.name for p in (tmp_path / "disk").iterdir()] == ["v"]


def test_trusted_rows_of_the_run_are_verified(tmp_path):
    """Without any journal: what was verified before the run is what is published."""
    rows = hf_dataset(120, 3, 0.4)
    wrong = [i for i in range(120) if rows["label"][i] != rows["true_label"][i]][:10]
    (tmp_path / "t.csv").write_text("row,label\n" + "".join(f"{i},{rows['true_label'][i]}\n" for i in wrong))
    out = tmp_path / "out"
    curator.curate(rows, method="ce", epochs=1, verified=tmp_path / "t.csv", output=out)
    for policy in ("relabel", "filter"):
        assert main(["publish", str(out), str(tmp_path / policy), "--policy", policy]) == 0
        labels = dict(zip(*(load(tmp_path / policy)[c][:] for c in ("row", "label")), strict=True))
        assert [labels[i] for i in wrong] == [rows["true_label"][i] for i in wrong]
    curator.curate(rows, method="ce", epochs=1, output=out, overwrite=True)
    assert not (out / "trusted.parquet").exists()


def test_no_clean_row_is_left(tmp_path, capsys):
    curator.curate(hf_dataset(60, 3, 0.3), method="ce", epochs=1, flag_worst=60, output=tmp_path / "out")
    assert main(["publish", str(tmp_path / "out"), str(tmp_path / "p")]) == 0
    assert len(load(tmp_path / "p")) == 60
    assert main(["publish", str(tmp_path / "out"), str(tmp_path / "q"), "--policy", "filter"]) == 2
    assert "no row is left" in capsys.readouterr().err


def test_who_else_writes_there(run, hub, monkeypatch, capsys):
    """A push in between, a tag that is taken, files of somebody else: no version is mixed, none is lost."""
    push(run)
    create = HfApi.create_commit
    once = iter([True])

    def another_first(self, *args, **kwargs):
        if next(once, False):
            repo = hub.repos["me/curated"]
            head = repo.commits[repo.branches["main"]]
            oid = head["README.md"]
            repo.branches["main"] = repo.commit({**head, "data/train-00000-of-00009.parquet": oid}, "another push")
        return create(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "create_commit", another_first)
        publish_hub(run, "me/curated", "filter", say=lambda line: None, wait=0.01)
    check(run, "me/curated", "filter")
    commits = len(hub.repos["me/curated"].commits)
    assert main(["publish", str(run), "me/curated", "--tag", "v1"]) == 2
    assert "--tag v1: me/curated has that tag" in capsys.readouterr().err
    assert len(hub.repos["me/curated"].commits) == commits
    push(run)
    HfApi().create_repo("me/seen", repo_type="dataset", private=False)
    capsys.readouterr()
    assert main(["publish", str(run), "me/seen"]) == 0
    assert "note: me/seen is public" in capsys.readouterr().err
    HfApi().create_repo("me/mine", repo_type="dataset")
    HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="data/mine.txt", repo_id="me/mine", repo_type="dataset")
    assert main(["publish", str(run), "me/mine", "--dry-run"]) == 2
    assert main(["publish", str(run), "me/mine"]) == 2 and "holds files that no version" in capsys.readouterr().err
    assert main(["publish", str(run), "me/mine", "--branch", "curated"]) == 0
    check(run, "me/mine", "relabel", revision="curated")
