import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.recommenders._title_trie import TitleTrie

END = 9
many = settings(max_examples=60, deadline=None)
# Few tokens and short titles: prefixes of each other, duplicates and long shared beginnings are common.
title_lists = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=6).map(tuple), min_size=1, max_size=25
)


@st.composite
def exclusions(draw):
    """Titles, and for each row of a batch items to leave out, never all."""
    titles = draw(title_lists)
    rows = draw(st.lists(st.sets(st.integers(0, len(titles) - 1)), min_size=1, max_size=4))
    return titles, [set(sorted(row)[: len(titles) - 1]) for row in rows]


class SlowTrie:
    """The same tree as nested dictionaries; ``None`` holds the items of a leaf."""

    def __init__(self, titles):
        self.root = {}
        for item, title in enumerate(titles):
            node = self.root
            for token in (*title, END):
                node = node.setdefault(token, {})
            node.setdefault(None, set()).add(item)

    def n_nodes(self, node=None):
        node = self.root if node is None else node
        return 1 + sum(self.n_nodes(child) for token, child in node.items() if token is not None)

    def items(self, node):
        if None in node:
            return set(node[None])
        return set().union(*(self.items(child) for child in node.values()))


def walk(trie):
    """Every path from the root to a leaf, by way of ``children``: the tokens said and the items there."""
    paths, begun = [], [((), 0)]
    while begun:
        said, node = begun.pop()
        branches = trie.children([node])
        begun += [((*said, int(t)), int(n)) for t, n in zip(branches.tokens, branches.nodes, strict=True)]
        if not branches.nodes.size:
            paths.append((said, trie.items_at(node).tolist()))
    return paths


@many
@given(title_lists)
def test_walking_the_trie_says_exactly_the_titles_and_finds_each_ones_items(titles):
    expected = {}
    for item, title in enumerate(titles):
        expected.setdefault((*title, END), []).append(item)
    found = walk(TitleTrie(titles, END))
    assert len(found) == len(expected)  # none twice
    assert dict(found) == expected


@many
@given(title_lists)
def test_every_node_agrees_with_nested_dictionaries(titles):
    trie, slow = TitleTrie(titles, END), SlowTrie(titles)
    pairs = [(0, slow.root)]
    for node, same in pairs:  # grows on the way
        branches = trie.children([node])
        assert branches.tokens.tolist() == sorted(token for token in same if token is not None)
        assert set(trie.items_below(node).tolist()) == slow.items(same)
        assert int(trie.n_below(node)) == len(slow.items(same))
        assert bool(trie.is_leaf(node)) == (None in same)
        assert set(trie.items_at(node).tolist()) == same.get(None, set())
        pairs += [(int(n), same[int(t)]) for t, n in zip(branches.tokens, branches.nodes, strict=True)]
        assert all(
            trie.parents[n] == node and trie.tokens[n] == t
            for t, n in zip(branches.tokens, branches.nodes, strict=True)
        )
    assert trie.n_nodes == slow.n_nodes() == len(pairs)
    assert trie.n_items == len(titles)


@many
@given(title_lists, st.lists(st.integers(0, 1000), max_size=8))
def test_children_of_many_nodes_are_those_of_each_one_after_the_other(titles, picks):
    trie = TitleTrie(titles, END)
    nodes = [pick % trie.n_nodes for pick in picks]
    together = trie.children(nodes)
    for field in ("tokens", "nodes", "n_items"):
        alone = [getattr(trie.children([node]), field) for node in nodes]
        assert getattr(together, field).tolist() == [value for found in alone for value in found.tolist()]
    assert together.parents.tolist() == [
        i for i, node in enumerate(nodes) for _ in trie.children([node]).nodes
    ]


@many
@given(exclusions())
def test_excluded_items_are_unreachable_and_every_other_item_stays_reachable(case):
    titles, rows = case
    allowed = TitleTrie(titles, END).without([sorted(row) for row in rows])
    for row, excluded in enumerate(rows):
        reached, begun = [], [0]
        while begun:
            node = begun.pop()
            below = allowed.items_below([row], [node])[1].tolist()
            assert int(allowed.n_below(row, node)) == len(below) > 0  # no dead end
            branches = allowed.children([row], [node])
            begun += branches.nodes.tolist()
            if not branches.nodes.size:
                reached += below
        assert sorted(reached) == sorted(set(range(len(titles))) - excluded)


@many
@given(exclusions())
def test_counts_of_allowed_items_are_those_of_sets(case):
    titles, rows = case
    trie = TitleTrie(titles, END)
    allowed = trie.without([sorted(row) for row in rows])
    nodes = np.arange(trie.n_nodes)
    for row, excluded in enumerate(rows):
        expected = [len(set(trie.items_below(node).tolist()) - excluded) for node in nodes]
        assert allowed.n_below(np.full(nodes.size, row), nodes).tolist() == expected


