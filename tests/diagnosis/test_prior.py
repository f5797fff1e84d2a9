import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from tailwise.diagnosis import Outcomes, attribute_gap, prior_reliability
from tailwise.diagnosis._prior import measure_prior
from tailwise.diagnosis._prior_estimate import PriorEstimate
from tailwise.diagnosis._prior_words import agreement_sentence
from tailwise.diagnosis._uncertain import Uncertain

N_ITEMS = 40
TITLES = [f"{'red' if i % 2 else 'blue'} thing {i} {'long ' * (i % 5)}" for i in range(N_ITEMS)]
COUNTS = np.random.default_rng(0).zipf(1.6, N_ITEMS).clip(max=500)
NAN = float("nan")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def elsewhere():
    """An estimate from another place, of a third of the items."""
    rng = np.random.default_rng(1)
    columns = np.log1p(COUNTS)[:, None] + rng.standard_normal((N_ITEMS, 3))
    columns[rng.random(N_ITEMS) < 0.6] = NAN
    return PriorEstimate("output-frequency", columns.mean(axis=1), columns, ("a", "b", "c"))


@pytest.fixture(scope="module")
def found(tiny_model, elsewhere, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TAILWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return measure_prior(TITLES, COUNTS, tiny_model, kind="toy", n_pairwise_items=20, others=[elsewhere])


def test_estimates_come_in_the_order_asked_with_those_from_elsewhere_last(found, elsewhere):
    assert [e.name for e in found.estimates] == ["title-likelihood", "pairwise", "output-frequency"]
    assert found.estimates[2] is elsewhere
    assert [e.n_asked for e in found.estimates[:2]] == [N_ITEMS, 20]


def test_agreements_are_spearmans_over_the_items_that_both_have(found):
    scores = {estimate.name: estimate.scores for estimate in found.estimates} | {"popularity": COUNTS * 1.0}
    pairs = {frozenset((a.first, a.second)) for a in found.agreements}
    assert len(found.agreements) == len(pairs) == 6  # four rankings, two at a time
    for agreement in found.agreements:
        one, other = scores[agreement.first], scores[agreement.second]
        both = np.isfinite(one) & np.isfinite(other)
        assert agreement.n_items == both.sum()
        assert agreement.spearman.value == pytest.approx(spearmanr(one[both], other[both]).statistic)
        assert agreement.spearman.low < agreement.spearman.value < agreement.spearman.high
    assert found.agreement("pairwise", "title-likelihood") == found.agreement("title-likelihood", "pairwise")
    with pytest.raises(KeyError, match="no agreement of 'pairwise' and 'guess'"):
        found.agreement("pairwise", "guess")


def test_stability_is_that_of_the_columns_over_items_that_all_have(found, elsewhere):
    stability = found.stabilities[2]
    known = np.isfinite(elsewhere.columns[:, 0])
    between = spearmanr(elsewhere.columns[known]).statistic[np.triu_indices(3, 1)]
    assert stability.name == "output-frequency"
    assert stability.mean_spearman == pytest.approx(between.mean())
    assert stability.lowest_spearman == pytest.approx(between.min())
    assert stability.reliability == prior_reliability(elsewhere.columns[known], COUNTS[known])


def test_a_single_column_has_no_stability(tiny_model):
    one = PriorEstimate("one", np.arange(N_ITEMS), np.arange(N_ITEMS)[:, None], ("only",))
    found = measure_prior(TITLES, COUNTS, tiny_model, estimators=["title-likelihood"], others=[one])
    stability = found.stabilities[1]
    assert (stability.mean_spearman, stability.lowest_spearman) == (None, None)
    assert stability.reliability.reliability is None
    assert found.pairwise is None
    assert found.as_dict()["pairwise"] is None


def test_pairs_that_cannot_be_compared_are_left_out_with_the_reason(tiny_model):
    few = [TITLES[0], TITLES[1], *[""] * (N_ITEMS - 2)]
    found = measure_prior(few, COUNTS, tiny_model, kind="toy")
    assert [estimate.name for estimate in found.estimates] == ["title-likelihood"]
    assert found.pairwise is None
    assert found.pairwise_left_out == found.as_dict()["pairwise_left_out"]
    assert found.pairwise_left_out.startswith("titles must hold 10 different ones to compare pairs; got 2")
    assert "could not be asked" in found.sentence


def test_combined_is_what_attribution_takes(found):
    assert found.combined.shape == (N_ITEMS, 6)
    assert np.array_equal(found.combined, found.likelihood.estimate.columns)
    rng = np.random.default_rng(0)
    items = rng.integers(0, N_ITEMS, 400)
    outcomes = Outcomes(rng.integers(0, 50, 400), items, rng.random(400), COUNTS, found.combined)
    assert attribute_gap(outcomes, n_permutations=19).sentence


def test_items_without_a_title_have_the_median_in_combined_and_are_counted(tiny_model):
    titles = ["", *TITLES[1:]]
    found = measure_prior(titles, COUNTS, tiny_model, estimators=("title-likelihood",))
    assert found.n_filled == 1
    assert found.combined[0] == pytest.approx(np.median(found.combined[1:], axis=0))
    assert np.isnan(found.estimates[0].scores[0])
    assert found.agreement("title-likelihood").n_items == N_ITEMS - 1


def test_length_is_checked_of_the_score_with_and_without_adjustment_and_of_the_naive_ones(found, tiny_model):
    names = [check.name for check in found.length_checks]
    assert names == ["score", "score before adjustment", "naive mean", "naive sum"]
    checks = dict(zip(names, found.length_checks, strict=True))
    assert checks["naive sum"].spearman_with_length.value < -0.9  # a random model: length is all there is
    assert not checks["naive sum"].is_free_of_length
    plain = measure_prior(
        TITLES, COUNTS, tiny_model, kind="toy", estimators=("title-likelihood",), length_adjusted=False
    )
    assert [check.name for check in plain.length_checks] == ["score", "naive mean", "naive sum"]
    assert (
        plain.length_checks[0].spearman_with_length == checks["score before adjustment"].spearman_with_length
    )


def test_the_sentence_says_how_far_and_that_the_comparison_failed(found):
    assert found.sentence.startswith(agreement_sentence(found.agreement("title-likelihood").spearman))
    assert not found.pairwise.is_informative  # a random model
    assert found.sentence.endswith(found.pairwise.sentence)


@pytest.mark.parametrize(
    ("spearman", "text"),
    [
        (
            (0.05, 0.01, 0.09),
            "What the model knew beforehand agrees hardly with your log: Spearman 0.05 (0.01 ",
        ),
        ((0.21, 0.16, 0.26), "agrees weakly with your log: Spearman 0.21 (0.16 to 0.26)."),
        ((0.4, 0.3, 0.5), "agrees moderately with"),
        ((1.0, 1.0, 1.0), "agrees strongly with"),
        ((-0.4, -0.5, -0.3), "runs moderately against your log: Spearman -0.40 (-0.50 to -0.30)."),
        (
            (0.1, -0.1, 0.3),
            "Whether what the model knew beforehand agrees with your log cannot be told: Spear",
        ),
        ((None, None, None), "cannot be compared with your log: too few items, or all are alike."),
        ((0.3, None, None), "have Spearman 0.30; too few items for an interval."),
    ],
)
def test_agreement_in_words(spearman, text):
    assert text in agreement_sentence(Uncertain(*spearman))


def test_the_result_is_plain_json_without_single_items(found):
    plain = found.as_dict()
    text = json.dumps(plain, allow_nan=False)
    assert json.loads(text) == plain
    assert plain["sentence"] == found.sentence
    assert plain["estimates"][0]["cost"]["n_computed"] == N_ITEMS * 7
    assert len(text) < 20_000  # does not grow with the catalogue


def test_a_second_run_comes_from_the_cache_and_is_the_same(tiny_model, monkeypatch):
    import transformers

    settings = {"n_pairwise_items": 12, "kind": "toy"}
    first = measure_prior(TITLES, COUNTS, tiny_model, **settings)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)
    told = []
    again = measure_prior(TITLES, COUNTS, tiny_model, progress=lambda *state: told.append(state), **settings)
    assert {stage for stage, _, _ in told} == {"title likelihood", "pairwise comparison"}
    for one, other in zip(first.estimates, again.estimates, strict=True):
        assert np.array_equal(one.columns, other.columns, equal_nan=True)
        assert (other.cost.seconds, other.cost.n_computed) == (0.0, 0)
        assert other.cost.seconds_when_computed == one.cost.seconds_when_computed
    assert first.agreements == again.agreements


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimators": ("pairwise",)}, "estimators must be of title-likelihood, pairwise, with title-like"),
        ({"estimators": ("title-likelihood", "guess")}, "got title-likelihood, guess"),
        ({"estimators": ()}, "got none"),
        ({"counts": COUNTS[:-1]}, r"counts must be one per title, 40; got shape \(39,\)"),
        ({"counts": np.where(np.arange(40) == 3, -2, COUNTS)}, "counts must be >= 0; got -2 for item"),
        ({"counts": COUNTS + 0.5}, "counts must be whole numbers; got float64"),
        ({"others": [PriorEstimate("x", [1.0], [[1.0]], ("a",))]}, "others .* 40; got 1 in 'x'"),
        (
            {"others": [PriorEstimate("pairwise", np.ones(40), np.ones((40, 1)), ("a",))]},
            "others must have names of their own; got 'pairwise' twice",
        ),
        (
            {"others": [PriorEstimate("popularity", np.ones(40), np.ones((40, 1)), ("a",))]},
            "got 'popularity' twice",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_the_model_is_read(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        measure_prior(TITLES, settings.pop("counts", COUNTS), tmp_path / "no model here", **settings)


def test_a_catalogue_without_titles_is_refused(tiny_model):
    with pytest.raises(ValueError, match="titles must hold one that is not empty; got 3 empty ones"):
        measure_prior(["", " ", ""], [1, 2, 3], tiny_model)
