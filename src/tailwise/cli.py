"""The command line: one function per command, each a thin layer over the jobs and the assets."""

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

import tailwise
from tailwise.errors import ConfigError, TailwiseError

__all__ = ["app", "main"]

app = App(
    name="tailwise",
    version=tailwise.__version__,
    help="Lift rare items in LLM recommenders: fine-tune with EISAM, measure head and tail.",
    suppress_keyboard_interrupt=False,  # main() says how to go on
)
assets_app = App(name="assets", help="Data sets and models that Tailwise knows: list, fetch, verify.")
app.command(assets_app)

_INTERRUPTED = 130  # the shell's exit status for Ctrl-C


@app.command
def run(
    *,
    out: Path,
    data: str | None = None,
    interactions: Path | None = None,
    items: Path | None = None,
    column: Annotated[list[str] | None, Parameter(negative=())] = None,
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
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Train recommenders on an interaction log, plainly and with EISAM, and report head and tail.

    Args:
        out: Folder for everything the run makes; new, unless --resume.
        data: A named data set: ml-100k, completejourney. Or give --interactions and --items.
        interactions: The log: user_id, item_id, timestamp (CSV, TSV, Parquet, .inter).
        items: The catalogue: item_id, title (CSV, TSV, Parquet, .item).
        column: Our column name = yours, e.g. user_id=customer. items.item_id=sku concerns one file.
        model: A registered model (smollm2-135m), a folder, or a hub id owner/name.
        optimizer: adamw, sam, asam, imbsam, focal-sam, group-sam, looksam, momentum-sam or eisam; with
            settings, eisam:rho=0.1,estimator=single-pass. Repeat to compare.
        reference: most-popular, item-knn, sasrec. Repeat for several.
        seed: Of the training. Repeat for several; five are the norm for a claim.
        split: How to hold out; auto is the data set's recommended split, global-time for files.
        preset: quick (minutes on two cores) or full.
        config: TOML file with any setting of the run; see docs/configuration.md.
        set_: Any setting, e.g. --set training.max_epochs=3. Overrides preset and file.
        device: Where to train.
        resume: Go on with the run in --out.
        quiet: No progress on standard error.
    """
    from tailwise import jobs

    overrides: dict[str, Any] = {}
    data_settings = {
        "name": data,
        "interactions": None if interactions is None else str(interactions),
        "items": None if items is None else str(items),
        "columns": _columns(column) if column else None,
        "split": split,
    }
    overrides["data"] = {key: value for key, value in data_settings.items() if value is not None}
    if model is not None:
        overrides["model"] = {"model": model}
    if optimizer:
        variants = [jobs.VariantConfig.parse(text) for text in optimizer]
        overrides["variants"] = [jobs.config_as_dict(variant) for variant in variants]
    if reference is not None:
        overrides["references"] = reference
    if seed is not None:
        overrides["seeds"] = seed
    if device is not None:
        overrides["device"] = device
    settings = jobs.load_config(preset=preset, file=config, overrides=overrides, settings=tuple(set_ or ()))
    metrics = jobs.run(settings, out, resume=resume, quiet=quiet)
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
            segments, {key: _number(key, value) for key, value in _pairs("--set", set_ or [])}
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

    try:
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
    except KeyboardInterrupt as stop:
        text = str(stop) or "stopped. Go on with the same command"
        Console(stderr=True).print(f"{text}.", markup=False, highlight=False)
        sys.exit(_INTERRUPTED)
    print(made.path)  # noqa: T201 - the command's result


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


def _pairs(flag: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{flag} must be key=value; got {text!r}.")
        pairs.append((key, value))
    return pairs


def _columns(texts: Sequence[str]) -> dict[str, str]:
    return dict(_pairs("--column", texts))


def _number(key: str, text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise ConfigError(f"{key} must be a number or a list of them; got {text!r}.") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors that the user can mend are printed without a traceback."""
    try:
        app(arguments)
    except (TailwiseError, FloatingPointError) as error:
        Console(stderr=True).print(
            f"{type(error).__name__}: {error}", style="red", markup=False, highlight=False
        )
        sys.exit(1)
    except KeyboardInterrupt as stop:
        text = str(stop) or "stopped"
        Console(stderr=True).print(f"{text}. Go on with --resume.", markup=False, highlight=False)
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
