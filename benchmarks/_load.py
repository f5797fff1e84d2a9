"""Load on a service: closed loops of requests, by wrk, or by a few lines of Python where that will do.

A closed loop sends the next request of a connection when its answer has come, so the service is as busy as
the number of connections says. Only addresses of the loopback are asked, for a bounded time.
"""

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Load", "drive"]

# wrk reads the bodies in turn. Each thread has a Lua state of its own; there is one thread.
_SCRIPT = """
local bodies, n, sent, threads = {}, 0, 0, {}
for line in io.lines("%(file)s") do n = n + 1; bodies[n] = line end
other = 0
wrk.method, wrk.headers["content-type"] = "POST", "application/json"
function setup(thread) table.insert(threads, thread) end
function request() sent = sent + 1; return wrk.format(nil, nil, nil, bodies[(sent - 1) %% n + 1]) end
function response(status, headers, body)
  if status ~= 200 or not body:find('"method":"model"', 1, true) then other = other + 1 end
end
function done(summary, latency, requests)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format('{"n":%%d,"seconds":%%f,"p50_ms":%%f,"p95_ms":%%f,"p99_ms":%%f,"other":%%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, threads[1]:get("other") + errors))
end
"""


@dataclass(frozen=True)
class Load:
    """What came of some seconds of load.

    Attributes:
        n: Answers.
        per_second: Answers per second.
        p50_ms: Median of the time to an answer, in milliseconds.
        p95_ms: 95 in 100 came within it.
        p99_ms: 99 in 100.
        n_not_by_model: Answers that were errors or fallbacks.
    """

    n: int
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    n_not_by_model: int


def drive(url: str, bodies: Sequence[str], *, connections: int, seconds: float, generator: str) -> Load:
    """Send requests for some seconds.

    Args:
        url: On 127.0.0.1.
        bodies: JSON texts without line breaks, sent in turn, from the first again after the last.
        connections: Requests under way at any time, >= 1.
        seconds: For how long, in (0, 120]; whole ones for wrk.
        generator: ``wrk``, or ``python`` (slow itself: for small tests).

    Raises:
        ValueError: an argument is out of range.
        RuntimeError: wrk is not there, or nothing was answered.
    """
    if not url.startswith("http://127.0.0.1:"):
        raise ValueError(f"url must begin with http://127.0.0.1:; got {url!r}.")
    if not 0 < seconds <= 120 or (generator == "wrk" and seconds != int(seconds)):
        raise ValueError(f"seconds must be in (0, 120], whole for wrk; got {seconds} for {generator}.")
    found = (_wrk if generator == "wrk" else _python)(url, bodies, connections, seconds)
    if not found.n:
        raise RuntimeError(f"{url} must answer within {seconds} s; got no answer.")
    return found


def _wrk(url: str, bodies: Sequence[str], connections: int, seconds: float) -> Load:
    if shutil.which("wrk") is None:
        raise RuntimeError(
            "wrk must be installed; it is not on the PATH. Debian has it: apt-get install wrk."
        )
    with tempfile.TemporaryDirectory() as folder:
        file, script = Path(folder) / "bodies", Path(folder) / "load.lua"
        file.write_text("\n".join(bodies) + "\n")
        script.write_text(_SCRIPT % {"file": file})
        asked = [f"-c{connections}", "-t1", f"-d{int(seconds)}s", "--timeout", "120s", "-s", str(script), url]
        done = subprocess.run(["wrk", *asked], capture_output=True, text=True, timeout=300, check=True)
        line = json.loads(next(text for text in done.stdout.splitlines() if text.startswith("{")))
    return Load(
        int(line["n"]),
        line["n"] / line["seconds"],
        line["p50_ms"],
        line["p95_ms"],
        line["p99_ms"],
        int(line["other"]),
    )


def _python(url: str, bodies: Sequence[str], connections: int, seconds: float) -> Load:
    import httpx

    took: list[float] = []
    bad, sent = 0, 0

    async def loop(client: httpx.AsyncClient, end: float) -> None:
        nonlocal bad, sent
        while time.perf_counter() < end:
            body, sent = bodies[sent % len(bodies)], sent + 1
            begun = time.perf_counter()
            answer = await client.post(url, content=body, headers={"content-type": "application/json"})
            took.append(1000 * (time.perf_counter() - begun))
            bad += answer.status_code != 200 or '"method":"model"' not in answer.text

    async def all_loops() -> float:
        async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
            begun = time.perf_counter()
            await asyncio.gather(*(loop(client, begun + seconds) for _ in range(connections)))
            return time.perf_counter() - begun

    lasted = asyncio.run(all_loops())
    p50, p95, p99 = np.percentile(took, [50, 95, 99]) if took else (0.0, 0.0, 0.0)
    return Load(len(took), len(took) / lasted, float(p50), float(p95), float(p99), bad)
