"""While the run is read, the server answers and says so; a run that cannot be read ends it with a line."""

import shutil

from starlette.testclient import TestClient

from curator.cli.main import main
from curator.review.door import Door
from tests.review.serving import free_port


async def page(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"the page"})


def test_it_says_what_it_does():
    waiting = "<!doctype html><p>{doing}</p><script>1</script>"
    door = Door(
        page, lambda call, who: (200, call), logins=None, token="t" * 16, user="ann", port=1, login_page="",
        waiting_page=waiting,
    )  # fmt: skip
    door.doing = "reading <i>runs"
    with TestClient(door, base_url="http://127.0.0.1:1") as client:
        assert client.get("/").status_code == 401  # not to everybody
        answer = client.get("/?token=" + "t" * 16)
        assert answer.status_code == 200 and "<p>reading &lt;i&gt;runs</p>" in answer.text
        assert "script-src 'sha256-" in answer.headers["content-security-policy"]
        answer = client.post("/ask", json={"what": "hello"})
        assert answer.status_code == 503 and answer.json() == {"error": "starting: reading <i>runs"}
        assert client.get("/assets/x.js").status_code == 503 and client.get("/nothing").status_code == 503
        door.doing = ""
        assert client.get("/").text == "the page" and client.post("/ask", json={"a": 1}).json() == {"a": 1}


def test_a_run_that_cannot_be_read_ends_it(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "data")
    assert main(["review", str(tmp_path / "run"), "--port", str(free_port())]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("the page: http://127.0.0.1:") and "ready" not in said.out
    (line,) = said.err.splitlines()
    assert line.startswith("error: ") and "found none" in line
