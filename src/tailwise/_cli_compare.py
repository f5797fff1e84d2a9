"""The commands `tailwise bench` and `tailwise tune`: methods compared, settings tried."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tailwise._cli_arguments import columns_of, overrides_of_run
from tailwise.errors import ConfigError

__all__ = ["bench", "tune"]


def bench(
    config: Path,
    *,
    out: Path,
    setting: Annotated[list[str] | None, Parameter(negative=())] = None,
    method: Annotated[list[str] | None, Parameter(negative=())] = None,
    seed: Annotated[list[int] | None, Parameter(negative=())] = None,
    curves: bool = True,
    processes: int = 1,
    cell: str | None = None,
    tables: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Compare methods over data sets and seeds: tune on validation, measure every cell, write the tables.

    The same command goes on where it was stopped; cells that are there are not repeated.

    Args:
        config: TOML file that declares settings, methods, knobs and seeds; see docs/running-benchmarks.md.
        out: Folder of the records.
        setting: Work at this one only. Repeat for several.
        method: Work at this one (and the baseline) only. Repeat for several.
        seed: Work at this one only. Repeat for several.
        curves: Measure the points of curves as well; --no-curves leaves them for another call.
        processes: Cells at a time, one thread each; with 1, all threads work on one cell.
        cell: Run one recorded cell again, SETTING/METHOD/SEED, and hold it against its record.
        tables: Write tables and figures from the records that are there; train nothing.
        quiet: No progress on standard error.
    """
    from tailwise import jobs

    settings = jobs.load_bench_config(config)
    if cell is not None:
        _print_cell(jobs.bench_cell(settings, out, **_cell(cell)))
        return
    if not tables:
        jobs.bench(
            settings,
            out,
            processes=processes,
            settings=setting or (),
            methods=method or (),
            seeds=seed or (),
            curves=curves,
            quiet=quiet,
        )
    jobs.prepare_tables(settings, out, quiet=quiet)
    from tailwise.reports import write_bench

    print(write_bench(out))  # noqa: T201 - the command's result


def tune(
    *,
    out: Path,
    data: str | None = None,
    interactions: Path | None = None,
    items: Path | None = None,
    column: Annotated[list[str] | None, Parameter(negative=())] = None,
    model: str | None = None,
    variant: str = "eisam",
    search: Annotated[list[str] | None, Parameter(negative=())] = None,
    trials: int = 16,
    head_loss: float = 0.02,
    users: int = 4000,
    k: int = 100,
    seed: Annotated[list[int] | None, Parameter(negative=())] = None,
    split: Literal["auto", "global-time", "leave-last-out"] | None = None,
    preset: str = "quick",
    config: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Try settings on validation users of your own data; show the front of head and tail, recommend one.

    The same command goes on where it was stopped; with more --trials it adds to those that are there.

    Args:
        out: Folder of the trials, tune.json, tuning.md and front.svg.
        data: A named data set: ml-100k, completejourney. Or give --interactions and --items.
        interactions: The log: user_id, item_id, timestamp (CSV, TSV, Parquet, .inter).
        items: The catalogue: item_id, title (CSV, TSV, Parquet, .item).
        column: Our column name = yours, e.g. user_id=customer.
        model: A registered model (smollm2-135m), a folder, or a hub id owner/name.
        variant: What is tuned, with settings that stay, e.g. eisam:estimator=single-pass.
        search: KNOB=LOW:HIGH, KNOB=LOW:HIGH:log or KNOB=VALUE,VALUE; also training.learning_rate and
            the like. Repeat. By default rho, gamma and, for items as
            tokens, logit_adjustment.
        trials: Trainings, besides the baseline's, at most: nothing is trained twice.
        head_loss: Share of the baseline's head NDCG that may be lost.
        users: Validation users that judge a trial, at most.
        k: Length of the lists whose NDCG judges a trial.
        seed: Of every trial's training. Repeat for several: trials are judged by the means.
        split: How to hold out; auto is the data set's recommended split, global-time for files.
        preset: quick (minutes on two cores), full, or few-histories (trained for many epochs).
        config: TOML file with any setting of the run; see docs/configuration.md.
        set_: Any setting of the run, e.g. --set training.max_epochs=3.
        device: Where to train.
        quiet: No progress on standard error.
    """
    from tailwise import jobs

    overrides = overrides_of_run(
        {"name": data, "interactions": interactions, "items": items, "split": split},
        columns=columns_of(column or []),
        model=model,
        device=device,
        seeds=seed,
    )
    run = jobs.load_config(preset=preset, file=config, overrides=overrides, settings=tuple(set_ or ()))
    settings = jobs.TuneConfig(
        run,
        jobs.parse_variant(variant),
        jobs.parse_search(search or ()),
        n_trials=trials,
        head_loss=head_loss,
        users=users,
        k=k,
    )
    jobs.tune(settings, out, quiet=quiet)
    from tailwise.reports import write_tuning

    page = write_tuning(out / "tune.json")
    print(page.read_text(encoding="utf-8"))  # noqa: T201 - the command's result


def _cell(text: str) -> dict[str, Any]:
    parts = text.split("/")
    if len(parts) != 3 or not parts[2].isdecimal():
        raise ConfigError(f"--cell must be SETTING/METHOD/SEED; got {text!r}.")
    return {"setting": parts[0], "method": parts[1], "seed": int(parts[2])}


def _print_cell(result: dict[str, Any]) -> None:
    for name, value in result["found"].items():
        print(f"NDCG@10 {name}: {value:.6f}, recorded {result['recorded'][name]:.6f}")  # noqa: T201
    print("equal to the record" if result["is_equal"] else "NOT equal to the record")  # noqa: T201
    if not result["is_equal"] and result["differs"]:
        print(f"sums may be rounded otherwise; {'; '.join(result['differs'])}")  # noqa: T201
