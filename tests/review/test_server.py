"""app.py as a process: who may ask what, and what is left of decisions when it is killed."""

import contextlib
import http.client
import json
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
import uvicorn

from curator.cli.main import main
from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.review.door import Door
from curator.review.page import token_of
from tests.review.serving import Server, serving, verified


@pytest.fixture(scope="module")
def server(run, tmp_path_factory):
    words = [run, "--journal", tmp_path_factory.mktemp("journal") / "j.sqlite", "--reviewer", "ann"]
    with serving(*words, launcher=[sys.executable, "app.py"]) as server:
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
        "assets/..%2f..%2f..%2fetc/passwd", "gradio_api/proxy=http://127.0.0.1:1/", "assets//etc/passwd",
        "static/%2fetc/passwd", "assets/%00/etc/passwd", "assets/" + "a" * 5000,
    ]  # fmt: skip
    for probe in probes:
        status, text = server.get(probe)
        assert 400 <= status < 500 and "root:" not in text and "source_fingerprint" not in text, (probe, status)


def test_other_sites_and_names_are_refused(server):
    body = {"what": "hello"}
    own = f"127.0.0.1:{server.port}"
    assert server.post("ask", body)[0] == 200
    assert server.post("ask", body, Origin=f"http://{own}")[0] == 200
    evil = "http://evil.example"
    for headers in (
        {"Origin": evil}, {"Origin": "null"}, {"Host": "evil.example"}, {"Host": "evil.example", "Origin": evil},
        {"Origin": evil, "Content-Type": "text/plain"}, {"Origin": f"http://127.0.0.1:{server.port + 1}"},
        {"Origin": evil, "X-Forwarded-Host": "evil.example"}, {"Host": "[bad"}, {"Origin": "http://[bad"},
    ):  # fmt: skip
        assert server.post("ask", body, **headers)[0] == 403, headers
    assert server.post("ask", body, **{"Content-Type": "text/plain"})[0] == 415  # what a form of another site can send


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


@pytest.fixture(scope="module")
def routes():
    """All routes that Gradio has, and some that it does not have."""
    from curator.review.page import build

    found = paths(build().routes)
    mounted = paths(next(route for route in build().routes if hasattr(route, "app")).app.routes)
    assert len(mounted) > 30 and "/gradio_api/upload" in mounted and "/login" in mounted
    more = {"/gradio_api/component_server/", "/docs", "/openapi.json", "/redoc", "/nothing", "//", "/ask/x", "/asked"}
    return sorted({route.replace("{", "").replace("}", "") for route in found | mounted | more})


def test_unused_routes_are_closed(server, routes):
    opened = ("", "/", "/theme.css", "/favicon.ico")
    for route in routes:
        if route in opened or route.startswith(("/static", "/assets")):
            assert server.post(route[1:], {})[0] in (404, 405), route
            continue
        for status, text in (server.get(route[1:]), server.post(route[1:], {})):
            assert status == 404 and text == "no such page", route


def test_headers_of_every_answer(server, routes):
    """Refused ones, Gradio's own, errors and redirects among them."""
    asked = [("GET", route or "/", {"Cookie": server.cookie}) for route in routes]
    asked += [("GET", "/", {}), ("POST", "/ask", {"Cookie": server.cookie}), ("GET", "/", {"Host": "evil.example"})]
    asked += [("HEAD", "/", {"Cookie": server.cookie}), ("GET", f"/?token={server.token}", {}), ("PUT", "/", {})]
    asked += [("GET", "/static/img/logo.svg", {"Cookie": server.cookie}), ("OPTIONS", "/ask", {})]
    for method, path, headers in asked:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request(method, path, headers=headers)
        found = connection.getresponse().headers
        connection.close()
        policy = dict(rule.split(" ", 1) for rule in found["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["object-src"] == policy["frame-ancestors"] == "'none'", path
        assert policy["form-action"] == "'self'" and "'unsafe-inline'" not in policy["script-src"], path
        assert found["X-Frame-Options"] == "DENY" and found["X-Content-Type-Options"] == "nosniff", path
        assert found["Referrer-Policy"] == "same-origin" and found["Cross-Origin-Resource-Policy"] == "same-origin", (
            path
        )
        assert "Server" not in found and "Access-Control-Allow-Origin" not in found, path


def test_the_printed_address(run, tmp_path):
    """Without accounts only who has it comes in; a rerun has another one."""
    with serving(run, "--journal", tmp_path / "j.sqlite", "--reviewer", "ann") as server:
        for path, headers in (
            ("", {}), ("config", {}), ("gradio_api/info", {}), ("static/img/logo.svg", {}), ("logout", {}),
            ("login", {}),
            ("", {"Cookie": f"curator-{server.port}=x"}), ("", {"Cookie": f"curator-{server.port}="}),
            ("?token=", {}), ("?token=wrong", {}), (f"?token={server.token}x", {}), ("?token=%ff", {}),
            ("", {"Cookie": server.cookie.replace(str(server.port), "1")}), (f"config?token={server.token}", {}),
        ):  # fmt: skip
            status, text = server.get(path, **{"Cookie": "", **headers})
            assert status == 401 and "open the address that was printed when this server was started" in text, path
        status, text = server.post("ask", {"what": "hello"}, Cookie="")
        assert (
            status == 401
            and "open the address that was printed when this server was started" in json.loads(text)["error"]
        )
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", f"/?token={server.token}")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"], answer.headers["Cache-Control"]) == (303, "./", "no-store")
        assert answer.headers["Set-Cookie"] == f"{server.cookie}; Path=/; HttpOnly; SameSite=Strict"
        connection.close()
        assert server.get("")[0] == 200 and server.token not in server.get("")[1] + server.cookie
        assert server.said() == ""  # no log has the token
        server.kill()
        server.token = "another-token-another-token"
        before = server.cookie
        server.start()
        assert server.get("", Cookie=before)[0] == 401 and server.get("")[0] == 200


