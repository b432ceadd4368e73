"""What the Hub, or who says that it is the Hub, may answer: every call ends, and with one line."""

import gzip
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.utils import get_session

from curator.cli.main import main
from curator.errors import CuratorError
from curator.publish.hub import publish_hub, require_hub, require_inside
from curator.publish.refusals import explained
from curator.sources import network
from curator.sources.network import HubLimit, fetch, hub_limits
from tests.conftest import load_table
from tests.hub import hub, loopback_hub  # noqa: F401


def says(body: bytes, **headers):
    """An answer of these bytes."""
    return lambda handler: handler.reply(200, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def drips(handler) -> None:
    """An answer of a byte each 20 ms, for ever; the limits are that much smaller here."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        handler.wfile.write(b" ")
        time.sleep(0.02)


def drips_headers(handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Name: ")
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.02)


def silent(handler) -> None:
    time.sleep(1.5)


def endless(handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
    while True:
        handler.wfile.write(b" " * 2**16)


def endless_pages(handler) -> None:
    here = f"http://{handler.headers['Host']}{handler.path.partition('?')[0]}"
    more = f'<{here}?cursor={time.monotonic_ns()}>; rel="next"'
    handler.reply(200, [], {"Link": more})


@pytest.fixture
def short(monkeypatch):
    """Limits that a test can wait for."""
    for name, value in {"ANSWER": 0.3, "FILE_STEP_SECONDS": 0.3, "ANSWER_BYTES": 2**20, "PAGES": 5}.items():
        monkeypatch.setattr(network, name, value)
    monkeypatch.setattr(network._Watch, "most", 2**20)


BAD = {
    "null": says(b"null"), "no JSON": says(b"<html>"), "nothing": says(b""), "a number": says(b"5"),
    "a text": says(b'"x"'), "a list of nulls": says(b"[null]"), "a list of lists": says(b"[[]]"),
    "other names": says(b'{"x": 1}'), "deep": says(b"[" * 200_000), "half a character": says(b'"\\ud800"'),
    "binary": says(bytes(range(256))),
}  # fmt: skip
SLOW = {
    "a byte at a time": drips, "a header at a time": drips_headers, "nothing at all": silent,
    "an endless answer": endless,
    "packed": says(gzip.compress(bytes(2**22)), Content_Encoding="gzip"),
}  # fmt: skip
CALLS = {
    "whoami": ("GET", "/whoami", lambda: HfApi().whoami()),
    "info": ("GET", "/api/datasets/me/x$", lambda: HfApi().repo_info("me/x", repo_type="dataset")),
    "tree": ("GET", "/tree/", lambda: HfApi().list_repo_files("me/x", repo_type="dataset")),
    "refs": ("GET", "/refs", lambda: HfApi().list_repo_refs("me/x", repo_type="dataset")),
    "file": ("GET", "/resolve/", lambda: Path(hf_hub_download("me/x", "README.md", repo_type="dataset")).read_text()),
    "create": ("POST", "/repos/create", lambda: HfApi().create_repo("me/y", repo_type="dataset")),
}


@pytest.fixture
def repo(hub, monkeypatch):  # noqa: F811
    """A repository of one file."""
    monkeypatch.setattr("time.sleep", lambda seconds, sleep=time.sleep: sleep(seconds if seconds < 2 else 0))
    with hub_limits():
        HfApi().create_repo("me/x", repo_type="dataset")
        HfApi().upload_file(path_or_fileobj=b"hello", path_in_repo="README.md", repo_id="me/x", repo_type="dataset")
        yield hub


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("name", CALLS)
def test_no_answer_takes_for_ever(repo, short, name, answer):
    method, pattern, call = CALLS[name]
    repo.instead(method, pattern, answer)
    started = time.monotonic()
    with pytest.raises(Exception) as e:  # noqa: PT011, B017
        call()
    error = explained(e.value, "asking", "me/x")
    assert isinstance(error, HubLimit) and "the Hub" in str(error) and "\n" not in str(error)
    assert time.monotonic() - started < 5


def test_a_file_that_drips_or_stands_still(repo, short):
    """Files may be large, and take as long as they go on."""
    HfApi().upload_file(path_or_fileobj=b"x" * 2**21, path_in_repo="a.bin", repo_id="me/x", repo_type="dataset")

    def slowly(handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2097152\r\n\r\n")
        for _ in range(16):  # longer than an answer may take
            handler.wfile.write(b"x" * 2**17)
            time.sleep(0.05)

    repo.instead("GET", "a.bin", slowly)
    path = hf_hub_download("me/x", "a.bin", repo_type="dataset")
    assert Path(path).stat().st_size == 2**21
    repo.answers[:] = [("GET", "a.bin", drips)]
    with pytest.raises(HubLimit):
        hf_hub_download("me/x", "a.bin", repo_type="dataset", force_download=True)


def test_an_upload_that_stands_still(hub, short):  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as server, hub_limits():
        address = f"http://127.0.0.1:{server.getsockname()[1]}/objects/a"
        with pytest.raises(HubLimit, match="took nothing more"):
            get_session().put(address, content=bytes(2**26))


def test_a_dataset_whose_list_does_not_end_is_refused_in_a_line(repo, short):
    for answer in (endless_pages, drips, endless, *BAD.values()):
        repo.answers[:] = [("GET", "/(tree|revision)/|/api/datasets/me/x$", answer)]
        with pytest.raises(CuratorError, match="--dataset me/x: it could not be loaded") as e:
            load_table("me/x")
        assert "\n" not in str(e.value)


def test_pages_that_do_not_end(repo, short):
    repo.instead("GET", "/tree/", endless_pages)
    with pytest.raises(HubLimit, match="list does not end"):
        HfApi().list_repo_files("me/x", repo_type="dataset")


def test_a_pause_that_is_too_long_is_not_made(repo, monkeypatch):
    paused = []
    monkeypatch.setattr("time.sleep", paused.append)
    left = iter([True])

    def later(handler) -> None:
        if next(left, False):
            handler.reply(429, {}, {"Retry-After": "999999"})
        else:
            handler.reply(200, [])

    repo.instead("GET", "/tree/", later)
    assert HfApi().list_repo_files("me/x", repo_type="dataset") == [] and max(paused) < 100


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_an_answer_that_is_none_is_said_in_a_line(repo, answer):
    for name, (method, pattern, call) in CALLS.items():
        if name == "file":  # any content is one
            continue
        repo.answers[:] = [(method, pattern, answer)]
        try:
            call()
        except Exception as e:
            error = explained(e, "asking", "me/x")
            assert "\n" not in str(error) and "asking (me/x)" in str(error), (name, e)


@pytest.mark.parametrize("answer", [
    BAD["null"], *(pytest.param(BAD[name], id=name, marks=pytest.mark.slow) for name in BAD if name != "null"),
])  # fmt: skip
def test_commands_at_answers_that_are_none(small_run, hub, monkeypatch, capsys, answer):  # noqa: F811
    """Whatever is asked while publishing, looking and comparing."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    publish_hub(small_run, "me/x", "annotate", say=lambda line: None)
    for method, pattern in (
        ("GET", "/whoami"), ("GET", "/api/datasets/me/x"), ("GET", "/tree/"), ("GET", "/refs"), ("POST", "/preupload/"),
        ("POST", "/lfs/objects/batch"), ("POST", "/commit/"), ("GET", "/resolve/"),
    ):  # fmt: skip
        hub.answers[:] = [(method, pattern, answer)]
        hub.objects.clear()
        with suppress(CuratorError):
            require_hub("me/x")
        for words in (
            ["publish", str(small_run), "me/x", "--policy", "filter"],
            ["publish", str(small_run), "me/x", "--dry-run"],
            ["diff", str(small_run), "me/x@v1"],
        ):
            code = main(words)
            error = capsys.readouterr().err
            assert code in (0, 2), error
            assert code == 0 or error.splitlines()[-1].startswith("error: "), error


@pytest.mark.parametrize("path", ["../x.parquet", "/etc/x.parquet", "data/../../x.parquet", "..\\x", "data//x", "./x"])
def test_a_list_that_leads_outside(small_run, hub, tmp_path, path, capsys):  # noqa: F811
    with pytest.raises(CuratorError, match="outside"):
        require_inside(["data/a.parquet", path])
    publish_hub(small_run, "me/x", "annotate", say=lambda line: None)
    repo = hub.repos["me/x"]
    files = repo.commits[repo.branches["main"]]
    files[path] = files[next(name for name in files if name.endswith(".parquet"))]
    capsys.readouterr()
    assert main(["publish", str(small_run), "me/x"]) == 2 and "outside of the repository" in capsys.readouterr().err
    assert main(["publish", str(small_run), "me/x", "--dry-run"]) == 0
    assert main(["diff", str(small_run), "me/x"]) in (0, 2)
    with suppress(CuratorError):
        load_table("me/x", overwrite_columns=True)
    assert not [p for p in tmp_path.rglob("x.parquet") if "snapshots" not in p.parts]
    assert not Path("/etc/x.parquet").exists() and not (tmp_path.parent / "x.parquet").exists()


@pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag", "X-Repo-Commit"])
def test_headers_that_would_be_paths(repo, tmp_path, header):
    def answer(handler) -> None:
        handler.reply(200, headers={"ETag": "a", "X-Repo-Commit": "b" * 40, header: "../../../out"}, body=b"hello")

    repo.instead("HEAD", "/resolve/", answer)
    repo.instead("GET", "/resolve/", answer)
    with pytest.raises(HubLimit, match="would be a path"):
        hf_hub_download("me/x", "README.md", repo_type="dataset")
    assert not list(tmp_path.rglob("out"))


def test_the_token_goes_to_the_hub_alone(repo):
    """Neither a redirect nor a link to the next page takes it elsewhere."""
    with loopback_hub() as (other, address):
        other.instead("GET", "", says(b"[]"))
        for answer in (
            lambda handler: handler.reply(307, headers={"Location": f"{address}/stolen"}),
            lambda handler: handler.reply(200, [], {"Link": f'<{address}/stolen>; rel="next"'}),
        ):
            repo.answers[:] = [("GET", "/tree/", answer)]
            HfApi().list_repo_files("me/x", repo_type="dataset")
        assert len(other.seen) == 2 and other.tokens_seen == ["", ""]
        assert "Bearer owner" in repo.tokens_seen


def test_limits_end_with_the_block(hub):  # noqa: F811
    from huggingface_hub.utils import _http

    before = _http._GLOBAL_CLIENT_FACTORY
    with hub_limits():
        with hub_limits():
            assert _http._GLOBAL_CLIENT_FACTORY is not before
        assert _http._GLOBAL_CLIENT_FACTORY is not before
    assert _http._GLOBAL_CLIENT_FACTORY is before


def test_tries_are_told_once(hub, caplog):  # noqa: F811
    from huggingface_hub.utils import _http

    def tries() -> list[str]:
        caplog.clear()
        for line in (
            "'x' thrown while requesting HEAD http://h",
            "Retrying in 1s [Retry 1/5].",
            "Rate limited. Waiting 9s",
        ):
            _http.logger.warning(line)
        return [record.getMessage() for record in caplog.records]

    for _ in range(2):
        with hub_limits(), hub_limits():
            assert [line.split()[0] for line in tries()] == ["the", "Rate"] and len(tries()) == 1
    assert len(tries()) == 3


def test_other_downloads_have_limits_too(monkeypatch):
    with loopback_hub() as (other, address):
        other.instead("GET", "/good", says(b"good"))
        other.instead("GET", "/endless", endless)
        other.instead("GET", "/drips", drips)
        monkeypatch.setattr(network, "ANSWER", 0.3)
        assert fetch(f"{address}/good", 10) == b"good"
        for name in ("endless", "drips"):
            with pytest.raises(OSError, match="does not end"):
                fetch(f"{address}/{name}", 2**20)
