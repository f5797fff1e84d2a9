"""How many users per second get a list of titles, and how many of the lists are valid?

    python benchmarks/how_fast_is_decoding.py --output benchmarks/results
    python benchmarks/how_fast_is_decoding.py --setting tiny    # seconds, offline

Ways to let a causal language model say the next titles after a prompt with a user's history:

* ``beam``: :class:`TitleDecoder`, which can only say items of the catalogue that the user has not seen;
* ``generate, prefix function``: ``transformers``' generate with as many beams and returned sequences, and
  a ``prefix_allowed_tokens_fn`` that walks a trie of dicts (built once; a user's seen items are taken out
  of what comes back);
* ``generate, grounded``: the same without a constraint; what is said is matched to titles by its tokens;
* ``exact``: every title of the catalogue scored, for scale; for the first user alone, as it is slow.

A list is valid with ``--k`` different items of the catalogue that the user has not seen. ``smollm2``:
SmolLM2-135M cut to ``--depth`` layers, untrained (no cost depends on it; what unconstrained generation
says does), and the films of MovieLens 100K; prompts are histories of the test users, 10 films each.
``tiny``: a random model and catalogue.

All ways run in one process on the same users, turn by turn in an order drawn anew each time; a ratio is
that of two neighbouring turns' users per second, the median over repeats with a 95 % interval from order
statistics.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from _record import aligned, by_turns, conclude, rounded, surroundings
from tailwise.recommenders import TitleDecoder, TitleTrie

QUESTION = "How many users per second get a valid list of titles?"
SLUG = "how-fast-is-decoding"

Lists = list[list[int]]


class Workload:
    """A model, a catalogue's titles and users with prompts and items seen."""

    def __init__(self, setting: str, *, n_users: int, depth: int) -> None:
        if setting == "tiny":
            torch.manual_seed(0)
            self.model: Any = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=60,
                    hidden_size=16,
                    intermediate_size=24,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    bos_token_id=None,
                    eos_token_id=None,
                )
            )
            rng = np.random.default_rng(0)
            lengths = rng.integers(1, 5, 80)
            self.titles = [rng.integers(3, 60, n).tolist() for n in lengths]
            self.terminator = 1
            self.seen = [rng.choice(80, 5, replace=False).tolist() for _ in range(n_users)]
            self.prompts = [[2, *(t for i in seen for t in self.titles[i])] for seen in self.seen]
        else:
            self._films(n_users, depth)
        self.model.eval()

    def _films(self, n_users: int, depth: int) -> None:
        from tailwise.interactions import histories, load_dataset, split_leave_last_out
        from tailwise.recommenders import resolve_language_model

        folder = resolve_language_model("smollm2-135m")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", num_hidden_layers=depth)
        dataset = load_dataset("ml-100k")
        texts = dataset.catalogue.titles()
        self.titles = [tokenizer(f" {text}", add_special_tokens=False).input_ids for text in texts]
        (self.terminator,) = tokenizer("\n", add_special_tokens=False).input_ids
        held_out = histories(split_leave_last_out(dataset), "test")
        rows = np.random.default_rng(0).choice(held_out.n_users, n_users, replace=False)
        self.seen = [held_out.histories[row].tolist() for row in rows]
        prompts = ["Films watched:\n" + "".join(f" {texts[i]}\n" for i in seen[-10:]) for seen in self.seen]
        self.prompts = [tokenizer(text, add_special_tokens=False).input_ids for text in prompts]


def _trie_of_dicts(titles: Sequence[Sequence[int]], terminator: int) -> dict[int, Any]:
    root: dict[int, Any] = {}
    for title in titles:
        node = root
        for token in [*title, terminator]:
            node = node.setdefault(token, {})
    return root