def test_a_token_of_ones_own():
    first, second = token_of({}), token_of({"CURATOR_TOKEN": ""})
    assert first != second and len(first) == 32 and token_of({"CURATOR_TOKEN": "x" * 16}) == "x" * 16
    for text in ("short", "x" * 300, "with a space in it", "ümlaut-ümlaut-ümlaut"):
        with pytest.raises(CuratorError, match="CURATOR_TOKEN: expected 16 to 200 letters"):
            token_of({"CURATOR_TOKEN": text})


def test_every_route_needs_a_login(run, tmp_path, routes):
    journal = tmp_path / "j.sqlite"
    with serving(run, "--auth", "ann:one", "ben:t:wo", "--journal", journal) as server:
        for route in set(routes) - {"/login"}:
            for status, text in (server.get(route[1:]), server.post(route[1:], {})):
                assert status == 401, route
                assert "log in again" in text or "<form" in text, route
        assert "cr-grid" not in server.get("")[1] and "out" not in server.get("")[1].lower().split()
        assert server.get("config", Cookie=f"curator-{server.port}=y")[0] == 401
        assert server.get(f"?token={server.token}")[0] == 401
        assert server.login("ann", "two") == (401, "") and "wrong tries: 1" in server.said()
        time.sleep(1.1)
        cookies = {name: server.login(name, password)[1] for name, password in (("ann", "one"), ("ben", "t:wo"))}
        for name, cookie in cookies.items():
            step = {"key": f"step-of-{name}", "kind": "do", "rows": [[5, "drop" if name == "ann" else "keep", None]]}
            assert server.ask("hello", {"Cookie": cookie})["reviewer"] == name
            server.save(name, [step], Cookie=cookie)
        assert server.ask("people", {"Cookie": cookies["ann"]})["verified"]["conflict"] == 1
        assert server.get("logout", Cookie=cookies["ann"]) == (405, "log out with a POST")
        assert server.get("", Cookie=cookies["ann"])[0] == 200
        assert server.post("logout", {}, Cookie=cookies["ann"], Origin="http://evil.example")[0] == 403
        server.post("logout", {}, Cookie=cookies["ann"])
        assert server.get("", Cookie=cookies["ann"])[0] == 401 and server.get("", Cookie=cookies["ben"])[0] == 200
    with closing(Journal(journal)) as kept:
        assert kept.reviewers() == {"ann": 1, "ben": 1}


