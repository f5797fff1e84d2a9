"""Titles' log-likelihoods after a prompt: of the whole catalogue, or of those that a beam search finds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.recommenders._text_model import TextModel
from tailwise.recommenders._title_trie import TitleTrie
from tailwise.recommenders._token_forest import TokenForest

__all__ = ["TitleBeam", "TitleScores"]

Ints = NDArray[np.int64]
_NODES_PER_PASS = 512  # read at once; their mask is square


@dataclass(frozen=True, eq=False)
class _Pass:
    """Some neighbouring titles, to be read behind any prompt.

    Attributes:
        tokens: ``[n]``; of the nodes that are read.
        depths: ``[n]``; tokens between the prompt's last and this one.
        sees: ``[n, n]`` bool; ancestors and itself.
        readers: ``[m]``; position of the node before each branch out of these nodes.
        branches: ``[m]``; node that each branch leads to.
    """

    tokens: Ints
    depths: Ints
    sees: NDArray[np.bool_]
    readers: Ints
    branches: Ints


class TitleScores:
    """Scores a whole catalogue after one prompt at a time: log p of a title's tokens, its end included.

    The prompt is read once, then the nodes of the catalogue's token tree, each behind its own
    beginning. So the cost per prompt is that of reading the tree's nodes, some ten per item: right
    for catalogues of a few thousand items, too much beyond.

    Args:
        model: What reads.
        trie: Of the catalogue, ``end_token`` being one of the model's.
    """

    def __init__(self, model: TextModel, trie: TitleTrie) -> None:
        self._model = model
        self._trie = trie
        self._passes = _passes(trie)
        self._leaves = _leaves(trie)
        self._levels = _levels(trie)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Return ``[len(prompts), n_items]`` float32 log-likelihoods on the CPU."""
        found = torch.empty(len(prompts), self._trie.n_items)
        for row, prompt in enumerate(prompts):
            found[row] = self._scores(list(prompt))
        return found

    def _scores(self, prompt: list[int]) -> Tensor:
        model, trie = self._model, self._trie
        own = np.zeros(trie.n_nodes, dtype=np.float64)  # log p of each node's token behind its parent
        known = model.prefix(prompt)
        first = trie.children([0])
        own[first.nodes] = known.log_probabilities[first.tokens].numpy()
        for one in self._passes:
            own[one.branches] = self._read(known.cache, len(prompt), one)
            known.cache.crop(-one.tokens.size)  # what was read behind the prompt goes
        for begin, end in self._levels:  # from the root down
            own[begin:end] += own[trie.parents[begin:end]]
        return torch.from_numpy(own[self._leaves]).float()

    def _read(self, cache: object, n_prompt: int, one: _Pass) -> NDArray[np.float32]:
        """Log p of every branch out of a pass's nodes."""
        model = self._model
        n = one.tokens.size
        mask = torch.zeros(n, n_prompt + n, dtype=model.dtype)
        mask[:, n_prompt:].masked_fill_(~torch.from_numpy(one.sees), torch.finfo(model.dtype).min)
        logits = model._logits(
            torch.from_numpy(one.tokens)[None],
            cache,
            attention_mask=mask[None, None].to(model.device),
            position_ids=torch.from_numpy(n_prompt + one.depths)[None].to(model.device),
        )[0]  # [n, vocabulary]
        tokens = torch.from_numpy(self._trie.tokens[one.branches])
        found = np.empty(one.branches.size, dtype=np.float32)
        for begin in range(0, n, 64):  # few enough for softmaxes to stay in fast memory
            here = slice(*np.searchsorted(one.readers, [begin, begin + 64]))  # readers ascend
            few = logits[begin : begin + 64].float()
            rows = torch.from_numpy(one.readers[here] - begin).to(few.device)
            of_branch = few[rows, tokens[here].to(few.device)] - few.logsumexp(1)[rows]
            found[here] = of_branch.cpu().numpy()
        return found