def _ways(work: Workload, *, k: int, width: int, users_at_once: int) -> dict[str, Callable[[], Lists]]:
    beyond = int(work.model.config.vocab_size)
    trie = TitleTrie(work.titles, beyond)
    decoder = TitleDecoder(work.model, trie, terminator=work.terminator, tokens_at_once=users_at_once * width)
    by_title: dict[tuple[int, ...], list[int]] = {}
    for item, title in enumerate(work.titles):
        by_title.setdefault(tuple(title), []).append(item)
    longest = max(map(len, work.titles)) + 1
    root = _trie_of_dicts(work.titles, work.terminator)

    def beam() -> Lists:
        return decoder.beam_search(work.prompts, excluded=work.seen, k=k, width=width).items.tolist()

    def exact() -> Lists:
        scores = torch.from_numpy(decoder.scores(work.prompts[:1]))
        scores[0, work.seen[0]] = -torch.inf
        return scores.topk(k).indices.tolist()

    def generate(constrained: bool) -> Lists:
        lists = []
        for begin in range(0, len(work.prompts), users_at_once):
            prompts = work.prompts[begin : begin + users_at_once]
            n = max(map(len, prompts))
            tokens = torch.tensor([[0] * (n - len(p)) + p for p in prompts])
            mask = torch.tensor([[0] * (n - len(p)) + [1] * len(p) for p in prompts])

            def allowed(_: int, text: torch.Tensor, n: int = n) -> list[int]:
                node = root
                for token in text[n:].tolist():
                    node = node.get(token, {})
                return list(node) or [work.terminator]

            said = work.model.generate(
                tokens,
                attention_mask=mask,
                num_beams=width,
                num_return_sequences=width,
                max_new_tokens=longest,
                do_sample=False,
                eos_token_id=work.terminator,
                pad_token_id=work.terminator,
                length_penalty=0.0,
                prefix_allowed_tokens_fn=allowed if constrained else None,
            )[:, n:].tolist()
            for row in range(len(prompts)):
                found: list[int] = []
                for text in said[row * width : (row + 1) * width]:
                    ended = text.index(work.terminator) if work.terminator in text else len(text)
                    found += by_title.get(tuple(text[:ended]), [])
                seen = set(work.seen[begin + row])
                lists.append([item for item in dict.fromkeys(found) if item not in seen][:k])
        return lists

    return {
        "beam": beam,
        "generate, prefix function": lambda: generate(True),
        "generate, grounded": lambda: generate(False),
        "exact": exact,
    }


def measure(
    setting: str, *, n_users: int, depth: int, k: int, width: int, users_at_once: int, repeats: int
) -> list[dict[str, Any]]:
    """Users per second, their ratio to generate with a prefix function, and the share of valid lists."""
    work = Workload(setting, n_users=n_users, depth=depth)
    ways = _ways(work, k=k, width=width, users_at_once=users_at_once)
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    lists: dict[str, Lists] = {}
    order = random.Random(0)
    for _ in range(repeats):
        for name in order.sample(list(ways), len(ways)):
            started = time.perf_counter()
            with torch.inference_mode():
                lists[name] = ways[name]()
            speeds[name].append(len(lists[name]) / (time.perf_counter() - started))
    rows = []
    for name in ways:
        valid = [
            len(set(items)) == k and not set(items) & set(seen)
            for items, seen in zip(lists[name], work.seen, strict=False)
        ]
        rows.append(
            rounded(
                {
                    "way": name,
                    "users_per_second": median(speeds[name]),
                    **by_turns(speeds[name], speeds["generate, prefix function"]),
                    "valid_share": float(np.mean(valid)),
                }
            )
        )
    return rows


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--setting", choices=("smollm2", "tiny"), default="smollm2")
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--depth", type=int, default=4, help="layers of the language model")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--width", type=int, default=20, help="beams")
    parser.add_argument("--users-at-once", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=6, help="six are the least for a 95 %% interval")
    parser.add_argument("--output", type=Path, help="keep the record in a dated folder below this one")
    options = parser.parse_args(arguments)
    given = (options.users, options.k, options.users_at_once, options.repeats)
    if min(given) < 1 or options.width < options.k:
        parser.error(f"numbers must be >= 1 and --width >= --k; got {given} and --width {options.width}.")
    rows = measure(
        options.setting,
        n_users=options.users,
        depth=options.depth,
        k=options.k,
        width=options.width,
        users_at_once=options.users_at_once,
        repeats=options.repeats,
    )
    table = aligned(
        ("", "users/s", "times generate", "95 % interval", "valid lists"),
        [
            (
                r["way"],
                f"{r['users_per_second']:.2f}",
                f"{r['ratio']:.2f}",
                f"{r['ratio_low']:.2f}-{r['ratio_high']:.2f}",
                f"{r['valid_share']:.0%}",
            )
            for r in rows
        ],
    )
    record = {"question": QUESTION, **surroundings(), "threads": torch.get_num_threads(), "rows": rows}
    return conclude(record, table, options, SLUG)


if __name__ == "__main__":
    main()
