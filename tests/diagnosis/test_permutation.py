import numpy as np

from tailwise.diagnosis._permutation import _shuffle_within


def test_shuffling_moves_items_only_among_neighbours():
    held = np.random.default_rng(0).permutation(100).astype(float)
    shuffled = _shuffle_within(held, np.random.default_rng(1))
    assert sorted(shuffled) == list(range(100))
    assert np.array_equal(held[shuffled] // 10, held // 10)
    assert not np.array_equal(shuffled, np.arange(100))


def test_equal_values_are_neighbours_of_any_of_their_kind():
    held = np.zeros(40)
    rng = np.random.default_rng(0)
    # Item 0 lands anywhere in time: strata of ties are drawn anew. 400 draws miss one of 40 places
    # with probability 40 · (39/40)^400 = 0.2 %.
    assert {int(_shuffle_within(held, rng)[0]) for _ in range(400)} == set(range(40))
