"""The command `tailwise ope`: an off-policy estimate from logged propensities."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from tailwise.errors import ConfigError

__all__ = ["ope"]


def ope(
    logs: Path,
    *,
    policy: Path,
    seed: int | None = None,
    temperature: float | None = None,
    n_candidates: int | None = None,
    reward: str = "clicks",
    column: Annotated[list[str] | None, Parameter(negative=())] = None,
    positions: int | None = None,
    clip: float | None = None,
    whole_lists: Annotated[bool, Parameter(negative=())] = False,
    max_unsupported: float = 0.05,
    include_seen: bool | None = None,
    batch_size: int | None = None,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    out: Path | None = None,
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Estimate what a trained variant would have earned, from lists drawn with logged propensities.

    Args:
        logs: An export of the event log, or a row per shown slot with its reward (Parquet, CSV, TSV);
            see docs/off-policy.md.
        policy: RUN/VARIANT: the run's folder and a finished variant of it, e.g. runs/first/eisam.
        seed: Of the training; by default the first of the run's.
        temperature: Of the variant's draws; by default the log's. 0: its best items, not drawn.
        n_candidates: Best items of the variant that have a chance; by default as many as in the log.
        reward: What is earned: clicks, purchases or revenue of an export, or a column of your own.
        column: Our column name = yours, e.g. user_id=customer. Repeat for several.
        positions: Evaluate the first so many places only.
        clip: Cut weights above this: less variance, a bias that is reported.
        whole_lists: Show whole-list weights too, which assume less and vary more.
        max_unsupported: Share of the variant's probability that may lack support before it is refused.
        include_seen: Let the variant list items of the history; by default only where the run keeps repeats.
        batch_size: Histories scored at once; by default the run's evaluation.batch_size.
        device: Where to compute; by default the run's.
        out: JSON file for everything that was found.
        quiet: No progress on standard error.
    """
    from tailwise.experiments.ope import estimates_table, sentence, support_table
    from tailwise.jobs._ope import ope as estimate

    columns = {}
    for text in column or []:
        ours, equals, theirs = text.partition("=")
        if not equals:
            raise ConfigError(f"--column must be key=value; got {text!r}.")
        columns[ours] = theirs
    found = estimate(
        logs,
        policy,
        seed=seed,
        temperature=temperature,
        n_candidates=n_candidates,
        reward=reward,
        columns=columns,
        positions=positions,
        clip=clip,
        whole_lists=whole_lists,
        max_unsupported=max_unsupported,
        include_seen=include_seen,
        batch_size=batch_size,
        device=device,
        out=out,
        quiet=quiet,
    )
    console = Console(highlight=False)
    console.print(estimates_table(found))
    console.print(support_table(found))
    for caution in found.cautions:
        console.print(f"Caution: {caution}.", markup=False)
    console.print(sentence(found), markup=False)
    if out is not None:
        print(out)  # noqa: T201 - the command's result
