"""`tailwise serve` in a process of its own, on the loopback."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

START_S = 120.0  # on a busy machine


class Server:
    """A service; standard output and error go to files.

    Args:
        folder: Its working folder.
        *arguments: Of ``tailwise serve``.
        environment: Further variables.
    """

    def __init__(self, folder: Path, *arguments: object, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tailwise", "serve", "--port", "0", *map(str, arguments)],
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
                stdout=out,
                stderr=err,
            )
        self.http = httpx.Client(timeout=30)
        self.url = ""

    def wait_until_ready(self) -> "Server":
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if found := re.search(r"Tailwise serves .* on (http://\S+)", self.out.read_text()):
                self.url = found.group(1)
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.out.read_text()}\n{self.err.read_text()}")

    def ask(self, method: str, path: str, body: Any = None, **named: Any) -> httpx.Response:
        return self.http.request(method, f"{self.url}{path}", json=body, **named)

    def listed(self, **body: Any) -> Any:
        answer = self.ask("POST", "/v1/recommendations", {"surface": "home", **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def lines(self) -> list[dict[str, Any]]:
        """The log so far."""
        return [json.loads(line) for line in self.err.read_text().splitlines() if line.startswith("{")]

    def wait_for(self, holds: Any, timeout_s: float = 60.0) -> None:
        until = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < until, self.err.read_text()[-3000:]
            time.sleep(0.05)

    def stop(self, timeout_s: float = 60.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def end(self) -> None:
        """Whatever happened, leave nothing behind."""
        self.http.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
