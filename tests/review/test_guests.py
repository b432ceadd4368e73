"""Logins of the Hub, what an account may do in a Space, and when a decision there is saved."""

import asyncio
import time
from contextlib import closing
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from curator.decisions.journal import Journal
from curator.errors import CuratorError
from curator.review.copies import Copies
from curator.review.door import HEADERS
from curator.review.guests import CALLBACK, LOGIN, Guest, Guests, House, HubDoor, settings_of
from curator.review.space import SpaceSession
from tests.decisions.steps import FACTS, do, labels
from tests.oidc import loopback_provider
from tests.review.serving import shown

HOSTS = ["me-pets.hf.space", "pets.example.org"]


@pytest.fixture(scope="module")
def provider():
    with loopback_provider() as (provider, address):
        provider.accounts = {
            "me": {}, "julia": {}, "x\u202ey": {},
            "member": {"orgs": [{"preferred_username": "zoo", "roleInOrg": "read"}]},
            "admin": {"orgs": [{"preferred_username": "zoo", "roleInOrg": "admin"}, "odd"]},
        }  # fmt: skip
        provider.address = address
        yield provider


def door_of(provider, owner="me", reviewers=("julia",)):
    names = {"client": provider.client, "secret": provider.secret, "scopes": provider.scopes}
    guests = Guests(House(owner, "", reviewers), f"https://{HOSTS[0]}/", provider=provider.address, **names)
    provider.back = guests.back

    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the page"})

    return HubDoor(
        page, lambda call, who: (200, {"who": who}), guests, HOSTS, port=7860, login_page="<!doctype html>{said}"
    )


