"""A pushed Space as the Hub runs it: its files in a folder, its variables and secrets, a mounted bucket, a login."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT
from tests.hub import Hub
from tests.oidc import Provider
from tests.review.serving import free_port


class RunningSpace:
    """A Space of the loopback Hub; it can be stopped and started again."""

    def __init__(
        self, hub: Hub, name: str, folder: Path, provider: Provider, issuer: str, python: str = sys.executable
    ):
        self.name, self.folder, self.python, self.port = name, folder, python, free_port()
        space = hub.spaces[name]
        for path, content in hub.files(space).items():
            (folder / "app").mkdir(parents=True, exist_ok=True)
            (folder / "app" / path).write_bytes(content)
        self.mount = folder / "mount"
        self.mount.mkdir()
        provider.back = f"{self.address}login/callback"
        variables = space.settings["variables"]
        if variables.get("CURATOR_STORAGE"):
            assert variables["CURATOR_STORAGE"] == space.settings["volumes"]["volumes"][0]["mountPath"]
            variables = {**variables, "CURATOR_STORAGE": str(self.mount)}
        kept = ("PATH", "HOME", "LANG", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "LD_LIBRARY_PATH")
        self.variables = {
            **{name: os.environ[name] for name in kept if name in os.environ},
            **variables,
            **space.settings["secrets"],
            "SPACE_ID": name, "SPACE_HOST": f"127.0.0.1:{self.port}", "OPENID_PROVIDER_URL": issuer,
            "OAUTH_CLIENT_ID": provider.client, "OAUTH_CLIENT_SECRET": provider.secret,
            "OAUTH_SCOPES": provider.scopes, "GRADIO_SERVER_PORT": str(self.port), "GRADIO_SERVER_NAME": "127.0.0.1",
            "HF_ENDPOINT": os.environ["HF_ENDPOINT"], "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        if python == sys.executable:
            self.variables["PYTHONPATH"] = str(ROOT)
        self.log = folder / "log"
        self.process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        with open(self.log, "a") as log:
            before = self.log.read_text().count("is served")
            self.process = subprocess.Popen(
                [self.python, "app.py"], cwd=self.folder / "app", env=self.variables, stdout=log, stderr=log
            )
        end = time.monotonic() + 300
        while self.log.read_text().count("is served") == before:
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)


@contextmanager
def running(*how, **more) -> Iterator[RunningSpace]:
    space = RunningSpace(*how, **more)
    try:
        space.start()
        yield space
    finally:
        if space.process is not None and space.process.poll() is None:
            space.kill()
