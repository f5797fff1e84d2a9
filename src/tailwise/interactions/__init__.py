"""Interactions: files of a log and a catalogue come in, a checked data set and its splits come out.

    >>> from tailwise.interactions import load_dataset, split_leave_last_out
    >>> split = split_leave_last_out(load_dataset("ml-100k"))  # doctest: +SKIP

Every rule that the data must keep raises a ``DataError`` with file, column, count and first
offenders; everything removed or changed is counted in ``Dataset.checks``. See ``docs/data.md``.
"""

from tailwise.interactions._catalogue import Catalogue, check_catalogue, load_catalogue
from tailwise.interactions._dataset import DataChecks, Dataset, Repeats, UnknownItems, build_dataset
from tailwise.interactions._histories import HeldOut, histories, training_histories
from tailwise.interactions._log import (
    InteractionLog,
    check_interactions,
    drop_unknown_items,
    load_interactions,
)
from tailwise.interactions._named import (
    NamedDataset,
    RecommendedSplit,
    list_datasets,
    load_dataset,
    named_dataset,
)
from tailwise.interactions._splits import Split, SplitMethod, split_by_time, split_leave_last_out
from tailwise.interactions._timestamps import TimestampUnit

__all__ = [
    "Catalogue",
    "DataChecks",
    "Dataset",
    "HeldOut",
    "InteractionLog",
    "NamedDataset",
    "RecommendedSplit",
    "Repeats",
    "Split",
    "SplitMethod",
    "TimestampUnit",
    "UnknownItems",
    "build_dataset",
    "check_catalogue",
    "check_interactions",
    "drop_unknown_items",
    "histories",
    "list_datasets",
    "load_catalogue",
    "load_dataset",
    "load_interactions",
    "named_dataset",
    "split_by_time",
    "split_leave_last_out",
    "training_histories",
]
