"""Titles drawn from a language model that may say nothing but titles of the catalogue."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from tailwise.recommenders._text_model import TextModel
from tailwise.recommenders._title_trie import AllowedItems, TitleTrie
from tailwise.recommenders._token_forest import TokenForest

__all__ = ["spread_draws", "thin"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def spread_draws(
    model: TextModel,
    trie: TitleTrie,
    prompts: Sequence[Sequence[int]],
    excluded: Sequence[ArrayLike],
    *,
    closing: Sequence[int],
    n_draws: int,
    seeds: Sequence[Sequence[int]],
) -> tuple[Floats, int]:
    """Say how often each item would be drawn, following whole probabilities as far as draws allow.

    A draw walks down the trie: at each node the model's probabilities of the next token are
    restricted to branches with an allowed item below and made to add up to one; at a leaf, the
    items of the title share the draw. ``n_draws`` independent walks would mostly repeat each
    other's first steps. Here all branches out of a node take their exact share of the draws.
    What has come down to a single title needs no further reading and is done. Of the other
    branches, at each level, those that expect a draw or more go on with their share; those that expect
    less share fewer, whole draws by lot (:func:`thin`). So each item's share is right
    in expectation, without the noise of the choices that could be computed.

    Args:
        model: The walker.
        trie: Of titles as they follow the prompts.
        prompts: Tokens, one or more each.
        excluded: One collection of items per prompt that are not to be drawn.
        closing: Tokens that end a title; what the model gives any of them goes to ``trie.end_token``.
        n_draws: Per prompt, >= 1. As many branches at most are read further at each level.
        seeds: Of each prompt's own lots, so that they do not depend on its neighbours.

    Returns:
        ``[len(prompts), n_items]`` expected share of a draw, each row adding up to one; and the
        number of tokens read.
    """
    allowed = trie.without(excluded)
    lots = [np.random.default_rng(seed) for seed in seeds]
    forest = TokenForest(model)
    ends, logits = forest.plant(prompts)
    shares = np.zeros((len(prompts), trie.n_items))
    rows, nodes = np.arange(len(prompts)), np.zeros(len(prompts), dtype=np.int64)
    mass, position = np.ones(len(prompts)), np.array(ends)
    while rows.size:
        branches = allowed.children(rows, nodes)
        chances = _chances(logits, branches.parents, branches.tokens, closing, trie.end_token)
        mass, position = mass[branches.parents] * chances, position[branches.parents]
        rows = rows[branches.parents]
        bottom = branches.nodes.copy()
        several = branches.n_items > 1
        bottom[several] = _slide(allowed, rows[several], bottom[several])
        is_done = ~several | trie.is_leaf(bottom)
        which, items = allowed.items_below(rows[is_done], bottom[is_done])
        np.add.at(shares, (rows[is_done][which], items), (mass[is_done] / branches.n_items[is_done])[which])
        kept, mass_of_kept = _thin_rows(mass, rows, ~is_done, n_draws, lots)
        rows, nodes, mass = rows[kept], bottom[kept], mass_of_kept
        if kept.size:
            position, logits = _read(forest, trie, position[kept], branches.nodes[kept], nodes)
    return shares, forest.n_tokens


def thin(mass: Floats, n_kept: int, lot: float) -> tuple[Ints, Floats]:
    """Keep at most ``n_kept`` of several masses so that each is right in expectation.

    Masses above a threshold stay as they are; each other one stays with the probability mass/threshold and
    then counts as the threshold, where the threshold is such that ``n_kept`` stay. One number decides all, by
    systematic sampling, so neighbours are not kept together by chance. The sum does not change. Of all such
    schemes it changes the masses least, by their expected squared error.

    Args:
        mass: ``[n]``, each >= 0.
        n_kept: >= 1.
        lot: Uniform in [0, 1).

    Returns:
        Ascending positions, and their masses, all > 0.

    Example:
        >>> thin(np.array([0.6, 0.1, 0.1, 0.1]), 2, lot=0.5)
        (array([0, 2]), array([0.6, 0.3]))

    Reference:
        Fearnhead and Clifford (2003), "On-line inference for hidden Markov models via particle filters",
        section 3: optimal resampling.
    """
    if np.count_nonzero(mass) <= n_kept:
        kept = np.flatnonzero(mass)
        return kept, mass[kept]
    order = np.argsort(-mass, kind="stable")
    rest = np.cumsum(mass[order][::-1])[::-1]  # of the k-th largest and all below
    places = n_kept - np.arange(n_kept)
    n_large = int(np.argmax(mass[order][:n_kept] * places <= rest[:n_kept]))
    small = np.sort(order[n_large:])
    small = small[mass[small] > 0]
    threshold = rest[n_large] / places[n_large]
    upto = np.cumsum(mass[small] / threshold)
    upto *= places[n_large] / upto[-1]  # a whole number but for rounding
    found = np.searchsorted(upto, lot + np.arange(places[n_large]), side="right")
    hit = small[np.minimum(found, small.size - 1)]  # a lot just below 1 may round to the end
    kept = np.concatenate([order[:n_large], hit])
    masses = np.concatenate([mass[order[:n_large]], np.full(hit.size, threshold)])
    ascending = np.argsort(kept)
    return kept[ascending], masses[ascending]


def _thin_rows(
    mass: Floats, rows: Ints, is_open: NDArray[np.bool_], n_draws: int, lots: Sequence[np.random.Generator]
) -> tuple[Ints, Floats]:
    """Thin the open branches of each row to as many as their draws, rounded up: positions and masses."""
    kept, masses = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for row in np.unique(rows[is_open]):
        of_row = np.flatnonzero(is_open & (rows == row))
        n_kept = max(1, math.ceil(n_draws * mass[of_row].sum() - 1e-9))
        chosen, left = thin(mass[of_row], n_kept, lots[row].random())
        kept.append(of_row[chosen])
        masses.append(left)
    return np.concatenate(kept), np.concatenate(masses)


def _read(
    forest: TokenForest, trie: TitleTrie, position: Ints, first: Ints, last: Ints
) -> tuple[Ints, Tensor]:
    """Let the model read the tokens that lead to each node ``first`` and on to ``last`` below it.

    Returns:
        Position of each ``last`` in the forest, and logits of what follows it.
    """
    tokens: list[int] = []
    after: list[int] = []
    ask: list[int] = []
    for before, top, node in zip(position.tolist(), first.tolist(), last.tolist(), strict=True):
        path = [node]
        while path[-1] != top:
            path.append(int(trie.parents[path[-1]]))
        for i, of_path in enumerate(reversed(path)):
            after.append(before if i == 0 else forest.n_tokens + len(tokens) - 1)
            tokens.append(int(trie.tokens[of_path]))
        ask.append(len(tokens) - 1)
    begin = forest.n_tokens
    logits = forest.grow(tokens, after, ask=ask)
    return begin + np.array(ask), logits


def _chances(logits: Tensor, parents: Ints, tokens: Ints, closing: Sequence[int], end_token: int) -> Floats:
    """Probability of each branch among those out of the same node: ``[n_branches]``."""
    ends = logits[:, list(closing)].logsumexp(dim=1).numpy()
    is_end = tokens == end_token
    heights = np.where(is_end, ends[parents], logits.numpy()[parents, np.where(is_end, 0, tokens)])
    heights = heights.astype(np.float64)
    firsts = np.flatnonzero(np.diff(parents, prepend=-1))
    weights = np.exp(heights - np.maximum.reduceat(heights, firsts)[parents])
    chances: Floats = weights / np.add.reduceat(weights, firsts)[parents]
    return chances


def _slide(allowed: AllowedItems, rows: Ints, nodes: Ints) -> Ints:
    """Follow each branch while it does not fork: to where the model has to choose, or to a leaf."""
    bottom, moving = nodes.copy(), np.arange(nodes.size)
    while moving.size:
        branches = allowed.children(rows[moving], bottom[moving])
        has_one = np.bincount(branches.parents, minlength=moving.size) == 1
        is_only = has_one[branches.parents]
        moving = moving[branches.parents[is_only]]
        bottom[moving] = branches.nodes[is_only]
    return bottom
