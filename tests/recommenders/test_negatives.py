"""A softmax over drawn items: what is drawn, how often, and what it estimates."""

import numpy as np
import pytest
import torch

from tailwise.recommenders import (
    ItemTokenConfig,
    NegativeSampler,
    SASRecConfig,
    SequenceBatch,
    SequenceBatches,
    build_sasrec,
)

COUNTS = np.array([400, 90, 30, 12, 5, 3, 1, 0, 0, 0])


def recommender(seed=0):
    config = ItemTokenConfig(max_length=6, dropout=0.0)
    return build_sasrec(len(COUNTS), SASRecConfig(8, 1, 2, 0.0), config, seed=seed)


def batch(negatives=None):
    return SequenceBatch(
        torch.tensor([[0, 3, 1, 9], [2, 0, 0, 0]]), torch.tensor([[3, 1, 9, 4], [5, -1, -1, -1]]), negatives
    )


# What is drawn


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 3, 7, 10])
def test_probabilities_follow_popularity_and_add_up(n, power):
    p = NegativeSampler(COUNTS, n=n, power=power, seed=0).probabilities
    assert p.sum() == pytest.approx(n)
    assert ((p > 0) & (p <= 1)).all()
    free = p < 1
    ratios = p[free] / (COUNTS[free] + 1.0) ** power
    np.testing.assert_allclose(ratios, ratios[:1].repeat(len(ratios)))


def test_items_are_drawn_as_often_as_their_probability_says():
    sampler = NegativeSampler(COUNTS, n=4, power=0.5, seed=0)
    n_draws = 4000
    times = np.zeros(len(COUNTS))
    for number in range(n_draws):
        drawn = sampler.draw(0, number)
        items = drawn.items.numpy()
        assert (np.diff(items) > 0).all()
        assert abs(len(items) - 4) <= 1
        np.testing.assert_allclose(drawn.log_inclusion, np.log(sampler.probabilities[items]), rtol=1e-6)
        times[items] += 1
    error = np.sqrt(sampler.probabilities * (1 - sampler.probabilities) / n_draws)
    assert (np.abs(times / n_draws - sampler.probabilities) <= 4 * error + 1e-12).all()


def test_a_draw_is_a_function_of_seed_epoch_and_batch():
    first, same, other = (NegativeSampler(COUNTS, n=4, power=0.0, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.draw(2, 5).items, same.draw(2, 5).items)
    others = [other.draw(2, 5), first.draw(3, 5), first.draw(2, 6)]
    everything = torch.cat([torch.bincount(d.items, minlength=10)[None] for d in [first.draw(2, 5), *others]])
    assert len(everything.unique(dim=0)) > 1


def test_a_draw_shares_no_random_number_with_the_cuts_of_histories():
    """To numpy a seed of [seed, epoch] is that of [seed, epoch, 0], which would be the first batch's."""
    sampler = NegativeSampler(np.zeros(1000, int), n=1, power=0.0, seed=3)
    drawn = int(sampler.draw(2, 0).items[0])
    mark = np.random.default_rng([3, 2]).random() * 1000
    assert drawn != sampler._sometimes[int(mark)]


def test_kinds_at_even_distances_in_the_catalogue_are_not_drawn_together():
    """Every hundredth item is of a kind; 100 of 10,000 equally popular items would all be of one."""
    sampler = NegativeSampler(np.zeros(10_000, int), n=100, power=0.0, seed=0)
    kinds = {int(kind) for kind in sampler.draw(0, 0).items % 100}
    assert len(kinds) > 40  # 63 on average


def test_every_batch_has_its_own_and_batches_stay_as_they_were():
    histories = [np.arange(5), np.arange(3, 9), np.array([1, 4, 7])] * 3
    given = {"max_length": 4, "positions_per_batch": 8, "seed": 3}
    plain = SequenceBatches(histories, **given).epoch(1)
    sampled = SequenceBatches(
        histories, **given, negatives=NegativeSampler(COUNTS, n=4, power=0.0, seed=3)
    ).epoch(1)
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(plain, sampled, strict=True))
    assert len({tuple(b.negatives.items.tolist()) for b in sampled}) > 1
    some = sampled[0].rows(torch.tensor([0]))
    assert some.negatives is sampled[0].negatives
    assert sampled[0].part(slice(0, 1)).negatives is sampled[0].negatives


