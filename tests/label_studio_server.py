"""A Label Studio server on loopback, for tests: a program of another environment, its data in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import httpx
from label_studio_sdk.client import LabelStudio

PROGRAM = "ALSS_RAY_LABEL_STUDIO"
"""The environment variable that names the program `label-studio`, where it is neither on the PATH nor beside Python."""


def program() -> str | None:
    """The program, which needs an environment of its own: its pins are many."""
    beside = str(Path(sys.executable).parent)
    return (
        os.environ.get(PROGRAM) or shutil.which("label-studio", path=beside) or shutil.which("label-studio")
    )


class LabelStudioServer:
    """Started when made; `stop` ends it with all that it started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.token = folder, secrets.token_hex(20)
        self.email, self.password = "first@example.org", secrets.token_hex(8)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        started = time.monotonic()
        self.start()
        self.seconds = time.monotonic() - started

    def start(self) -> None:
        """Start the process, and wait until it answers."""
        environment = {
            **os.environ,
            "HOME": str(self.folder),
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.folder),
            "LABEL_STUDIO_USERNAME": self.email,
            "LABEL_STUDIO_PASSWORD": self.password,
            "LABEL_STUDIO_USER_TOKEN": self.token,
            # Nothing of a test leaves this machine.
            "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
            "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
            "LABEL_STUDIO_SENTRY_DSN": "",
            "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        }
        words = "start --no-browser --enable-legacy-api-token --internal-host 127.0.0.1 --port"
        command = [str(program()), *words.split(), str(self.port)]
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        limit = time.monotonic() + 300
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return
            ended = self.process.poll() is not None
            if ended or time.monotonic() > limit:
                self.stop()
                raise RuntimeError(
                    f"Label Studio does not start:\n{(self.folder / 'log').read_text()[-3000:]}"
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """End the server and its children."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)

    def client(self, token: str | None = None) -> LabelStudio:
        """The server as the owner of a token sees it, else its first user."""
        return LabelStudio(base_url=self.url, api_key=token or self.token)

    def signed_up(self, email: str) -> str:
        """The token of a new annotator, who signs up on the page for that."""
        with httpx.Client(base_url=self.url, follow_redirects=True) as browser:
            browser.get("/user/signup/")
            form = {
                "email": email,
                "password": secrets.token_hex(8),
                "csrfmiddlewaretoken": browser.cookies["csrftoken"],
            }
            browser.post("/user/signup/", data=form, headers={"Referer": self.url})
            return browser.get("/api/current-user/token").raise_for_status().json()["token"]

    def next_task(self, project: int, token: str | None = None) -> dict | None:
        """The task that `Label All Tasks` shows an annotator."""
        answer = httpx.get(
            f"{self.url}/api/projects/{project}/next",
            headers={"Authorization": f"Token {token or self.token}"},
            timeout=30,
        )
        return None if answer.status_code == 404 else answer.raise_for_status().json()
