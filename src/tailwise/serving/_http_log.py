"""Logs as JSON, one object per line: ids of requests and keys, never of users, never what was sent."""

import json
import logging
import sys
import time
import traceback
from typing import Any, TextIO

__all__ = ["LOGGER", "JsonLines", "log", "set_up_logging"]

LOGGER = logging.getLogger("tailwise.service")
_FIELDS = "tailwise_fields"


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON; of an exception its kind and place, not its message.

    A message may quote what a client sent, or the parameters of a statement; where it came from does not.

    Args:
        worker: Number of the process; in every line.
    """

    def __init__(self, worker: int = 0) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}"
            f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "worker": self._worker,
            "event": (record.getMessage().splitlines() or [""])[0],  # further ones quote values
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            frames = traceback.extract_tb(error.__traceback__)[-8:]
            line["error"] = type(error).__name__
            line["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line, ensure_ascii=True)


def log(level: int, event: str, *, error: BaseException | None = None, **fields: Any) -> None:
    """Write a line.

    Args:
        level: Of :mod:`logging`.
        event: A few words, always the same for the same event.
        error: Whose kind and place are written.
        **fields: Further values; nothing personal.
    """
    LOGGER.log(level, event, exc_info=error, extra={_FIELDS: fields})


def set_up_logging(level: str, *, worker: int = 0, stream: TextIO | None = None) -> None:
    """Let the service and its server write JSON lines to standard error.

    Args:
        level: debug, info, warning or error.
        worker: Number of the process.
        stream: Where to; None: standard error.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(worker))
    logging.basicConfig(level="WARNING", handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in ("tailwise", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())
    # Of the database's messages none may pass: they quote values.
    logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL)
