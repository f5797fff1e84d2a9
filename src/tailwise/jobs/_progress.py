"""Tell a person what a run is doing: bars on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tailwise.training import TrainingProgress

__all__ = ["Narrator", "TaskProgress"]

_LINE_SECONDS = 15.0  # between lines where there is no terminal


class TaskProgress:
    """Progress of one task; its methods are the callbacks that stages take."""

    def __init__(self, narrator: "Narrator", name: str, bar: Progress, task: TaskID) -> None:
        self._narrator = narrator
        self._name = name
        self._bar = bar
        self._task = task
        self._last_line = time.monotonic()

    def step(self, state: TrainingProgress) -> None:
        """Show a training step."""
        best = "" if state.best_value is None else f"  best NDCG@10 {state.best_value:.4f}"
        text = f"epoch {state.epoch}  loss {state.loss:.3f}  {state.targets_per_second:,.0f} targets/s{best}"
        self._show(state.step, state.n_steps, text)

    def ranking(self, done: int, total: int) -> None:
        """Show how many users are ranked."""
        self._show(done, total, f"ranking {total:,} users")

    def encoding(self, done: int, total: int) -> None:
        """Show how many titles are encoded."""
        self._show(done, total, f"encoding {total:,} titles")

    def counting(self, stage: str, done: int, total: int) -> None:
        """Show how much of a stage is done."""
        self._show(done, total, stage)

    def _show(self, done: int, total: int, text: str) -> None:
        self._bar.update(self._task, completed=done, total=total, text=text)
        if self._narrator.is_interactive or time.monotonic() - self._last_line < _LINE_SECONDS:
            return
        self._last_line = time.monotonic()
        self._narrator.say(f"  {self._name}: {done:,} of {total:,}  {text}")


class Narrator:
    """Speaks on standard error, so that results on standard output can be piped.

    Args:
        quiet: Say nothing at all.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.is_quiet = quiet
        self._console = Console(stderr=True, quiet=quiet, highlight=False)

    @property
    def is_interactive(self) -> bool:
        """True where bars can be drawn."""
        return self._console.is_terminal

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str) -> Iterator[TaskProgress]:
        """Show a task's progress inside the block, and its duration after it."""
        started = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns, console=self._console, transient=True, disable=not self.is_interactive
        ) as bar:
            task = bar.add_task(name, total=None, text="starting")
            yield TaskProgress(self, name, bar, task)
        self.say(f"✓ {name}  ({time.monotonic() - started:.0f} s)")