@many
@given(exclusions())
def test_rows_of_a_batch_do_not_know_of_each_other(case):
    titles, rows = case
    trie = TitleTrie(titles, END)
    nodes = np.tile(np.arange(trie.n_nodes), len(rows))
    of_row = np.repeat(np.arange(len(rows)), trie.n_nodes)
    together = trie.without([sorted(row) for row in rows])
    branches, (which, items) = together.children(of_row, nodes), together.items_below(of_row, nodes)
    begun, found = [], []
    for i, row in enumerate(of_row):
        alone = trie.without([sorted(rows[row])])
        one = alone.children([0], [nodes[i]])
        begun += [(i, *branch) for branch in zip(one.tokens, one.nodes, one.n_items, strict=True)]
        found += [(i, item) for item in alone.items_below([0], [nodes[i]])[1]]
    assert begun == list(
        zip(branches.parents, branches.tokens, branches.nodes, branches.n_items, strict=True)
    )
    assert found == list(zip(which, items, strict=True))


def test_a_title_that_begins_another_is_a_leaf_beside_it():
    trie = TitleTrie([[5, 6], [5], [5, 6, 7]], END)
    after_5 = trie.children([trie.children([0]).nodes[0]])
    assert after_5.tokens.tolist() == [6, END]
    assert after_5.n_items.tolist() == [2, 1]
    assert trie.items_at(after_5.nodes[1]).tolist() == [1]
    assert trie.items_at(after_5.nodes[0]).tolist() == []  # "5 6" itself ends further down


def test_items_of_one_title_share_a_leaf_in_order():
    trie = TitleTrie([[5], [4], [5], [5]], END)
    (leaf,) = trie.children([trie.children([0]).nodes[1]]).nodes
    assert trie.items_at(leaf).tolist() == [0, 2, 3]
    which, items = trie.without([[2]]).items_below([0], [leaf])
    assert (which.tolist(), items.tolist()) == ([0, 0], [0, 3])


def test_a_catalogue_of_one_title_is_one_path():
    trie = TitleTrie([[3, 3]], END)
    assert walk(trie) == [((3, 3, END), [0])]
    assert (trie.n_nodes, trie.tokens.tolist(), trie.parents.tolist()) == (4, [-1, 3, 3, END], [-1, 0, 1, 2])


def test_a_leaf_has_no_children():
    trie = TitleTrie([[3]], END)
    assert trie.children([2]).nodes.size == 0
    assert trie.children([]).nodes.size == 0


def test_titles_in_any_script_come_back_whole():
    names = ["寿司", "Amélie", "Amelie", "Ame\u0301lie", "🎬", "寿"]
    found = walk(TitleTrie([list(name.encode()) for name in names], 256))
    assert {bytes(said[:-1]).decode(): items for said, items in found} == {
        n: [i] for i, n in enumerate(names)
    }


def test_a_large_catalogue_loses_no_title():
    rng = np.random.default_rng(0)
    titles = rng.zipf(1.3, (20_000, 8)).clip(max=49_000)
    trie = TitleTrie(titles.tolist(), 49_152)
    assert int(trie.n_below(0)) == 20_000
    assert sorted(trie.items.tolist()) == list(range(20_000))
    deepest = np.flatnonzero(trie.is_leaf(np.arange(trie.n_nodes)))
    assert int(trie.n_below(deepest).sum()) == 20_000


def test_the_order_of_titles_decides_nothing_but_item_numbers():
    titles = [[2, 1], [2], [0, 3, 1], [2, 1, 1]]
    one, other = TitleTrie(titles, END), TitleTrie(titles[::-1], END)
    assert np.array_equal(one.tokens, other.tokens)
    assert np.array_equal(one.items, 3 - other.items)


@pytest.mark.parametrize(
    ("titles", "end", "message"),
    [
        ([], END, "token_sequences must hold a title; got none"),
        ([[1], [], []], END, "got 2 empty titles (first: items [1, 2])"),
        (
            [[1], [1, END]],
            END,
            "tokens >= 0 other than end_token=9; got 1 titles with such a token (first: item 1)",
        ),
        ([[1], [-1]], END, "got 1 titles with such a token (first: item 1)"),
        ([[1]], -1, "end_token must be >= 0; got -1"),
    ],
)
def test_titles_that_cannot_be_told_apart_from_their_end_are_refused(titles, end, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TitleTrie(titles, end)


@pytest.mark.parametrize(
    ("excluded", "message"),
    [
        ([[], [0, 3]], "excluded must hold items in 0..2; got 3 in row 1"),
        ([[-1]], "excluded must hold items in 0..2; got -1 in row 0"),
        ([[], [2, 0, 1, 1]], "excluded must leave an item; got all 3 in row 1"),
    ],
)
def test_exclusions_that_make_no_sense_are_refused(excluded, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TitleTrie([[1], [2], [3]], END).without(excluded)


@many
@given(title_lists)
def test_the_numbers_of_nodes_go_level_by_level(titles):
    trie = TitleTrie(titles, END)
    assert (np.diff(trie.parents) >= 0).all()
    assert (trie.parents[1:] < np.arange(1, trie.n_nodes)).all()
