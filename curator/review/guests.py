"""Who comes from the Hub: its login (OAuth, with state and PKCE), what they may do, and the door that asks for it.

The tokens stay in this process: the browser holds a random cookie alone. (Gradio's own login would keep the token in
a cookie that anybody who holds it can read, and has no PKCE.)
"""

from __future__ import annotations

import hmac
import secrets
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from curator.errors import CuratorError
from curator.review.door import SESSIONS, Door
from curator.review.logins import digest, require_name

LOGIN, CALLBACK = "/login/huggingface", "/login/callback"
PATIENCE = 600.0  # seconds until somebody is back from the Hub
WAIT = 20.0  # seconds that the Hub is waited for
HUB = "https://huggingface.co"  # which shows a Space in a frame
ASKED_OF = {
    "OPENID_PROVIDER_URL": "provider", "OAUTH_CLIENT_ID": "client", "OAUTH_CLIENT_SECRET": "secret",
    "OAUTH_SCOPES": "scopes",
}  # fmt: skip


@dataclass(frozen=True)
class Guest:
    """Somebody who has logged in.

    Attributes:
        name: account on the Hub.
        decides: whether decisions are taken; else it is only looking.
        owns: whether it is the Space's owner, who may push.
        token: for the Hub, in their name.
        until: when the login ends, in seconds since 1970.
    """

    name: str
    decides: bool
    owns: bool
    token: str = field(repr=False)
    until: float = 0.0


@dataclass(frozen=True)
class House:
    """The Space: whose it is, and who may decide.

    Attributes:
        owner: account or organisation.
        creator: the Hub's number of the account that made it, where it says so.
        reviewers: accounts that may decide; none: the owner, or all members of the organisation.
    """

    owner: str
    creator: str = ""
    reviewers: tuple[str, ...] = ()

    def guest(self, info: Mapping[str, Any], token: Mapping[str, Any]) -> Guest:
        """Who the Hub says it is.

        Raises:
            CuratorError: it does not say.
        """
        name, access = info.get("preferred_username"), token.get("access_token")
        if not isinstance(name, str) or not isinstance(access, str) or not access:
            raise CuratorError("the Hub does not say who has logged in")
        require_name(name, "the Hub's login")
        of = [org for org in info.get("orgs") or [] if isinstance(org, dict)]
        orgs = {org.get("preferred_username"): org.get("roleInOrg") for org in of}
        made = bool(self.creator) and hmac.compare_digest(str(info.get("sub")), self.creator)
        owns = name == self.owner or (self.owner in orgs and (made or orgs[self.owner] == "admin"))
        seconds = token.get("expires_in")
        until = time.time() + (float(seconds) if isinstance(seconds, int | float) else 3600.0)
        return Guest(name, owns or name in self.reviewers or self.owner in orgs, owns, access, until)


class Guests:
    """The Hub's login.

    Args:
        house: the Space.
        address: of the Space, to which the Hub sends people back.
        provider, client, secret, scopes: as the Hub gives them to a Space (see ASKED_OF).
    """

    def __init__(self, house: House, address: str, *, provider: str, client: str, secret: str, scopes: str):
        self.house, self.back = house, address.rstrip("/") + CALLBACK
        self._provider, self._client, self._secret, self._scopes = provider.rstrip("/"), client, secret, scopes
        self._begun: OrderedDict[bytes, tuple[str, str, float]] = OrderedDict()  # -> state, verifier, end
        self._lock = threading.Lock()
        self._endpoints: dict[str, str] = {}

    def begin(self) -> tuple[str, str]:
        """The Hub's address to go to, and a cookie by which this browser is known when it comes back."""
        cookie, state, verifier = (secrets.token_urlsafe(48) for _ in range(3))
        with self._lock:
            self._begun[digest(cookie)] = state, verifier, time.monotonic() + PATIENCE
            while len(self._begun) > SESSIONS:
                self._begun.popitem(last=False)
        with self._of_the_hub() as hub:
            address, _ = hub.create_authorization_url(
                self._endpoint("authorization_endpoint"), state=state, code_verifier=verifier
            )
        return str(address), cookie

    def finish(self, query: Mapping[str, list[str]], cookie: str) -> Guest:
        """Who it is that the Hub has sent back; a login is finished once, by the browser that began it.

        Raises:
            CuratorError: in words for the page of the login.
        """
        with self._lock:
            state, verifier, end = self._begun.pop(digest(cookie), ("", "", 0.0))
        given = query.get("state", [""])[-1]
        if not state or time.monotonic() > end or not hmac.compare_digest(digest(given), digest(state)):
            raise CuratorError("this login was not begun here, or too long ago; log in again")
        if not query.get("code", [""])[-1]:
            raise CuratorError("the Hub did not let you in; log in again")
        with self._of_the_hub() as hub:
            token = hub.fetch_token(
                self._endpoint("token_endpoint"), code=query["code"][-1], code_verifier=verifier,
                grant_type="authorization_code",
            )  # fmt: skip
            answer = hub.get(self._endpoint("userinfo_endpoint"))
            answer.raise_for_status()
            info = answer.json()
        if not isinstance(info, dict):
            raise CuratorError("the Hub does not say who has logged in")
        return self.house.guest(info, token)

    def _of_the_hub(self) -> Any:
        from authlib.integrations.httpx_client import OAuth2Client

        return OAuth2Client(
            self._client, self._secret, scope=self._scopes, redirect_uri=self.back, code_challenge_method="S256",
            timeout=WAIT,
        )  # fmt: skip

    def _endpoint(self, name: str) -> str:
        if not self._endpoints:
            import httpx

            found = httpx.get(f"{self._provider}/.well-known/openid-configuration", timeout=WAIT)
            found.raise_for_status()
            self._endpoints = {key: value for key, value in found.json().items() if isinstance(value, str)}
        return self._endpoints[name]


