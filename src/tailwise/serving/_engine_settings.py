"""What an engine can be told: batches, queue, precision, memory, exploration."""

from dataclasses import dataclass
from typing import Literal, get_args

from tailwise.errors import ConfigError

__all__ = ["EngineSettings", "ItemDtype"]

ItemDtype = Literal["float32", "bfloat16", "int8", "int8+float32"]


@dataclass(frozen=True)
class EngineSettings:
    """How one model answers.

    Attributes:
        max_batch: Requests answered together at most, in 1..1,024. 32: on two CPU cores larger batches
            added waiting and little throughput.
        max_batch_items: Items of histories read for one batch, at most, in 1..1,000,000; a longer history is
            read alone. 512: a returning user does not wait for a crowd of new ones. 256 cost a quarter more
            time per new user (more passes, more padding); without a bound, batches of new users took twice
            as long.
        max_wait_ms: How long a free engine waits for more requests, in milliseconds, 0..1,000. 0: it takes
            what is there. Under load batches fill by themselves while the engine is at work.
        queue_limit: Requests that may wait, in 1..100,000; one more is refused. 256: eight full batches.
        item_dtype: How item vectors are held: ``float32``; ``bfloat16`` in half of the memory; ``int8`` in a
            quarter, CPU only; ``int8+float32``: in both. The short ones choose candidates, which are then
            scored in float32; docs/serving-engine.md has what they cost and find.
        state_cache_mb: For what is kept of returning users, in MB (10^6 bytes), >= 0. 0: keep nothing.
        window_hop: Items by which the window of a history longer than ``max_length`` moves, in
            1..``max_length``. 1: it always ends in the most recent ``max_length``, and is read anew at
            every item. ``h``: it moves once in ``h`` items, so that a user of long history pays for the
            new ones only, too; the model then sees up to ``h - 1`` items less.
        threads: Threads of one computation, >= 1; of the whole process, since torch has one number. None:
            torch's own choice, one per core.
        temperature: Of explored lists, > 0, in units of score, where the model says none. Scores of
            item-token models are differences of log-probability: at 1.0 a candidate is drawn in
            proportion to its probability.
        n_candidates: Best items that have a chance in an explored list, in 1..100,000; a longer list has
            as many as it is long. 100: beyond, off-policy weights get long tails.
        warm_up: Answer made-up requests of all sizes at start, so that the first real one is not slow.
    """

    max_batch: int = 32
    max_batch_items: int = 512
    max_wait_ms: float = 0.0
    queue_limit: int = 256
    item_dtype: ItemDtype = "float32"
    state_cache_mb: float = 256.0
    window_hop: int = 1
    threads: int | None = None
    temperature: float = 1.0
    n_candidates: int = 100
    warm_up: bool = True

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_batch", 1, 1024),
            ("max_batch_items", 1, 1_000_000),
            ("max_wait_ms", 0, 1000),
            ("queue_limit", 1, 100_000),
            ("state_cache_mb", 0, 10**9),
            ("window_hop", 1, 10_000),
            ("n_candidates", 1, 100_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"engine.{name} must be in {low:,}..{high:,}; got {value}.")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"engine.threads must be >= 1 or None; got {self.threads}.")
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"engine.temperature must be above 0 and finite; got {self.temperature}.")
        if self.item_dtype not in get_args(ItemDtype):
            raise ConfigError(
                f"engine.item_dtype must be one of {', '.join(get_args(ItemDtype))}; got {self.item_dtype!r}."
            )