def get(door, path, cookie="", method="GET", **headers):
    """Status, headers and text of a request."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"{}"}

    path, _, query = path.partition("?")
    named = {"host": HOSTS[0], "cookie": cookie, "content-type": "application/json", **headers}
    asyncio.run(
        door(
            {
                "type": "http", "method": method, "path": path, "query_string": query.encode(), "scheme": "http",
                "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            },
            receive,
            send,
        )
    )  # fmt: skip
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"].decode()


def begun(door, name):
    """The way back from the Hub, of somebody who is let in there, and the cookie of their browser."""
    status, headers, _ = get(door, LOGIN)
    assert status == 303 and "HttpOnly; SameSite=Lax; Secure; Max-Age=600" in headers["set-cookie"]
    answer = httpx.get(headers["location"] + f"&as={name}")
    assert answer.status_code == 302, answer.text
    back = urlsplit(answer.headers["location"])
    return f"{back.path}?{back.query}", headers["set-cookie"].split(";")[0]


def logged_in(door, name):
    status, headers, _ = get(door, *begun(door, name))
    assert status == 303 and headers["location"] == "/" and "HttpOnly; SameSite=Lax; Secure" in headers["set-cookie"]
    return headers["set-cookie"].split(";")[0]


def test_the_way_in_and_out(provider, monkeypatch, capsys):
    door = door_of(provider)
    status, headers, text = get(door, "/")
    assert status == 401 and text == "<!doctype html>" and "x-frame-options" not in headers
    assert "frame-ancestors https://huggingface.co" in headers["content-security-policy"]
    cookie = logged_in(door, "julia")
    status, headers, text = get(door, "/", cookie)
    assert (status, text) == (200, "the page") and headers["x-frame-options"] == HEADERS["x-frame-options"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert get(door, "/ask", cookie, "POST")[2] == '{"who": "julia"}'
    assert get(door, "/ask", cookie, "POST", origin=f"https://{HOSTS[1]}")[0] == 200
    for origin in ("https://evil.example", "null", "https://huggingface.co", f"http://{HOSTS[1]}"):
        assert get(door, "/ask", cookie, "POST", origin=origin)[0] == 403
    token = door.person("julia").token
    assert token.startswith("hf_oauth_") and token not in repr(door.person("julia")) and token not in cookie
    assert get(door, "/logout", cookie, "POST")[0] == 303 and get(door, "/", cookie)[0] == 401
    assert door.person("julia") is None  # nobody acts in her name any more
    cookie = logged_in(door, "me")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + provider.expires + 1)
    assert get(door, "/", cookie)[0] == 401 and get(door, "/ask", cookie, "POST")[0] == 401  # the Hub's word has ended
    assert door.person("me") is None and capsys.readouterr() == ("", "")


def test_what_is_no_login(provider, monkeypatch, capsys):
    door = door_of(provider)
    back, cookie = begun(door, "julia")
    query = parse_qs(urlsplit(back).query)
    (code,), (state,) = query["code"], query["state"]
    for words in (
        (back,),
        (back, "curator-7860-login=forged"),
        (back, begun(door, "me")[1]),  # another browser's
        (f"{CALLBACK}?code={code}&state=forged", begun(door, "me")[1]),
        (f"{CALLBACK}?code={code}", begun(door, "me")[1]),
        (f"{CALLBACK}?error=access_denied&state={state}", cookie),  # and it is used up
        (back, cookie),
    ):
        assert get(door, *words)[0] == 401 and not door.sessions, words
    assert not provider.refused and code in provider.codes  # the Hub was not asked
    for form in ("/?token=x", "/login"):
        assert get(door, form)[0] == 401
    late, cookie = begun(door, "julia")
    (mine,) = parse_qs(urlsplit(late).query)["state"]
    assert get(door, f"{CALLBACK}?code={code}&state={mine}", cookie)[0] == 502  # a code of another verifier
    assert provider.refused == ["verifier"] and not door.sessions
    back, cookie = begun(door, "x\u202ey")
    assert get(door, back, cookie)[0] == 401
    assert capsys.readouterr().err == "login failed: OAuthError\n"  # neither code nor token
    door.guests._endpoints = {name: "http://127.0.0.1:9/" for name in door.guests._endpoints}
    assert get(door, LOGIN)[0] == 303
    with pytest.raises(CuratorError, match="OAUTH_CLIENT_SECRET is not set: .* hf_oauth: true"):
        settings_of({"OPENID_PROVIDER_URL": "x", "OAUTH_CLIENT_ID": "x", "OAUTH_SCOPES": "x"})


@pytest.mark.parametrize(
    "owner, reviewers, decide, own",
    [
        ("me", (), {"me"}, {"me"}),
        ("me", ("julia",), {"me", "julia"}, {"me"}),
        ("zoo", (), {"member", "admin"}, {"admin"}),
        ("zoo", ("julia",), {"member", "admin", "julia"}, {"admin"}),
    ],
)
def test_who_may_what(provider, owner, reviewers, decide, own):
    house = House(owner, "", reviewers)
    guests = [
        house.guest({"preferred_username": name, **info}, {"access_token": "t", "expires_in": 9})
        for name, info in provider.accounts.items()
        if name.isalpha()
    ]
    assert {g.name for g in guests if g.decides} == decide and {g.name for g in guests if g.owns} == own
    made = House("zoo", "id-7").guest(
        {"sub": "id-7", "preferred_username": "member", **provider.accounts["member"]}, {"access_token": "t"}
    )
    assert made.owns
    for info, token in (
        ({}, {"access_token": "t"}),
        ({"preferred_username": "me"}, {}),
        ({"preferred_username": 3}, {}),
    ):
        with pytest.raises(CuratorError, match="does not say who"):
            house.guest(info, token)


def test_copies(tmp_path):
    """Many decisions in one copy, tried again where it fails, and the last ones at the end."""
    with closing(Journal(tmp_path / "j.sqlite", FACTS)) as journal:
        made, fail = [], [True]

        def put(file):
            if fail[0]:
                raise OSError("https://hub/?token=secret")
            made.append(file.read_bytes())

        copies = Copies(journal, put, every=10_000, seconds=3600, pause=0.0)
        assert copies.wait(0)  # nothing is new
        for i in range(5):
            journal.save([do(str(i), (i, "keep", "cat"))], "ann")
            copies.look()
        assert not copies.wait(0.3) and not made
        fail[0] = False
        assert copies.wait(20) and len(made) == 1
        (tmp_path / "copy").write_bytes(made[0])
        with closing(Journal(tmp_path / "copy")) as copy:
            assert set(labels(copy)) == {0, 1, 2, 3, 4}
        journal.save([do("last", (9, "keep", "cat"))], "ann")
        assert copies.close() and len(made) == 2
        assert Copies(journal, put).close() and len(made) == 2
        assert Copies(journal, put, behind=True).close() and len(made) == 3  # of a process that was killed


def test_a_session_of_a_space(small_run, tmp_path):
    """Lookers save nothing; where the disk goes with the Space, what is saved is in a copy first."""
    people = {
        name: Guest(name, name != "guest", name == "me", f"token-{name}", time.time() + 99)
        for name in ("me", "julia", "guest")
    }
    made, gone = [], [True]

    class Late(Copies):
        def wait(self, seconds):
            return super().wait(0.2)

    def put(file):
        if gone[0]:
            raise OSError
        made.append(file.read_bytes())

    session = SpaceSession(
        small_run, tmp_path / "j.sqlite", "me", people.get, stored=False, copies=lambda of: Late(of, put, pause=0.0)
    )
    step = {"key": "a-decision", "kind": "do", "rows": [[3, "keep", None]]}
    try:
        for name, decides in (("me", True), ("julia", True), ("guest", False)):
            hello = session.hello({}, name)
            assert (hello["decides"], hello["publishes"], hello["space"]) == (decides, decides, {"owns": name == "me"})
        for call, data in (
            (session.save, {"steps": [step]}), (session.audit, {"size": 5}), (session.publish, {"target": "me/x"}),
            (session.publishing, {}),
        ):  # fmt: skip
            with pytest.raises(CuratorError, match="you may look, but not decide"):
                call({**shown(session, "guest"), **data}, "guest")
            with pytest.raises(CuratorError, match="log in again"):
                call({**shown(session, "nobody"), **data}, "nobody")
        assert session.audit({}, "guest") == {"rows": []}
        with pytest.raises(CuratorError, match="has not taken the copy yet"):
            session.save({**shown(session, "julia"), "steps": [step]}, "julia")
        gone[0] = False
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:  # as the page does: it sends them again
            try:
                assert session.save({**shown(session, "julia"), "steps": [step]}, "julia")["saved"] == ["a-decision"]
                break
            except CuratorError:
                continue
        (tmp_path / "copy").write_bytes(made[-1])
        with closing(Journal(tmp_path / "copy")) as copy:
            assert set(labels(copy, "julia")) == {3}
        with pytest.raises(CuratorError, match="space pull brings"):
            session.export({}, "me")
        begun = []
        session._publishing.start = lambda data, token=None: begun.append((data, token))
        for name, target, expected in (
            ("julia", str(tmp_path), "a Space has no folders"),
            ("julia", "else/x", "expected a dataset of me"),
            ("me", "./x", "a Space has no folders"),
        ):
            with pytest.raises(CuratorError, match=expected):
                session.publish({**shown(session, name), "target": target}, name)
        for more in ({"create_pr": False}, {"branch": "b"}, {"public": True}, {"tag": "v1"}):
            with pytest.raises(CuratorError, match="only the owner of this Space pushes"):
                session.publish({**shown(session, "julia"), "target": "me/x", **more}, "julia")
        for name, more in (("julia", {}), ("julia", {"create_pr": True}), ("me", {}), ("me", {"create_pr": True})):
            data = {
                **shown(session, name),
                "target": "me/x",
                **({"branch": "b", "public": True} if name == "me" else {}),
            }
            session.publish({**data, **more}, name)
        assert [token for _, token in begun] == ["token-julia", "token-julia", None, "token-me"]
        assert all(
            data["create_pr"] and "branch" not in data and "public" not in data for data, token in begun if token
        )
        assert begun[2][0]["branch"] == "b"
    finally:
        session.copies.close()
        session.journal.close()
