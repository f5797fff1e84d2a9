"""A model that fails or is slow on purpose, so that what has to notice it is seen to notice it."""

import math
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tailwise.errors import ConfigError

__all__ = ["Drill", "DrillError"]

Asked = TypeVar("Asked")
Said = TypeVar("Said")

_MOST_MS = 60_000.0
_EXAMPLE = "Write fail:0.2, slow:400ms or both: fail:0.1,slow:300ms."
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


class DrillError(RuntimeError):
    """The failure of a model that was told to fail."""


@dataclass(frozen=True)
class Drill:
    """What a model does wrong.

    Attributes:
        fail_share: Share of rankings that fail, in [0, 1]; each by its own chance.
        slow_ms: What every ranking takes longer, in [0, 60,000]. The model's thread is busy meanwhile, as
            with a model that is slow by itself: requests queue, meet their time limit, and are refused.

    Raises:
        ConfigError: one is out of range, or neither is given.
    """

    fail_share: float = 0.0
    slow_ms: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.fail_share <= 1:
            raise ConfigError(f"fail must be a share in (0, 1]; got {self.fail_share:g}. {_EXAMPLE}")
        if not 0 <= self.slow_ms <= _MOST_MS:
            raise ConfigError(f"slow must be a time up to 60 s; got {self.slow_ms:g} ms. {_EXAMPLE}")
        if not self.fail_share and not self.slow_ms:
            raise ConfigError(f"drill must let the model fail or be slow; got neither. {_EXAMPLE}")

    @classmethod
    def parse(cls, text: str) -> "Drill":
        """Read ``fail:SHARE``, ``slow:TIME`` in ms or s, or both with a comma between.

        Raises:
            ConfigError: it is no such thing.

        Example:
            >>> Drill.parse("fail:0.1,slow:1.5s")
            Drill(fail_share=0.1, slow_ms=1500.0)
        """
        found: dict[str, float] = {}
        for part in text.split(","):
            kind, _, value = part.strip().partition(":")
            name = {"fail": "fail_share", "slow": "slow_ms"}.get(kind)
            number = None
            if kind == "fail":
                number = _number(value)
            elif kind == "slow" and (time_ := _DURATION.fullmatch(value)):
                number = float(time_[1]) * (1000 if time_[2] == "s" else 1)
            if name is None or number is None:
                raise ConfigError(f"drill must be fail:SHARE or slow:TIME; got {part.strip()!r}. {_EXAMPLE}")
            if name in found:
                raise ConfigError(f"drill must name {kind!r} once; got {text!r}.")
            if not number > 0:
                raise ConfigError(f"{kind} must be > 0; got {value!r}. {_EXAMPLE}")
            found[name] = number
        return cls(**found)

    def __str__(self) -> str:
        """As :meth:`parse` reads it."""
        parts = [f"fail:{self.fail_share:g}"] if self.fail_share else []
        return ",".join([*parts, *([f"slow:{self.slow_ms:g}ms"] if self.slow_ms else [])])

    def fail_by_chance(self) -> None:
        """Fail one ranking, or do not.

        Raises:
            DrillError: it fails.
        """
        if random.random() < self.fail_share:
            raise DrillError("this model was told to fail: a drill")

    def slowed(
        self, answer: Callable[[Sequence[Asked]], Sequence[Said]]
    ) -> Callable[[Sequence[Asked]], Sequence[Said]]:
        """Return what answers as before, and later."""
        if not self.slow_ms:
            return answer

        def later(questions: Sequence[Asked]) -> Sequence[Said]:
            time.sleep(self.slow_ms / 1000)
            return answer(questions)

        return later


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
