"""app.py as a process: who may ask what, and what is left of decisions when it is killed."""

import http.client
import json
import random
import subprocess
import threading
import urllib.parse
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from curator.cli import main
from curator.review.journal import Journal
from tests.review.serving import Server, serving, verified


@pytest.fixture(scope="module")
def server(run, tmp_path_factory):
    with serving(run, "--journal", tmp_path_factory.mktemp("journal") / "j.sqlite", "--reviewer", "ann") as server:
        yield server


def test_it_serves_this_machine_only(server):
    listening = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, text=True).stdout
    assert f"0100007F:{server.port:04X} 00000000:0000 0A" in listening
    assert f"00000000:{server.port:04X} 00000000:0000 0A" not in listening
    assert "Curator" in server.get("")[1]


def test_paths_are_refused(server, run):
    secret = run / "curation.json"
    probes = [
        *(f"gradio_api/file={path}" for path in ("/etc/passwd", secret, f"{run}/data", f"{run}/../out/curation.json")),
        f"file={secret}", "review.sqlite", "static/../../../../etc/passwd", "static/%2e%2e/%2e%2e/etc/passwd",
        "assets/..%2f..%2f..%2fetc/passwd", "gradio_api/proxy=http://127.0.0.1:1/",
    ]  # fmt: skip
    for probe in probes:
        status, text = server.get(probe)
        assert status >= 400 and "root:" not in text and "source_fingerprint" not in text, probe


def test_other_sites_and_names_are_refused(server):
    body = {"data": {"what": "hello"}, "component_id": component, "fn_name": "ask_session", "session_hash": "x"}
    path = "gradio_api/component_server/"
    own = f"127.0.0.1:{server.port}"
    assert server.post(path, body)[0] == 200
    assert server.post(path, body, Origin=f"http://{own}")[0] == 200
    evil = "http://evil.example"
    for headers in (
        {"Origin": evil}, {"Origin": "null"}, {"Host": "evil.example"}, {"Host": "evil.example", "Origin": evil},
        {"Origin": evil, "Content-Type": "text/plain"}, {"Origin": f"http://127.0.0.1:{server.port + 1}"},
        {"Origin": evil, "X-Forwarded-Host": "evil.example"}, {"Host": "[bad"}, {"Origin": "http://[bad"},
    ):  # fmt: skip
        assert server.post(path, body, **headers)[0] == 403, headers


def test_what_no_page_would_ask(server):
    assert "expected one of hello" in server.ask("__class__")["error"]
    assert "expected one of hello" in server.ask("_act")["error"]
    assert "order: expected one of" in server.ask("open", order="x")["error"]
    assert server.ask("detail", row=4000)["error"] == "no row 4000"
    assert server.ask("page", token="none", number=0) == {"gone": True}
    steps = [
        {"key": "k" * 12, "kind": "do", "rows": [[1, "keep", None]]},
        {"key": "short", "kind": "do", "rows": []},
        {"key": "a" * 12, "kind": "do", "rows": [[9999, "keep", None]]},
        {"key": "b" * 12, "kind": "do", "rows": [[2, "relabel", 77]]},
        {"key": "c" * 12, "kind": "do", "rows": [[2, "erase", None]]},
        {"key": "d" * 12, "kind": "do"},
        {"key": "e" * 12, "kind": "drop table"},
        {"key": "f" * 12, "kind": "do", "rows": [[3, "drop", 1]]},
    ]
    answer = server.save(reviewer="ann", steps=steps)
    assert answer["saved"] == ["k" * 12, "f" * 12] and len(answer["refused"]) == 6
    assert answer["rows"]["3"] == {"action": "drop", "label": None} and answer["history"][0] == answer["saved"]
    answer = server.save(reviewer="ann", steps=[{"key": f"undo-{i:08d}", "kind": "undo"} for i in range(2)])
    assert answer["rows"] == {"3": None, "1": None}


def paths(routes, prefix: str = "") -> set[str]:
    """Paths of all routes, those of included routers among them."""
    found = set()
    for route in routes:
        if hasattr(route, "path"):
            found.add(prefix + route.path)
        else:
            found |= paths(route.original_router.routes, prefix + route.include_context.prefix)
    return found


def test_every_route_needs_a_login(run, tmp_path):
    """All routes that the server has, and some that it does not have."""
    from curator.review.page import STARTED, build
    from curator.review.session import Session

    journal = tmp_path / "j.sqlite"
    session = Session([run], tmp_path / "other.sqlite")
    import gradio

    routes = paths(gradio.routes.App.create_app(build(session, "x")).routes)
    session.journal.close()
    assert len(routes) > 30 and "/gradio_api/component_server" in routes
    public = (STARTED, "/static", "/assets", "/svelte", "/login", "/theme.css", "/favicon.ico")
    with serving(run, "--auth", "ann:one", "ben:t:wo", "--journal", journal) as server:
        for route in sorted(routes | {"/gradio_api/component_server/", "/config", "/docs", "/openapi.json"}):
            if route == "/" or route.startswith(public):
                continue
            path = route.lstrip("/").replace("{", "").replace("}", "")
            assert server.get(path)[0] == 401, route
            assert server.post(path, {})[0] == 401, route
        status, text = server.get("")
        assert (
            status == 200
            and '"auth_required":true' in text.replace(" ", "")
            and "cr-grid" not in text
            and "Curator: " not in text
        )
        assert server.get("config", Cookie="access-token-unsecure-x=y")[0] == 401

        def login(name: str, password: str) -> str:
            form = urllib.parse.urlencode({"username": name, "password": password}).encode()
            request = urllib.request.Request(server.address + "login", form)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return "; ".join(c.split(";")[0] for c in answer.headers.get_all("Set-Cookie"))
            except urllib.error.HTTPError as e:
                return str(e.code)

        assert login("ann", "two") == "400"
        cookies = {name: login(name, password) for name, password in (("ann", "one"), ("ben", "t:wo"))}
        config = json.loads(server.get("config", Cookie=cookies["ann"])[1])
        component = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "curator")
        for name, cookie in cookies.items():
            step = {"key": f"step-of-{name}", "kind": "do", "rows": [[5, "drop" if name == "ann" else "keep", None]]}
            assert server.ask("hello", {"Cookie": cookie})["reviewer"] == name
            server.save(
                component,
                headers={"Cookie": cookie},
                reviewer=name,
                steps=[step],
            )
        assert server.ask("people", {"Cookie": cookies["ann"]})["verified"]["conflict"] == 1
    with closing(Journal(journal)) as kept:
        assert kept.reviewers() == {"ann": 1, "ben": 1}


