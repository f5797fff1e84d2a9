"""What the administration of a service can do; the process that loads models does it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from tailwise.serving._http_schemas import CatalogueChanged, ItemChange, Models, WorkerState

__all__ = ["Control"]


class Control(Protocol):
    """Changes what is served, in every worker, and knows what each of them serves."""

    @property
    def is_ready(self) -> bool:
        """This worker takes requests: it has started and is not shutting down."""
        ...

    def state(self) -> WorkerState:
        """Return what this worker serves."""
        ...

    def models(self) -> Models:
        """Return what each worker serves, as it last said."""
        ...

    def log_state(self) -> Mapping[str, object]:
        """Return the state of the event log; see ``EventLog.state``."""
        ...

    async def put_model(self, name: str, source: str) -> Models:
        """Let another model answer under a name; this worker serves it when this returns.

        Raises:
            VariantUnknownError: no model is served under this name.
            TailwiseError: it cannot be loaded; the old one goes on serving everywhere.
        """
        ...

    async def put_catalogue(self, changes: Sequence[ItemChange]) -> CatalogueChanged:
        """Change properties of items, in this worker when this returns, in the others soon after."""
        ...
