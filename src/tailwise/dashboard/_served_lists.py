"""Lists side by side from the models that a service has loaded; nothing of it reaches the log."""

from tailwise.dashboard._sources import ShownItem, ShownList
from tailwise.errors import ConfigError, TailwiseError
from tailwise.experiments import Experiment
from tailwise.serving import LiveHistory, OverloadedError, ServedList
from tailwise.serving._lineup import Lineup
from tailwise.serving._service import Ask, Served, Service, ServiceSettings, VariantUnknownError

__all__ = ["ServedLists"]

_REASONS = {
    "no-history": "The model knows nothing of this user: these are the most popular items.",
    "time-limit": "The model took too long: these are the most popular items.",
    "overload": "The model is busy: these are the most popular items.",
    "model-error": "The model failed: these are the most popular items.",
}


class _Nowhere:
    """A sink that keeps nothing."""

    async def record(self, served: ServedList) -> None:
        """Forget it."""


class ServedLists:
    """Asks both models of an experiment as the service would, without its log; see :class:`ListMaker`.

    On the surface ``similar`` a list belongs to an item; there too the user's list is asked for.

    Args:
        lineup: The service's models.
        live: What users chose lately; None: nothing is known.
        settings: The service's, for its limits; nothing is ever drawn.
    """

    def __init__(
        self, lineup: Lineup, live: LiveHistory | None = None, *, settings: ServiceSettings | None = None
    ) -> None:
        given = settings or ServiceSettings()
        quiet = ServiceSettings(given.time_limit_ms, given.log_time_limit_ms)
        self._service = Service(lineup, sink=_Nowhere(), live=live, settings=quiet)

    async def __call__(self, experiment: Experiment, user_id: str, k: int) -> tuple[ShownList, ShownList]:
        """Return control's and treatment's list.

        Raises:
            ConfigError: a model of the experiment is not served.
            TailwiseError: a model's queue is full.
        """
        return (
            await self._list(experiment, experiment.control, user_id, k),
            await self._list(experiment, experiment.treatment, user_id, k),
        )

    async def _list(self, experiment: Experiment, variant: str, user_id: str, k: int) -> ShownList:
        surface = "home" if experiment.surface == "similar" else experiment.surface
        try:
            served = await self._service.recommend(Ask(surface, k, user_id=user_id, variant=variant))
        except VariantUnknownError:
            raise ConfigError(
                f"model {variant!r} must be served to be asked; it is not. Serve it: "
                f"tailwise serve --model {variant}=RUN/VARIANT."
            ) from None
        except OverloadedError:
            raise TailwiseError("The models have too many requests now. Try again in a moment.") from None
        return _shown(variant, served)


def _shown(variant: str, served: Served) -> ShownList:
    answer = served.record.answer
    note = _REASONS.get(answer.reason or "", "") if answer.method != "model" else ""
    if "live-history-unavailable" in served.warnings:
        note = f"{note} What the user chose lately could not be read.".strip()
    items = tuple(
        ShownItem(slot.position, slot.item_id, title, slot.segment)
        for slot, title in zip(answer.slots, served.titles, strict=True)
    )
    return ShownList(variant, items, note)
