"""One of several processes of a command, started by torchrun in ``test_processes.py``.

``python -m tests.jobs.processes_worker WHAT AFTER COMMAND...``: after AFTER training steps WHAT happens
(``nothing``, ``kill`` to the first process, ``stop`` to the last).
"""

import os
import signal
import sys

from tailwise import cli
from tailwise.jobs import _recommend
from tailwise.training import _fit

_recommend.PART_USERS = 16  # 60 users: four parts


def main() -> None:
    what, after, *command = sys.argv[1:]
    rank, original, calls = int(os.environ["RANK"]), _fit._Sitting._step, []

    def step(*arguments):
        original(*arguments)
        calls.append(1)
        if len(calls) == int(after) and what == "kill" and rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if len(calls) == int(after) and what == "stop" and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    _fit._Sitting._step = step
    cli.main(command)


if __name__ == "__main__":
    main()
