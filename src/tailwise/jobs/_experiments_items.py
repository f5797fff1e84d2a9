"""One division of the catalogue for both variants of an experiment, kept as it was at the start."""

import os
from pathlib import Path

import polars as pl

from tailwise.errors import ConfigError
from tailwise.jobs._measure import cut_segments
from tailwise.jobs._run_data import load_run_data
from tailwise.jobs._run_folder import RunFolder
from tailwise.jobs._serve_deployment import DeploymentFolder
from tailwise.jobs._serve_models import parse_source
from tailwise.schema import BRAND

__all__ = ["experiment_items", "items_of_run"]


def items_of_run(run: Path) -> pl.DataFrame:
    """Return a run's catalogue for the statistics: ``item_id``, ``segment``, ``brand`` if there are brands.

    Raises:
        DataError: there is no run.
    """
    folder = RunFolder(run)
    data = load_run_data(folder.data)
    segments = cut_segments(data, folder.read_config().segments)
    labels = [segments.names[label] for label in segments.labels.tolist()]
    table = pl.DataFrame({"item_id": data.catalogue.item_ids(), "segment": labels})
    items = data.catalogue.items
    return table.with_columns(items[BRAND].alias("brand")) if BRAND in items.columns else table


def experiment_items(name: str, control: str, *, state: Path, root: Path) -> pl.DataFrame:
    """Return the division of an experiment: that of control's run when it was first asked for.

    It is kept in ``<state>/experiments/<name>.items.parquet``, so that a swap of control in the middle of
    an experiment does not move items between segments.

    Args:
        name: Of the experiment.
        control: Name of the served model that is control.
        state: Folder of the service's state, which names the models.
        root: Folder under which the models lie.

    Raises:
        DataError: nothing was served from this state yet, or the model's run is not there.
    """
    kept = state / "experiments" / f"{name}.items.parquet"
    if kept.is_file():
        return pl.read_parquet(kept)
    deployed = DeploymentFolder(state).read().models.get(control)
    if deployed is None:
        raise ConfigError(
            f"control of {name!r} must be a served model; got {control!r}. Serve it: "
            f"tailwise serve --model {control}=RUN/VARIANT."
        )
    table = items_of_run(parse_source(deployed.source, root).run)
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}.partial")
    table.write_parquet(partial)
    partial.replace(kept)
    return table
