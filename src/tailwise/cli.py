"""The command line: one function per command, each a thin layer over the jobs and the assets."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

import tailwise
from tailwise._cli_arguments import columns_of, number_of, overrides_of_run, pairs_of
from tailwise._cli_compare import bench, tune
from tailwise._cli_experiments import experiment_app
from tailwise._cli_monitor import monitor
from tailwise._cli_ope import ope
from tailwise._cli_serving import serving_app
from tailwise._cli_simulate import simulate
from tailwise.errors import ConfigError, StoppedElsewhereError, TailwiseError

__all__ = ["app", "main"]

app = App(
    name="tailwise",
    version=tailwise.__version__,
    help="Lift rare items in LLM recommenders: fine-tune with EISAM, measure head and tail.",
    suppress_keyboard_interrupt=False,  # main() says how to go on
)
assets_app = App(name="assets", help="Data sets and models that Tailwise knows: list, fetch, verify.")
app.command(assets_app)
app.command(serving_app, name="*")
app.command(bench)
app.command(tune)
app.command(experiment_app)
app.command(monitor)
app.command(ope)
app.command(simulate)

_INTERRUPTED = 130  # the shell's exit status for Ctrl-C


@app.command
def run(
    *,
    out: Path,
    data: str | None = None,
    interactions: Path | None = None,
    items: Path | None = None,
    column: Annotated[list[str] | None, Parameter(negative=())] = None,
    recommender: Literal["item-token", "title"] | None = None,
    model: str | None = None,
    optimizer: Annotated[list[str] | None, Parameter(negative=())] = None,
    reference: Annotated[list[str] | None, Parameter(negative=())] = None,
    seed: Annotated[list[int] | None, Parameter(negative=())] = None,
    split: Literal["auto", "global-time", "leave-last-out"] | None = None,
    preset: str = "quick",
    config: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    shard: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Train recommenders on an interaction log, plainly and with EISAM, and report head and tail.

    Args:
        out: Folder for everything the run makes; new, unless --resume.
        data: A named data set: ml-100k, completejourney. Or give --interactions and --items.
        interactions: The log: user_id, item_id, timestamp (CSV, TSV, Parquet, .inter).
        items: The catalogue: item_id, title (CSV, TSV, Parquet, .item).
        column: Our column name = yours, e.g. user_id=customer. items.item_id=sku concerns one file.
        recommender: item-token: each item is one token of its own. title: prompts of titles, and the next
            title as answer; see docs/title.md.
        model: A registered model (smollm2-135m), a folder, or a hub id owner/name.
        optimizer: adamw, sam, asam, imbsam, focal-sam, group-sam, looksam, momentum-sam or eisam; with
            settings, eisam:rho=0.1,estimator=single-pass. Repeat to compare.
        reference: most-popular, item-knn, sasrec. Repeat for several.
        seed: Of the training. Repeat for several; five are the norm for a claim.
        split: How to hold out; auto is the data set's recommended split, global-time for files.
        preset: quick (minutes on two cores), full, or few-histories (trained for many epochs).
        config: TOML file with any setting of the run; see docs/configuration.md.
        set_: Any setting, e.g. --set training.max_epochs=3. Overrides preset and file.
        device: Where to train.
        resume: Go on with the run in --out.
        shard: Started by torchrun: share out the parameters too (FSDP2), not the rows alone.
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
    if recommender is not None:
        overrides["title"] = {} if recommender == "title" else None
    if optimizer:
        variants = [jobs.VariantConfig.parse(text) for text in optimizer]
        overrides["variants"] = [jobs.config_as_dict(variant) for variant in variants]
    if reference is not None:
        overrides["references"] = reference
    settings = jobs.load_config(preset=preset, file=config, overrides=overrides, settings=tuple(set_ or ()))
    metrics = jobs.run(settings, out, resume=resume, quiet=quiet, shard=shard)
    if _is_first_process():
        _print_results(metrics, out)


@app.command
def evaluate(
    run: Path,
    *,
    segments: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
) -> None:
    """Measure a finished run again from its stored rankings; write metrics.json and the page.

    Args:
        run: The run's folder.
        segments: Another rule for head and tail: head-share, interaction-share, quantiles, absolute-counts.
        set_: A parameter of that rule, e.g. --set head_share=0.1.
    """
    from tailwise import jobs

    if set_ and not segments:
        raise ConfigError(f"--set needs --segments RULE here; got {set_[0]!r} alone.")
    rule = None
    if segments:
        rule = jobs.SegmentConfig(
            segments, {key: number_of(key, value) for key, value in pairs_of("--set", set_ or [])}
        )
    _print_results(jobs.evaluate(run, rule), run)


@app.command
def report(run: Path) -> None:
    """Write a run's page again from its metrics.json.

    Args:
        run: The run's folder.
    """
    from tailwise import jobs

    print(jobs.report(run))  # noqa: T201 - the command's result


@app.command
def audit(
    run: Path | None = None,
    *,
    out: Path | None = None,
    data: str | None = None,
    interactions: Path | None = None,
    items: Path | None = None,
    column: Annotated[list[str] | None, Parameter(negative=())] = None,
    recommendations: Path | None = None,
    exposure_only: Annotated[bool, Parameter(negative=())] = False,
    unknown: Literal["error", "drop"] = "error",
    repeated_items: Literal["error", "drop"] = "error",
    model: str | None = None,
    kind: str | None = None,
    estimator: Annotated[list[str] | None, Parameter(negative=())] = None,
    k: int = 10,
    sharpness: Literal["off", "directions", "hessian"] = "directions",
    shuffle_titles: Annotated[bool, Parameter(negative=())] = False,
    split: Literal["auto", "global-time", "leave-last-out"] | None = None,
    seed: int = 0,
    preset: str = "quick",
    config: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Diagnose how long the tail is, whose fault it is, and who pays: of a run, a log, or given lists.

    With a log and a catalogue alone, a plain recommender is trained first; with --recommendations
    nothing is. The same command goes on where it was stopped.

    Args:
        run: A finished run's folder, in place of data and model.
        out: The audit's folder; by default audit in the run's.
        data: A named data set: ml-100k, completejourney. Or give --interactions and --items.
        interactions: The log: user_id, item_id, timestamp (CSV, TSV, Parquet, .inter).
        items: The catalogue: item_id, title (CSV, TSV, Parquet, .item).
        column: Our column name = yours; lists.item_id=sku concerns the recommendations alone.
        recommendations: Lists that any system made: user_id, item_id, rank or score (CSV, TSV, Parquet).
        exposure_only: Ask of the lists who is shown, not who is found: they know all interactions.
        unknown: What to do with rows of the lists whose user or item is not in the data.
        repeated_items: What to do with an item that is twice in a user's list.
        model: A registered model (smollm2-135m), a folder, or a hub id owner/name.
        kind: What an item is, as one says it to a language model: movie.
        estimator: Of the model's prior: title-likelihood, output-frequency, pairwise; by default all.
        k: Cut-off of lists and of NDCG.
        sharpness: Of a run's models by popularity group: directions, or hessian for eigenvalues too.
        shuffle_titles: Train once more with titles shuffled: the prior's share must vanish.
        split: How to hold out; auto is the data set's recommended split, global-time for files.
        seed: Of all draws.
        preset: quick (minutes on two cores), full, or few-histories (trained for many epochs).
        config: TOML file with any setting of the run; see docs/configuration.md.
        set_: Any setting of the run, e.g. --set segments.rule=quantiles.
        device: Where to compute.
        quiet: No progress on standard error.
    """
    from tailwise import jobs

    columns = columns_of(column or [])
    of_lists = {
        ours.removeprefix("lists."): theirs for ours, theirs in columns.items() if ours.startswith("lists.")
    }
    columns = {ours: theirs for ours, theirs in columns.items() if not ours.startswith("lists.")}
    overrides = overrides_of_run(
        {"name": data, "interactions": interactions, "items": items, "split": split},
        columns=columns,
        model=model,
        device=device,
    )
    settings = None
    if run is None:
        plain = {"variants": [{"name": "adamw"}], "references": ["most-popular"]}
        settings = jobs.load_config(
            preset=preset, file=config, overrides=plain | overrides, settings=tuple(set_ or ())
        )
    elif (
        given := [name for name, value in (overrides | overrides["data"]).items() if value] or set_ or config
    ):
        raise ConfigError(
            f"audit of a run takes data and settings from it; got {given} beside {str(run)!r}. Leave one out."
        )
    asked = jobs.AuditConfig(
        recommendations=None if recommendations is None else str(recommendations),
        exposure_only=exposure_only,
        lists_columns=of_lists,
        unknown=unknown,
        repeated_items=repeated_items,
        kind=kind,
        estimators=tuple(estimator) if estimator else jobs.ESTIMATORS,
        k=k,
        sharpness=sharpness,
        shuffle_titles=shuffle_titles,
        seed=seed,
    )
    if out is None and run is None:
        raise ConfigError("audit of data needs --out FOLDER; got none.")
    folder = out or (run or Path()) / "audit"
    _print_audit(jobs.audit(asked, folder, run=run, settings=settings, quiet=quiet), folder)


