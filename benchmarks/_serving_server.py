"""The service over a made-up catalogue, in a process of its own; beside it the same model, asked naively.

Started by ``how_fast_is_serving.py``. It prints one JSON line with its port once it takes requests, and
serves until its standard input ends. Three routes take the body of a request for a list:

* ``/v1/recommendations``: the service, its log in SQLite included;
* ``/naive``: one call of :func:`tailwise.recommenders.recommend` per request, one after the other, no log;
* ``/forget`` (no body): drops what the engine keeps of users, so that a measurement can begin cold; says
  of how many something is kept still.
"""

import argparse
import json
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import APIRouter

from tailwise.events import EventLog
from tailwise.interactions import load_dataset
from tailwise.recommenders import (
    BackboneConfig,
    ItemTokenConfig,
    Recommender,
    SASRecConfig,
    TitleConfig,
    build_item_token,
    build_sasrec,
    build_title,
    recommend,
)
from tailwise.serving import Engine, EngineSettings, KnownHistories, ServedCatalogue, ServedModel
from tailwise.serving._http_app import create_app
from tailwise.serving._http_keys import KeyStore
from tailwise.serving._http_schemas import CatalogueChanged, ItemChange, ListRequest, Models, WorkerState
from tailwise.serving._lineup import Lineup, Member
from tailwise.serving._service import Service, ServiceSettings

WINDOW = 50  # items that a model reads
ENCODING_WIDTH = 64  # of made-up titles; the adapter brings them to the model's width


class StandStill:
    """A control that changes nothing: what is measured is served."""

    is_ready = True

    def state(self) -> WorkerState:
        """Return what there is to say."""
        return WorkerState(worker=0, pid=0, generation=0, catalogue=0, error=None, models=[])

    def models(self) -> Models:
        """Return the one worker."""
        return Models(generation=0, is_settled=True, workers=[self.state()])

    def log_state(self) -> Mapping[str, object]:
        """Return nothing."""
        return {}

    async def put_model(self, name: str, source: str) -> Models:
        """Refuse."""
        raise RuntimeError("the benchmark swaps nothing")

    async def put_catalogue(self, changes: Sequence[ItemChange]) -> CatalogueChanged:
        """Refuse."""
        raise RuntimeError("the benchmark swaps nothing")


def build(kind: str, n_items: int, depth: int) -> Recommender:
    """Build an untrained model: speed does not depend on what it has learned."""
    if kind == "title":
        titles = load_dataset("ml-100k").catalogue.titles()
        backbone = BackboneConfig("smollm2-135m", depth=depth or None)
        return build_title(titles, backbone, TitleConfig(scoring="beam", beam_width=20), seed=0)
    config = ItemTokenConfig(max_length=WINDOW, id_residual=False)
    encodings = torch.randn(n_items, ENCODING_WIDTH, generator=torch.Generator().manual_seed(0)).half()
    if kind == "tiny":
        return build_sasrec(n_items, SASRecConfig(width=16), ItemTokenConfig(), seed=0)
    return build_item_token(encodings, BackboneConfig("smollm2-135m", depth=depth or None), config, seed=0)


def served(recommender: Recommender) -> ServedModel:
    """Put a made-up catalogue around it: item ``i`` is called ``i<index>``."""
    n = recommender.n_items
    catalogue = ServedCatalogue(
        [f"i{index}" for index in range(n)],
        [f"Item {index}" for index in range(n)],
        np.arange(n, 0, -1),
        ["head" if index < n // 5 else "tail" for index in range(n)],
    )
    return ServedModel("control", "0" * 64, recommender, catalogue, KnownHistories.from_histories([], []))


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=["item-token", "title", "tiny"], required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--depth", type=int, required=True)
    parser.add_argument(
        "--item-dtype", choices=["float32", "bfloat16", "int8", "int8+float32"], required=True
    )
    parser.add_argument("--cache-mb", type=float, required=True)
    options = parser.parse_args()

    model = served(build(options.kind, options.items, options.depth))
    settings = EngineSettings(
        item_dtype=options.item_dtype,
        state_cache_mb=options.cache_mb,
        warm_up=options.kind != "title",  # of a minute; its first requests are thrown away instead
    )
    engine = Engine(model, settings)
    lineup = Lineup({"control": Member(engine, "made-up")}, drain_s=60.0)
    extra = APIRouter()

    @extra.post("/naive")
    async def naive(body: ListRequest) -> dict[str, Any]:
        index_of = model.catalogue.index_of
        history = [index for item in body.history or () if (index := index_of(item)) is not None]
        (items,) = recommend(model.recommender, [history], body.k)
        slots = [
            {"item_id": model.catalogue.item_ids[i], "title": model.catalogue.titles[i], "position": place}
            for place, i in enumerate(items, start=1)
        ]
        return {"method": "model", "items": slots}

    @extra.post("/forget")
    async def forget() -> dict[str, Any]:
        await engine.forget(await engine.kept_users())
        return {"n_kept": len(await engine.kept_users())}

    with tempfile.TemporaryDirectory() as folder:
        log = EventLog.open(f"sqlite:///{folder}/events.db", Path(folder) / "spool")
        # Nothing may fall back while speed is measured: the limits are out of the way.
        limits = ServiceSettings(time_limit_ms=120_000, log_time_limit_ms=10_000)
        service = Service(lineup, sink=log, live=log, settings=limits)

        @asynccontextmanager
        async def living() -> AsyncIterator[None]:
            await engine.start()
            yield
            await lineup.close(10.0)
            await log.close(10.0)

        app = create_app(
            service,
            StandStill(),
            keys=KeyStore(Path(folder) / "keys.json"),
            rate_limit="1000000/second",
            routers=[extra],
            lifespan=living,
        )
        # Named as TCP: else the loop does not switch off Nagle's wait, which costs 40 ms an answer.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        server = _Server(uvicorn.Config(app, log_level="error", access_log=False), listener, engine)

        def watch() -> None:
            sys.stdin.read()
            server.should_exit = True

        threading.Thread(target=watch, daemon=True).start()
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Says its port once it takes requests."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, engine: Engine) -> None:
        super().__init__(config)
        self._listener, self._engine = listener, engine

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets=sockets)
        said = {"port": self._listener.getsockname()[1], "item_bytes": self._engine.state().item_bytes}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