# What it estimates


def gradient(model, losses):
    model.zero_grad()
    losses.sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("offsets", [None, torch.linspace(-1, 1, len(COUNTS))])
def test_with_all_items_drawn_it_is_the_softmax(offsets):
    model = recommender()
    everything = NegativeSampler(COUNTS, n=len(COUNTS), power=0.5, seed=0).draw(0, 0)
    full, sampled = model.losses(batch(), offsets), model.losses(batch(everything), offsets)
    torch.testing.assert_close(sampled, full)
    torch.testing.assert_close(
        gradient(model, model.losses(batch(everything), offsets)),
        gradient(model, model.losses(batch(), offsets)),
    )


def test_the_sum_over_the_catalogue_is_right_on_average():
    """Of exp(loss), not of the loss: the logarithm of an unbiased sum is biased, less and less with n."""
    model = recommender()
    with torch.no_grad():
        full = model.losses(batch())
        errors = []
        for n in (2, 5, 8):
            sampler = NegativeSampler(COUNTS, n=n, power=0.5, seed=0)
            losses = torch.stack([model.losses(batch(sampler.draw(0, i))) for i in range(1500)])
            has = batch().targets >= 0
            means, expected = losses.exp().mean(0)[has], full.exp()[has]
            spread = losses.exp().std(0)[has] / 1500**0.5
            assert ((means - expected).abs() <= 4.5 * spread + 1e-5).all()
            errors.append(float((losses.mean(0) - full)[has].abs().mean()))
    assert errors[0] > errors[1] > errors[2]


def test_the_mean_gradient_nears_that_of_the_whole_softmax():
    model = recommender()
    full = gradient(model, model.losses(batch()))

    def distance(n):
        sampler = NegativeSampler(COUNTS, n=n, power=0.5, seed=0)
        drawn = [gradient(model, model.losses(batch(sampler.draw(0, i)))) for i in range(150)]
        return float((torch.stack(drawn).mean(0) - full).norm() / full.norm())

    far, near = distance(2), distance(8)
    assert near < far / 2


def test_a_target_that_is_drawn_counts_once():
    model = recommender()
    everything = NegativeSampler(COUNTS, n=len(COUNTS), power=0.0, seed=0).draw(0, 0)
    vectors = model.item_vectors()
    hidden = model._hidden(torch.tensor([[2]]), vectors)[:, 0]
    expected = torch.logsumexp(hidden @ vectors.T, 1) - (hidden @ vectors.T)[:, 5]
    one = SequenceBatch(torch.tensor([[2]]), torch.tensor([[5]]), everything)
    torch.testing.assert_close(model.losses(one)[0], expected)


def test_vectors_of_other_items_get_no_gradient():
    model = recommender()
    sampler = NegativeSampler(COUNTS, n=2, power=0.0, seed=0)
    drawn = sampler.draw(0, 0)
    gradient(model, model.losses(batch(drawn)))
    touched = model.item_vectors.residual.weight.grad.abs().sum(1) > 0
    occurring = {*batch().inputs.flatten().tolist(), *drawn.items.tolist(), 3, 1, 9, 4, 5}
    assert set(touched.nonzero().flatten().tolist()) <= occurring


# What is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 0}, r"n must be in 1\.\.10, the size of the catalogue; got 0"),
        ({"n": 11}, r"n must be in 1\.\.10.*got 11"),
        ({"power": -0.5}, "power must be a finite number >= 0; got -0.5"),
        ({"counts": [-1, 2]}, "counts must be a vector of numbers >= 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, message):
    arguments = {"counts": COUNTS, "n": 2, "power": 0.5, "seed": 0} | given
    with pytest.raises(ValueError, match=message):
        NegativeSampler(arguments.pop("counts"), **arguments)