@app.command
def recommend(
    run: Path,
    *,
    variant: str,
    out: Path,
    seed: int | None = None,
    k: int = 20,
    users: str = "all",
    history: Literal["all", "before-test", "train"] = "all",
    include_seen: bool | None = None,
    batch_size: int | None = None,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write every user's list from a finished run into a Parquet file: user_id, item_id, rank, score.

    Stopped at any moment, the same command goes on where it was.

    Args:
        run: The run's folder.
        variant: A finished variant or reference of the run, e.g. eisam or most-popular.
        out: File to write, ending in .parquet.
        seed: Of the training; by default the first of the run's.
        k: Items per user.
        users: all, or a CSV, TSV or Parquet file with a column user_id.
        history: What the model is given of a user: all of the run's data; what lies before-test, as
            an audit with held-out targets needs; or train, the training part alone.
        include_seen: Recommend items of the history too; by default only where the run keeps repeats.
        batch_size: Users scored at once; by default the run's evaluation.batch_size.
        device: Where to compute; by default the run's.
        overwrite: Replace a file that holds something else.
        quiet: No progress on standard error.
    """
    from tailwise import jobs

    made = jobs.recommend(
        run,
        variant,
        out,
        seed=seed,
        k=k,
        users=None if users == "all" else Path(users),
        history=history,
        include_seen=include_seen,
        batch_size=batch_size,
        device=device,
        overwrite=overwrite,
        quiet=quiet,
    )
    if _is_first_process():
        print(made.path)  # noqa: T201 - the command's result


@app.command
def export(
    run: Path,
    *,
    variant: str,
    out: Path,
    seed: int | None = None,
    merged: bool = True,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write a trained variant of a finished run for use without Tailwise: weights, catalogue, model card.

    Args:
        run: The run's folder.
        variant: A finished variant of the run, e.g. eisam.
        out: Folder to write; new, empty, or an earlier export of the same.
        seed: Of the training; by default the first of the run's.
        merged: Write model/ too, the backbone with its adapters merged.
        device: Where to load the model, which decides what its dtype "auto" is; by default the run's.
        quiet: No progress on standard error.
    """
    from tailwise import jobs

    print(jobs.export(run, variant, out, seed=seed, merged=merged, device=device, quiet=quiet))  # noqa: T201


@app.command
def ground(
    texts: Path,
    *,
    out: Path,
    data: str | None = None,
    items: Path | None = None,
    model: str | None = None,
    min_similarity: float = 0.9,
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Bring titles that any language model wrote back to items: lists that tailwise audit reads.

    Args:
        texts: CSV, TSV or Parquet: user_id, title, and rank if the rows of a user are not in order.
        out: File of lists to write, ending in .parquet.
        data: A named data set, whose catalogue it is. Or give --items.
        items: The catalogue: item_id, title.
        model: Compare by this language model's title encodings what text alone does not match.
        min_similarity: Cosine from which such a text means the nearest title.
        quiet: No progress on standard error.
    """
    from tailwise import jobs

    done = jobs.ground(
        texts, out, data=data, items=items, model=model, min_similarity=min_similarity, quiet=quiet
    )
    console = Console(highlight=False)
    table = Table("texts", "share")
    for name, share in done.shares.items():
        table.add_row(name, f"{share:.1%}")
    console.print(table)
    for text, times in done.unmatched:
        console.print(f"unmatched {times:,} times: {text!r}", markup=False)
    if done.n_repeated:
        console.print(f"{done.n_repeated:,} texts mean an item that stands higher in the same list: left out")
    print(done.path)  # noqa: T201 - the command's result


@assets_app.command(name="list")
def list_command() -> None:
    """Show every data set and model, its licence, and whether it is in the cache."""
    from tailwise import assets

    table = Table("name", "kind", "version", "size", "in cache")
    for asset in assets.list_assets():
        size = sum(file.n_bytes for file in asset.files) / 1e6
        cached = "yes" if assets.is_fetched(asset.name) else "no"
        table.add_row(asset.name, asset.kind, asset.version, f"{size:,.0f} MB", cached)
    console = Console()
    console.print(table)
    for asset in assets.list_assets():
        console.print(f"{asset.name}: {asset.licence}", markup=False, highlight=False, soft_wrap=True)


@assets_app.command
def fetch(*names: str) -> None:
    """Fetch data sets or models into the cache.

    Args:
        names: As listed by `tailwise assets list`.
    """
    from tailwise import assets

    if not names:
        raise ConfigError("names must hold at least one asset; got none. See `tailwise assets list`.")
    for name in names:
        Console().print(assets.fetch(name))


@assets_app.command
def verify(*names: str) -> None:
    """Hash fetched assets again and compare; all that are in the cache, or those named.

    Args:
        names: As listed by `tailwise assets list`.
    """
    from tailwise import assets

    console = Console()
    all_good = True
    for name in names or [asset.name for asset in assets.list_assets() if assets.is_fetched(asset.name)]:
        status = assets.verify(name)
        all_good &= status.is_verified
        console.print(str(status), markup=False, highlight=False)
    if not all_good:
        sys.exit(1)


def _print_results(metrics: dict[str, Any], out: Path) -> None:
    from tailwise.reports import summary_table

    console = Console()
    console.print(summary_table(metrics))
    console.print(f"{out / 'metrics.json'}\n{out / 'report.html'}", highlight=False)


def _print_audit(result: dict[str, Any], out: Path) -> None:
    from tailwise.reports import audit_summary

    console = Console()
    console.print(audit_summary(result), markup=False, highlight=False)
    console.print(f"{out / 'audit.json'}\n{out / 'audit.html'}", highlight=False)


def _is_first_process() -> bool:
    """False for those that a launcher started beside the first one: it speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors that the user can mend are printed without a traceback."""
    try:
        app(arguments)
    except StoppedElsewhereError:
        sys.exit(1)  # the process that failed says why
    except (TailwiseError, FloatingPointError) as error:
        Console(stderr=True).print(
            f"{type(error).__name__}: {error}", style="red", markup=False, highlight=False
        )
        sys.exit(1)
    except KeyboardInterrupt as stop:
        if not _is_first_process():
            sys.exit(_INTERRUPTED)
        text = str(stop) or "stopped"
        is_run = list(arguments or sys.argv[1:])[:1] == ["run"]
        how = "--resume" if is_run else "the same command"
        Console(stderr=True).print(f"{text}. Go on with {how}.", markup=False, highlight=False)
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