def settings_of(variables: Mapping[str, str]) -> dict[str, str]:
    """What the Hub tells a Space of its login.

    Raises:
        CuratorError: for a Space without one.
    """
    missing = [name for name in ASKED_OF if not variables.get(name)]
    if missing:
        raise CuratorError(f"{missing[0]} is not set: the Space's README.md should say hf_oauth: true")
    return {name: variables[variable] for variable, name in ASKED_OF.items()}


class HubDoor(Door):
    """The door of a Space: who comes in has logged in at the Hub, in a tab of its own.

    Args:
        guests: the Hub's login.
        hosts: names of the Space.
        app, ask, port, login_page: as of Door.
    """

    def __init__(
        self, app: Any, ask: Callable[[dict[str, Any], str], tuple[int, Any]], guests: Guests, hosts: Sequence[str],
        *, port: int, login_page: str,
    ):  # fmt: skip
        unsaid = secrets.token_urlsafe(24)  # no address lets anybody in
        super().__init__(app, ask, logins=None, token=unsaid, user="", port=port, login_page=login_page)
        self.sessions.clear()
        self.by_address, self.framed_by = False, HUB
        self.guests, self.hosts = guests, hosts
        self._in: dict[bytes, Guest] = {}

    def person(self, name: str) -> Guest | None:
        """The latest login of an account that has not ended."""
        now = time.time()
        found = (self._in.get(key) for key in reversed([*self.sessions]))
        return next((guest for guest in found if guest and guest.name == name and guest.until > now), None)

    def user_of(self, headers: dict[str, str]) -> str | None:
        """Who has logged in, until the Hub's word on it ends."""
        key = digest(self.cookie_of(headers))
        guest = self._in.get(key)
        if guest is not None and guest.until <= time.time():
            self.sessions.pop(key, None)
        return super().user_of(headers)

    def foreign(self, headers: dict[str, str]) -> bool:
        """Whether another site made the browser send it; a proxy may have another name for the Space."""
        return super().foreign(headers) and headers.get("origin", "") not in [f"https://{host}" for host in self.hosts]

    def set_cookie(self, value: str, scope: dict[str, Any], suffix: str = "") -> str:
        """As Door's, but sent when the Hub leads back here; in a frame of another site it is not."""
        secure = "; Secure" if self.guests.back.startswith("https:") else ""
        return f"{self.cookie}{suffix}={value}; Path=/; HttpOnly; SameSite=Lax{secure}"

    async def enter(
        self, scope: dict[str, Any], headers: dict[str, str], receive: Callable
    ) -> tuple[int, Any, dict[str, str]] | None:
        """The way to the Hub, and back from it."""
        from starlette.concurrency import run_in_threadpool

        path, method = scope["path"], scope["method"]
        if path not in (LOGIN, CALLBACK) or method != "GET":
            return None
        try:
            if path == LOGIN:
                address, cookie = await run_in_threadpool(self.guests.begin)
                cookie = self.set_cookie(cookie, scope, "-login") + f"; Max-Age={PATIENCE:.0f}"
                return 303, "", {"location": address, "set-cookie": cookie}
            query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=10)
            guest = await run_in_threadpool(self.guests.finish, query, self.cookie_of(headers, "-login"))
        except CuratorError as e:
            return 401, self.form(str(e)), {}
        except Exception as e:  # of the network, or an answer that is none; its text may hold the code or the token
            print(f"login failed: {type(e).__name__}", file=sys.stderr, flush=True)
            return 502, self.form("the Hub's login does not answer as it should; try again"), {}
        value = self.new_session(guest.name)
        self._in[digest(value)] = guest
        self._in = {key: held for key, held in self._in.items() if key in self.sessions}
        return 303, "", {"location": "/", "set-cookie": self.set_cookie(value, scope)}
