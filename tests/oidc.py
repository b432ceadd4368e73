"""The Hub's login on this machine: authorize, token and userinfo, as OpenID Connect has them, with state and PKCE."""

import base64
import hashlib
import json
import secrets
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit


class Provider:
    """Accounts, and what they were asked and given."""

    def __init__(self, client: str, secret: str, scopes: str):
        self.client, self.secret, self.scopes = client, secret, scopes
        self.accounts: dict[str, dict] = {}  # name -> what userinfo says besides
        self.codes: dict[str, dict] = {}
        self.tokens: dict[str, str] = {}  # -> name
        self.back = ""  # the one address to send people back to
        self.expires = 28_800
        self.refused: list[str] = []

    def token(self, form: dict, authorization: str) -> dict | None:
        """A token for a code, once; None where anything is not as it was when the code was given."""
        given = self.codes.pop(form.get("code", ""), None)
        right = base64.b64encode(f"{self.client}:{self.secret}".encode()).decode()
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        for what, fits in (
            ("client", authorization == f"Basic {right}"),
            ("code", given is not None),
            ("back", given and form.get("redirect_uri") == given["redirect_uri"]),
            ("verifier", given and base64.urlsafe_b64encode(challenge).decode().rstrip("=") == given["code_challenge"]),
        ):
            if not fits:
                self.refused.append(what)
                return None
        token = f"hf_oauth_{secrets.token_hex(12)}"
        self.tokens[token] = given["as"]
        return {"access_token": token, "token_type": "bearer", "expires_in": self.expires, "scope": self.scopes}


def handler(provider: Provider):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def reply(self, status: int, value: object, **headers: str) -> None:
            body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(status)
            kind = "text/html; charset=utf-8" if isinstance(value, str) else "application/json"
            for name, text in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            here, url = f"http://{self.headers['Host']}", urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            if url.path == "/.well-known/openid-configuration":
                parts = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
                return self.reply(
                    200, {"issuer": here, **{f"{name}_endpoint": f"{here}/oauth/{p}" for name, p in parts.items()}}
                )
            if url.path == "/oauth/userinfo":
                name = provider.tokens.get((self.headers["Authorization"] or "").removeprefix("Bearer "))
                if name is None:
                    return self.reply(401, {"error": "invalid_token"})
                return self.reply(200, {"sub": f"id-{name}", "preferred_username": name, **provider.accounts[name]})
            if url.path != "/oauth/authorize":
                return self.reply(404, {"error": "no such page"})
            wanted = {"client_id": provider.client, "redirect_uri": provider.back, "response_type": "code"}
            wanted |= {"code_challenge_method": "S256", "scope": provider.scopes}
            if wrong := [name for name, value in wanted.items() if query.get(name) != value]:
                provider.refused += wrong
                return self.reply(400, {"error": wrong})
            if "as" not in query:
                links = (
                    f'<p><a href="{self.path}&as={name}">Authorize as {name}</a></p>' for name in provider.accounts
                )
                return self.reply(200, "".join(links))
            code = secrets.token_hex(8)
            provider.codes[code] = query
            return self.reply(302, "", Location=f"{provider.back}?{urlencode({'code': code, 'state': query['state']})}")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[-1] for name, values in parse_qs(body).items()}
            token = provider.token(form, self.headers["Authorization"] or "")
            return self.reply(400, {"error": "invalid_grant"}) if token is None else self.reply(200, token)

    return Handler


@contextmanager
def loopback_provider(client: str = "a-space", secret: str = "its-secret", scopes: str = "openid profile"):
    """A running provider and its address."""
    provider = Provider(client, secret, scopes)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(provider))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield provider, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
