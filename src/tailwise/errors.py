"""The exceptions that Tailwise raises on purpose.

Each message names the thing, the value it had, where, and what to do about it.
Plain bad arguments raise ``ValueError``; these classes cover the rest, and all of
them can be caught as :class:`TailwiseError`.
"""

__all__ = [
    "AssetError",
    "CannotCompareError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "LogUnavailableError",
    "NotTrainedError",
    "StoppedElsewhereError",
    "TailwiseError",
]


class TailwiseError(Exception):
    """Base of every error that Tailwise raises on purpose."""


class ConfigError(TailwiseError):
    """A setting is unknown, of the wrong kind, or outside its range."""


class CannotCompareError(ConfigError):
    """A language model cannot be asked which of two items is better known, or not about this catalogue."""


class DataError(TailwiseError):
    """Input data breaks a rule of the schema; the message counts and names offenders."""


class AssetError(TailwiseError):
    """A data set or model could not be fetched, or does not match its checksum."""


class CheckpointError(TailwiseError):
    """A stored state does not fit the object it is loaded into, or is damaged."""


class LogUnavailableError(TailwiseError):
    """The event log can neither be written nor read now; nothing of what was asked has been kept."""


class NotTrainedError(TailwiseError):
    """A recommender was asked for scores before it was fitted or loaded."""


class StoppedElsewhereError(TailwiseError):
    """Another process of the same job stopped; its own error says why and what to do."""
