"""A Hub on this machine, for the real client: repositories of datasets and Spaces in memory, and faults on demand.

The fixture `hub` points the clients at it. What a request did is in `hub.seen`, a fault is put in with
`hub.fail("POST", "/commit/", 503, times=2)` (status 0: the connection is cut in the middle).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import datasets
import huggingface_hub.constants as hub_constants
import pytest


@dataclass
class Repo:
    """Commits by id, each a mapping of paths to object ids, and what points at them."""

    private: bool
    commits: dict[str, dict[str, str]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)  # refs/pr/1 -> commit
    messages: list[str] = field(default_factory=list)
    descriptions: list[str] = field(default_factory=list)  # of pull requests
    comments: list[tuple[int, str]] = field(default_factory=list)  # number of the discussion, text
    gated: bool = False  # its files are for those alone whom the owner has let in
    settings: dict[str, dict] = field(default_factory=dict)  # of a Space: secrets, variables, volumes, hardware

    def commit(self, files: dict[str, str], message: str) -> str:
        sha = hashlib.sha1(f"{len(self.commits)}{sorted(files.items())}".encode()).hexdigest()
        self.commits[sha] = files
        self.messages.append(message)
        return sha

    def find(self, revision: str) -> str | None:
        known = {**self.branches, **self.tags, **self.pulls}
        return known.get(revision) or (revision if revision in self.commits else None)


class Hub:
    """The state of the server."""

    def __init__(self):
        self.repos: dict[str, Repo] = {}  # of datasets
        self.models: dict[str, Repo] = {}
        self.spaces: dict[str, Repo] = {}
        self.buckets: dict[str, bool] = {}  # -> whether it is private
        self.orgs: dict[str, list[str]] = {}  # of a user
        self.objects: dict[str, bytes] = {}  # sha256 -> content
        self.uploads: list[str] = []  # sha256 of what was really sent
        self.seen: list[str] = []
        self.faults: list[list] = []  # [method, pattern, status, times]
        self.answers: list[tuple[str, str, Callable]] = []  # method, pattern, what answers instead of the Hub
        self.tokens_seen: list[str] = []
        self.tokens = {"owner": "me", "reader": "somebody"}
        self.lock = threading.Lock()

    def serve_model(self, name: str, files: dict[str, bytes], *, private: bool = False, gated: bool = False) -> str:
        """Put a repository of a model there, or another commit of it; back comes the commit."""
        known = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
        self.objects |= {oid: files[path] for path, oid in known.items()}
        repo = self.models.setdefault(name, Repo(private, gated=gated))
        repo.branches["main"] = repo.commit(known, "weights")
        return repo.branches["main"]

    def files(self, repo: Repo, revision: str = "main") -> dict[str, bytes]:
        """What a repository holds, by path."""
        return {path: self.objects[oid] for path, oid in repo.commits[repo.find(revision)].items()}

    def owns(self, user: str | None, name: str) -> bool:
        """Whether a user may write to a repository."""
        owner = name.split("/")[0]
        return user is not None and (user == owner or owner in self.orgs.get(user, []))

    def fail(self, method: str, pattern: str, status: int, times: int = 1) -> None:
        self.faults.append([method, pattern, status, times])

    def instead(self, method: str, pattern: str, answer: Callable) -> None:
        """Let a function of the handler answer what matches."""
        self.answers.append((method, pattern, answer))

    def fault(self, method: str, path: str) -> int | None:
        with self.lock:
            for fault in self.faults:
                if fault[0] == method and re.search(fault[1], path) and fault[3] > 0:
                    fault[3] -= 1
                    return fault[2]
        return None


def handler(hub: Hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or every answer waits 40 ms for the acknowledgement of its headers

        def log_message(self, *args):
            pass

        def reply(self, status: int, value=None, headers=None, body: bytes | None = None) -> None:
            content = body if body is not None else json.dumps({} if value is None else value).encode()
            self.send_response(status)
            for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def missing(self, code: str) -> None:
            self.reply(404, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline().strip() or b"0", 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def answer(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            hub.seen.append(f"{self.command} {path}")
            status = hub.fault(self.command, path)
            if status == 0:
                self.rfile.read(min(1000, int(self.headers.get("Content-Length") or 0)))
                self.connection.close()
                self.close_connection = True
                return
            body = self.body()
            hub.tokens_seen.append(self.headers.get("Authorization") or "")
            for method, pattern, answer in hub.answers:
                if method == self.command and re.search(pattern, path):
                    self.close_connection = True
                    with suppress(OSError):  # the client has had enough
                        answer(self)
                    return
            if status:
                self.reply(status, {"error": f"fault {status}"})
                return
            user = hub.tokens.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))
            with hub.lock:
                self.route(path, query, body, user)

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer

        def route(self, path: str, query: dict, body: bytes, user: str | None) -> None:
            address = f"http://{self.headers['Host']}"
            if path == "/api/whoami-v2":
                orgs = [{"name": name} for name in hub.orgs.get(user or "", [])]
                if user:
                    return self.reply(200, {"name": user, "type": "user", **({"orgs": orgs} if orgs else {})})
                return self.reply(401, {"error": "no"})
            if path == "/api/validate-yaml":
                return self.reply(200, {"errors": [], "warnings": []})
            if path == "/api/repos/create":
                wanted = json.loads(body)
                name = f"{wanted.get('organization') or user}/{wanted['name']}"
                if not hub.owns(user, name):
                    return self.reply(403 if user else 401, {"error": "not yours"})
                kind = f"{wanted.get('type', 'model')}s"
                known = hub.spaces if kind == "spaces" else hub.repos
                assert kind != "spaces" or wanted["sdk"] == "gradio"
                if name in known:
                    return self.reply(409, {"error": "exists", "url": f"{address}/{kind}/{name}"})
                repo = known[name] = Repo(private=bool(wanted.get("private")) or wanted.get("visibility") == "private")
                repo.branches["main"] = repo.commit({}, "initial commit")
                return self.reply(200, {"url": f"{address}/{kind}/{name}", "name": name})
            if m := re.fullmatch(r"/api/buckets/([\w.-]+/[\w.-]+)", path):
                if not hub.owns(user, m[1]):
                    return self.reply(403, {"error": "not yours"})
                there = m[1] in hub.buckets
                hub.buckets.setdefault(m[1], json.loads(body).get("visibility") == "private")
                return self.reply(409 if there else 200, {"id": m[1], "url": f"{address}/buckets/{m[1]}"})
            if m := re.fullmatch(r"/objects/(\w+)", path):
                hub.objects[m[1]] = body
                hub.uploads.append(m[1])
                return self.reply(200)
            m = re.match(r"(?:/api)?/(?:datasets|spaces)/([\w.-]+/[\w.-]+?)(\.git)?(/.*)?$", path)
            known = hub.spaces if "/spaces/" in path else hub.repos
            if not m:
                m = re.match(r"(?:/api/models)?/([\w.-]+/[\w.-]+?)()(/(?:revision|resolve|refs)\b.*)?$", path)
                known = hub.models
            if not m:
                return self.missing("EntryNotFound")
            name, rest = m[1], m[3] or ""
            repo = known.get(name)
            if repo is None or (repo.private and not hub.owns(user, name)):
                return (
                    self.missing("RepoNotFound")
                    if user
                    else self.reply(401, {"error": "log in"}, {"X-Error-Code": "RepoNotFound"})
                )
            writes = hub.owns(user, name)
            if known is hub.spaces and (m := re.fullmatch("/(secrets|variables|volumes|hardware)", rest)):
                return self.set(repo, m[1], json.loads(body)) if writes else self.reply(403, {"error": "not yours"})
            return self.in_repo(address, name, repo, rest, query, body, writes)

        def set(self, repo: Repo, kind: str, given: dict) -> None:
            """A setting of a Space."""
            held = repo.settings.setdefault(kind, {})
            held |= {given["key"]: given["value"]} if "key" in given else given
            if kind == "variables":
                return self.reply(200, {key: {"value": value} for key, value in held.items()})
            return self.reply(
                200, {"stage": "BUILDING", "hardware": {"current": None, "requested": given.get("flavor")}}
            )

        def in_repo(self, address, name, repo, rest, query, body, writes) -> None:
            if rest == "" or rest.startswith("/revision/"):
                sha = repo.find(unquote(rest.removeprefix("/revision/")) or "main")
                if sha is None:
                    return self.missing("RevisionNotFound")
                files = [
                    {"rfilename": path, "size": len(hub.objects[oid]), "blobId": oid}
                    for path, oid in sorted(repo.commits[sha].items())
                ]
                return self.reply(200, {
                    "id": name, "sha": sha, "private": repo.private, "tags": [], "siblings": files, "gated": False,
                    "disabled": False, "downloads": 0, "likes": 0, "lastModified": "2026-01-01T00:00:00.000Z",
                })  # fmt: skip
            if rest == "/refs":
                refs = {"branches": repo.branches, "tags": repo.tags}
                shown = {
                    kind: [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c} for n, c in known.items()]
                    for kind, known in refs.items()
                }
                return self.reply(200, {**shown, "converts": []})
            if m := re.fullmatch(r"/(branch|tag)/(.+)", rest):
                if not writes:
                    return self.reply(403, {"error": "not yours"})
                wanted = json.loads(body or b"{}")
                if m[1] == "branch":
                    known, label, start = repo.branches, unquote(m[2]), wanted.get("startingPoint") or "main"
                else:
                    known, label, start = repo.tags, wanted["tag"], unquote(m[2])
                if label in known:
                    return self.reply(409, {"error": "exists"})
                known[label] = repo.find(start)
                return self.reply(200)
            if m := re.fullmatch(r"/preupload/(.+)", rest):
                head = repo.commits[repo.find(unquote(m[1])) or repo.branches["main"]]
                files = [
                    {
                        "path": f["path"], "shouldIgnore": False, "oid": head.get(f["path"]),
                        "uploadMode": "lfs" if f["path"].endswith((".parquet", ".png")) else "regular",
                    }
                    for f in json.loads(body)["files"]
                ]  # fmt: skip
                return self.reply(200, {"files": files})
            if rest == "/info/lfs/objects/batch":
                objects = [
                    {
                        **o,
                        **(
                            {}
                            if o["oid"] in hub.objects
                            else {"actions": {"upload": {"href": f"{address}/objects/{o['oid']}", "header": {}}}}
                        ),
                    }
                    for o in json.loads(body)["objects"]
                ]
                return self.reply(
                    200, {"transfer": "basic", "objects": objects}, {"Content-Type": "application/vnd.git-lfs+json"}
                )
            if m := re.fullmatch(r"/discussions/(\d+)/comment", rest):
                text = json.loads(body)["comment"]
                repo.comments.append((int(m[1]), text))
                made = {
                    "id": "c1", "type": "comment", "createdAt": "2026-01-01T00:00:00.000Z", "author": {"name": "me"},
                    "data": {"edited": False, "hidden": False, "latest": {"raw": text, "updatedAt":
                             "2026-01-01T00:00:00.000Z", "author": {"name": "me"}}, "history": [], "numEdits": 0},
                }  # fmt: skip
                return self.reply(200, {"newMessage": made})
            if m := re.fullmatch(r"/commit/(.+)", rest):
                return self.commit(address, name, repo, unquote(m[1]), query, body, writes)
            if m := re.fullmatch(r"/tree/([^/]+)(?:/(.*))?", rest):
                sha, folder = repo.find(unquote(m[1])), unquote(m[2] or "")
                if sha is None:
                    return self.missing("RevisionNotFound")
                return self.tree(repo.commits[sha], folder, query.get("recursive", ["false"])[0].lower() == "true")
            if m := re.fullmatch(r"/paths-info/([^/]+)", rest):
                sha = repo.find(unquote(m[1]))
                wanted = parse_qs(body.decode()).get("paths", []) if body[:1] != b"{" else json.loads(body)["paths"]
                files = repo.commits.get(sha or "", {})
                return self.reply(200, [self.entry(p, files[p]) for p in wanted if p in files])
            if m := re.fullmatch(r"/resolve/([^/]+)/(.+)", rest):
                sha, file = repo.find(unquote(m[1])), unquote(m[2])
                if repo.gated:
                    return self.reply(403, {"error": "ask"}, {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask"})
                if sha is None:
                    return self.missing("RevisionNotFound")
                if file not in repo.commits[sha]:
                    return self.missing("EntryNotFound")
                return self.resolve(repo.commits[sha][file], sha)
            return self.missing("EntryNotFound")

        def commit(self, address, name, repo, revision, query, body, writes) -> None:
            pull = query.get("create_pr") == ["1"]
            if not writes and not pull and revision not in repo.pulls:
                return self.reply(403, {"error": "not yours"})
            head = repo.find(revision)
            if head is None:
                return self.missing("RevisionNotFound")
            files, message = dict(repo.commits[head]), ""
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "header":
                    message = value["summary"]
                    repo.descriptions += [value.get("description") or ""] * pull
                    if value.get("parentCommit") not in (None, head):
                        return self.reply(412, {"error": "the head has moved"})
                elif line["key"] == "file":
                    content = base64.b64decode(value["content"])
                    oid = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
                    hub.objects[oid] = content
                    files[value["path"]] = oid
                elif line["key"] == "lfsFile":
                    if value["oid"] not in hub.objects:
                        return self.reply(400, {"error": "an object is missing"})
                    files[value["path"]] = value["oid"]
                elif line["key"] == "deletedFile":
                    files.pop(value["path"], None)
            sha = repo.commit(files, message)
            answer = {"success": True, "commitOid": sha, "commitUrl": f"{address}/datasets/{name}/commit/{sha}"}
            if pull:
                number = len(repo.pulls) + 1
                repo.pulls[f"refs/pr/{number}"] = sha
                answer["pullRequestUrl"] = f"{address}/datasets/{name}/discussions/{number}"
            else:
                (repo.pulls if revision in repo.pulls else repo.branches)[revision] = sha
            return self.reply(200, answer)

        def entry(self, path: str, oid: str) -> dict:
            content = hub.objects[oid]
            lfs = {"lfs": {"oid": oid, "size": len(content), "pointerSize": 130}} if len(oid) == 64 else {}
            return {"type": "file", "oid": oid, "size": len(content), "path": path, **lfs}

        def tree(self, files: dict[str, str], folder: str, recursive: bool) -> None:
            inside = {p: oid for p, oid in files.items() if not folder or p.startswith(folder + "/")}
            if folder and not inside:
                return self.missing("EntryNotFound")
            cut = len(folder) + 1 if folder else 0
            entries = [self.entry(p, oid) for p, oid in sorted(inside.items()) if recursive or "/" not in p[cut:]]
            folders = {p[: cut + p[cut:].index("/")] for p in inside if "/" in p[cut:]}
            entries += [{"type": "directory", "oid": "0", "size": 0, "path": p} for p in sorted(folders)]
            return self.reply(200, entries)

        def resolve(self, oid: str, sha: str) -> None:
            content = hub.objects[oid]
            headers = {
                "ETag": f'"{oid}"',
                "X-Repo-Commit": sha,
                "Accept-Ranges": "bytes",
                "Content-Type": "application/octet-stream",
            }
            if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
                start, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
                headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
                return self.reply(206, headers=headers, body=content[start : end + 1])
            return self.reply(200, headers=headers, body=content)

    return Handler


@contextmanager
def loopback_hub():
    """A running Hub and its address."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)  # its end is not waited for long
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub that the clients of this process, and of those it starts, use with the owner's token."""
    with loopback_hub() as (hub, address):
        for name, value in {
            "ENDPOINT": address, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True,
            "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_DISABLE_PROGRESS_BARS": True,
        }.items():  # fmt: skip
            monkeypatch.setattr(hub_constants, name, value)
        for name, value in {
            "HF_ENDPOINT": address,
            "HF_HUB_OFFLINE": False,
            "HF_DATASETS_CACHE": tmp_path / "ds",
        }.items():
            monkeypatch.setattr(datasets.config, name, value)
        theirs = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "owner"}
        for name, value in theirs.items():
            monkeypatch.setenv(name, value)
        yield hub