def raw(server, content: bytes, seconds: float = 30) -> bytes:
    """What comes back of bytes that no client would send, until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        connection.sendall(content)
        found = b""
        while more := connection.recv(65536):
            found += more
        return found


def test_bodies_that_are_no_calls(server):
    """Each is a 4xx with a line, and the server goes on."""
    save = b'{"what": "save", "steps": %s}'
    for body in (
        b"", b"null", b"[]", b"5", b'"hello"', b"{", b"{}", b'{"what": {}}', b'{"what": "__class__"}', b"\xff\xfe",
        b"\0",
        b"[" * 1_000_000, b'{"a":' * 200_000, b'{"what": NaN}', b'{"what": "detail", "row": -Infinity}',
        b'{"what": "detail", "row": ' + b"9" * 10_000 + b"}", b'{"what": "detail", "row": 1e999}',
        b'{"what": "page", "token": "\\ud800", "number": 0}', save % b"1", save % b"{}", b"data=x",
    ):  # fmt: skip
        request = urllib.request.Request(
            server.root + "ask", body, {"Content-Type": "application/json", "Cookie": server.cookie}
        )
        status, text = server._send(request)
        assert status == 400 and json.loads(text)["error"], (body[:60], status)
    for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "X"):
        request = urllib.request.Request(server.root + "ask", headers={"Cookie": server.cookie}, method=method)
        assert server._send(request)[0] == 405, method
    assert server.ask("hello")["reviewer"] == "ann" and server.said() == ""


def test_bodies_that_are_too_large(server):
    """Said to be, or sent in chunks without saying so."""
    lines = "POST /ask HTTP/1.1", "Host: 127.0.0.1", f"Cookie: {server.cookie}", "Content-Type: application/json", ""
    head = "\r\n".join(lines).encode()
    for length in (b"16777217", b"9" * 19):
        assert b" 413 " in raw(server, head + b"Connection: close\r\nContent-Length: " + length + b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):  # it is closed while we send
            for _ in range(20):
                connection.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
        with contextlib.suppress(ConnectionError):
            assert b" 413 " in connection.recv(65536)
    body = json.dumps({"what": "page", "token": "x" * (15 << 20), "number": 0}).encode()
    status, text = server._send(
        urllib.request.Request(server.root + "ask", body, {"Content-Type": "application/json", "Cookie": server.cookie})
    )
    assert (status, json.loads(text)) == (200, {"gone": True})
    assert server.ask("hello")["reviewer"] == "ann"


def test_too_many_connections(server):
    """Of one address: the rest is refused, and the first are closed when they say nothing."""
    opened = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(80)]
    refused = 0
    for connection in opened[64:]:
        with contextlib.suppress(ConnectionError):
            refused += b" 503 " in connection.recv(1000)
    assert refused >= 16
    for connection in opened:
        connection.close()
    for _ in range(50):  # they are not closed at once
        with contextlib.suppress(OSError, AssertionError):
            assert server.ask("hello")["reviewer"] == "ann"
            break
        time.sleep(0.1)
    else:
        raise AssertionError("nobody comes in any more")


def test_slow_headers_and_bodies(monkeypatch):
    """A byte now and then does not hold a connection; the server's own patience, shortened."""
    from curator.review import door as doors
    from curator.review import server as servers

    monkeypatch.setattr(servers, "HEADERS", 1.0)
    monkeypatch.setattr(doors, "SECONDS", 1.0)
    door = Door(None, lambda call, who: (200, call), logins=None, token="t" * 16, user="ann", port=1, login_page="")
    listening = servers.listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    config = uvicorn.Config(door, http=servers.Protocol, ws="none", lifespan="off", log_level="error")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
            start = time.monotonic()
            with contextlib.suppress(ConnectionError):
                while time.monotonic() < start + 8:
                    slow.sendall(b"G")
                    time.sleep(0.2)
            assert time.monotonic() < start + 5
        with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
            cookie = f"curator-1={door.key}"
            head = f"POST /ask HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\nContent-Type: application/json\r\n"
            slow.sendall(f"{head}Content-Length: 9\r\n\r\n{{".encode())
            assert b" 408 " in slow.recv(1000)
    finally:
        running.should_exit = True
        thread.join(10)


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
        assert server.ended()
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
    (tmp_path / "people").write_text("annsecret\n")
    (tmp_path / "people").chmod(0o600)
    assert "expected NAME:PASSWORD" in error(run, "--auth-file", tmp_path / "people")
    assert "give only one" in error(run, "--auth-file", tmp_path / "people", "--auth", "ann:a")
    assert "no such file" in error(run, "--auth-file", tmp_path / "none")
    assert "--reviewer: expected a name" in error(run, "--reviewer", "a\nb")
    assert "--port 99999: expected" in error(run, "--port", 99999)
    assert "give only one" in error(run, "--auth", "ann:a", "--reviewer", "ben")
    assert "expected the output folder of a run" in error()
    assert "finished run" in error(tmp_path)
    assert f"--host 127.0.0.1 --port {server.port}: the page cannot be served" in error(
        run, "--port", server.port, "--journal", tmp_path / "j"
    )
    assert not (run / "review.sqlite").exists()


def test_what_is_verified_comes_out(server, run):
    """Of the module's server: a step that shows as saved is what --verified reads."""
    server.save(reviewer="ann", steps=[{"key": "a-last-step", "kind": "do", "rows": [[8, "relabel", 2]]}])
    journal = server.words[server.words.index("--journal") + 1]
    assert verified(Path(journal))[8] == "class 2"