def test_two_reviewers_at_once(run, tmp_path):
    """Two servers on one journal, each with a stream of decisions."""
    journal = tmp_path / "j.sqlite"
    words = [run, "--journal", journal, "--reviewer"]
    with serving(*words, "ann") as ann, serving(*words, "ben") as ben:

        def stream(server: Server, action: str, name: str) -> None:
                    for i in range(100):
                rows = [[i, action if i % 4 == 0 else "keep", None]]
                server.save(reviewer=name, steps=[{"key": f"{name}-step-{i}", "kind": "do", "rows": rows}])

        streams = [threading.Thread(target=stream, args=a) for a in ((ann, "drop", "ann"), (ben, "keep", "ben"))]
        for thread in streams:
            thread.start()
        for thread in streams:
            thread.join(120)
        people = ben.ask("people")
        assert people["reviewers"] == {"ann": 100, "ben": 100}
        (both,) = people["agreement"]
        assert both["rows"] == 100 and both["agreement"] == 0.75
        found = ann.ask("open", show="all", order="row", decided="conflicts")
        cards = ann.ask("page", token=found["token"], number=0)["cards"]
        assert [card["row"] for card in cards] == list(range(0, 100, 4))
        assert cards[0]["mine"]["action"] == "drop" and cards[0]["others"][0]["reviewer"] == "ben"


def killed_under_a_stream(run, journal, kills: int) -> None:
    """Decisions stream in while the server is killed at random moments; what it said was saved is in the journal."""
    rng = random.Random(0)
    server = Server(run, "--journal", journal, "--reviewer", "ann")
    shown: dict[str, tuple[int, str]] = {}
    sent = 0
    for _ in range(kills):
        server.start()
        timer = threading.Timer(rng.uniform(0.05, 0.8), server.kill)
        timer.start()
        try:
            while True:
                steps = []
                for _ in range(rng.randint(1, 4)):
                    sent += 1
                    act = rng.choice(["keep", "drop", "unsure"])
                    steps.append({"key": f"decision-{sent}", "kind": "do", "rows": [[sent % 400, act, None]]})
                answer = server.save(reviewer="ann", steps=steps)
                shown |= {s["key"]: (s["rows"][0][0], s["rows"][0][1]) for s in steps if s["key"] in answer["saved"]}
        except (OSError, http.client.HTTPException, AssertionError, json.JSONDecodeError):
            pass
        timer.join(30)
        assert server.process.poll() is not None
        with closing(Journal(journal)) as kept:
            query = "SELECT s.key, d.row, d.action FROM steps s JOIN decisions d ON d.step = s.id"
            there = {key: (row, action) for key, row, action in kept._db.execute(query)}
        assert shown.items() <= there.items()
    assert len(shown) > 20 * kills


def test_kills_under_a_stream(run, tmp_path):
    killed_under_a_stream(run, tmp_path / "j.sqlite", kills=4)


@pytest.mark.slow
def test_twenty_kills_under_a_stream(run, tmp_path):
    killed_under_a_stream(run, tmp_path / "j.sqlite", kills=20)


def test_flags_that_do_not_fit(run, server, tmp_path, capsys):
    def error(*words: object) -> str:
        assert main(["review", *map(str, words)]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: ")
        return lines[0]

    assert "add --auth NAME:PASSWORD" in error(run, "--host", "0.0.0.0")
    assert "expected NAME:PASSWORD" in error(run, "--auth", "annsecret") and "annsecret" not in error(
        run, "--auth", "annsecret"
    )
    assert "expected NAME:PASSWORD, a name once" in error(run, "--auth", "ann:a", "ann:b")
    assert "give only one" in error(run, "--auth", "ann:a", "--reviewer", "ben")
    assert "expected the output folder of a run" in error()
    assert "finished run" in error(tmp_path)
    assert f"--port {server.port}: the page cannot be served" in error(
        run, "--port", server.port, "--journal", tmp_path / "j"
    )
    assert not (run / "review.sqlite").exists()


def test_what_is_verified_comes_out(server, run):
    """Of the module's server: a step that shows as saved is what --trusted reads."""
    server.save(reviewer="ann", steps=[{"key": "a-last-step", "kind": "do", "rows": [[8, "relabel", 2]]}])
    journal = server.words[server.words.index("--journal") + 1]
    assert verified(Path(journal))[8] == "class 2"