class TitleBeam:
    """Scores the titles that a beam search over the catalogue's token tree finds; the others get -inf.

    Token by token, the ``width`` best unfinished titles go on, and all that end are found, until no
    title could join the ``width`` best ones found. A found title's score is its exact
    log-likelihood; what is missed is a title whose beginning fell out of the beam. The cost per
    prompt is that of reading some ``width`` tokens for each token of a title, whatever the
    catalogue.

    Args:
        model: What reads.
        trie: Of the catalogue, ``end_token`` being one of the model's.
        width: Unfinished titles that go on, and found ones that they have to beat, >= 1.
    """

    def __init__(self, model: TextModel, trie: TitleTrie, *, width: int) -> None:
        if width < 1:
            raise ValueError(f"width must be >= 1; got {width}.")
        self._model = model
        self._trie = trie
        self._width = width

    def __call__(self, prompts: Sequence[Sequence[int]], excluded: Sequence[Ints]) -> Tensor:
        """Return ``[len(prompts), n_items]`` float32 log-likelihoods on the CPU.

        Args:
            prompts: Tokens of each.
            excluded: Items that are not to be found, for each prompt: they leave their places to others.
        """
        found = torch.full((len(prompts), self._trie.n_items), -torch.inf)
        for row, (prompt, items) in enumerate(zip(prompts, excluded, strict=True)):
            if len(np.unique(items)) < self._trie.n_items:
                self._search(prompt, items, found[row])
        return found

    def _search(self, prompt: Sequence[int], excluded: Ints, found: Tensor) -> None:
        trie, allowed = self._trie, self._trie.without([excluded])
        forest = TokenForest(self._model)
        positions, logits = forest.plant([prompt])
        nodes, above = np.zeros(1, dtype=np.int64), np.zeros(1)  # of the beam: node, log p so far
        while nodes.size:
            out = allowed.children(np.zeros_like(nodes), nodes)
            of_tokens = torch.log_softmax(logits, dim=1).numpy()[out.parents, out.tokens]
            so_far = above[out.parents] + of_tokens
            is_end = trie.is_leaf(out.nodes)
            ended, items = allowed.items_below(np.zeros(is_end.sum(), dtype=np.int64), out.nodes[is_end])
            found[torch.from_numpy(items)] = torch.from_numpy(so_far[is_end][ended]).float()
            # A title only loses by going on: one that is behind ``width`` found ones will not be among them.
            kept = torch.topk(found, min(self._width, len(found))).values
            is_open = np.flatnonzero(~is_end & (so_far > float(kept[-1])))
            best = is_open[np.argsort(-so_far[is_open], kind="stable")[: self._width]]
            nodes, above = out.nodes[best], so_far[best]
            if nodes.size:
                begin = forest.n_tokens
                after = [positions[parent] for parent in out.parents[best]]
                logits = forest.grow([int(token) for token in out.tokens[best]], after)
                positions = list(range(begin, forest.n_tokens))


def _passes(trie: TitleTrie) -> list[_Pass]:
    """Deal the nodes that have children, the root apart, out to passes, each with all its ancestors."""
    found, nodes = [], {}  # type: ignore[var-annotated]
    leaves = _leaves(trie)
    for item in trie.items:  # in the order of their tokens: neighbours begin alike
        path = _ancestors(trie, int(leaves[item]))
        new = [node for node in path if node not in nodes]
        if nodes and len(nodes) + len(new) > _NODES_PER_PASS:
            found.append(_pass(trie, list(nodes)))
            nodes = {}
            new = path
        nodes |= dict.fromkeys(new)
    return [*found, _pass(trie, list(nodes))]


def _pass(trie: TitleTrie, nodes: list[int]) -> _Pass:
    place = {node: i for i, node in enumerate(nodes)}  # a parent comes before its children
    sees = np.zeros((len(nodes), len(nodes)), dtype=np.bool_)
    depths = np.zeros(len(nodes), dtype=np.int64)
    for i, node in enumerate(nodes):
        parent = place.get(int(trie.parents[node]))
        if parent is not None:
            sees[i] = sees[parent]
            depths[i] = depths[parent] + 1
        sees[i, i] = True
    out = trie.children(nodes)
    return _Pass(trie.tokens[nodes], depths, sees, out.parents, out.nodes)


def _ancestors(trie: TitleTrie, leaf: int) -> list[int]:
    """The nodes between root and leaf, from above."""
    path = []
    node = int(trie.parents[leaf])
    while node > 0:
        path.append(node)
        node = int(trie.parents[node])
    return path[::-1]


def _leaves(trie: TitleTrie) -> Ints:
    """The node at which each item's title ends: ``[n_items]``."""
    leaves = np.flatnonzero(trie.is_leaf(np.arange(trie.n_nodes)))
    found = np.empty(trie.n_items, dtype=np.int64)
    for leaf in leaves:
        found[trie.items_below(int(leaf))] = leaf
    return found


def _levels(trie: TitleTrie) -> list[tuple[int, int]]:
    """Begin and end of the nodes of every level below the first, which are numbered one after the other."""
    begin, end = 1, 1 + trie.children([0]).nodes.size
    levels = []
    while end < trie.n_nodes:
        begin, end = end, end + trie.children(np.arange(begin, end)).nodes.size
        levels.append((begin, end))
    return levels
