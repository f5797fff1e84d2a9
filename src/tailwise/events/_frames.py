"""Records in a file that may end anywhere: lines with a length and a checksum before the JSON.

``0000002c 5bd3a1f0 {"kind":"event",...}``: bytes of the JSON and its CRC-32, both hexadecimal, then the JSON.
"""

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Frame", "encode_frames", "read_frames"]

HEADER = 18  # characters before the JSON


@dataclass(frozen=True)
class Frame:
    """A line of a file.

    Attributes:
        record: What it says; None where it is damaged or unfinished.
        line: Its bytes.
    """

    record: dict[str, Any] | None
    line: bytes


def encode_frames(records: Iterable[dict[str, Any]]) -> bytes:
    """Return the lines of records, one after the other."""
    lines = []
    for record in records:
        text = json.dumps(record, allow_nan=False, separators=(",", ":")).encode()
        lines.append(b"%08x %08x %b\n" % (len(text), zlib.crc32(text), text))
    return b"".join(lines)


def read_frames(path: Path) -> Iterator[Frame]:
    """Read the lines of a file; after a damaged one, go on with the next line."""
    with path.open("rb") as file:
        for line in file:
            yield Frame(_decode(line), line)


def _decode(line: bytes) -> dict[str, Any] | None:
    text = line[HEADER:-1]
    expected = b"%08x %08x %b\n" % (len(text), zlib.crc32(text), text)
    if line != expected:
        return None
    record = json.loads(text)
    return record if isinstance(record, dict) else None
