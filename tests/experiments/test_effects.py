import numpy as np
import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.experiments import (
    GUARDRAIL_METRICS,
    METRICS,
    PRIMARY_METRICS,
    BurnIn,
    OutcomeArrays,
    anytime_path,
    estimate_effects,
    fixed_effect,
    follow_effect,
    holm,
    metrics_of_kind,
)

DAY = 86_400.0


def outcomes(n: int = 3000, *, lift: float = 1.0, seed: int = 0, covariates: bool = False) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    treated = rng.integers(0, 2, n).astype(bool)
    taste = rng.gamma(1.0, 1.0, n)
    orders = rng.poisson(0.3 * taste * np.where(treated, lift, 1.0))
    clicks = rng.poisson(2 * taste)
    exposed = np.sort(rng.uniform(0, 10 * DAY, n))
    columns = {
        "user_id": [f"u{i:05d}" for i in range(n)],
        "variant": np.where(treated, "treatment", "control"),
        "stage": np.repeat([0, 1], [n // 4, n - n // 4]),
        "exposed_at": exposed,
        "window_closes_at": exposed + 3 * DAY,
        "currency": ["EUR" if k else None for k in orders],
        "tail_clicks": rng.binomial(clicks, 0.3),
        "clicks": clicks,
        "tail_purchases": rng.binomial(orders, 0.3),
        "head_purchases": orders,
        "converted": (orders > 0).astype(int),
        "orders": orders,
        "gmv": orders * rng.lognormal(3, 0.8, n),
        "sessions": 1 + rng.poisson(taste),
    }
    if covariates:
        columns["pre_gmv"] = rng.gamma(5 * taste + 0.01, 1.0, n)
        columns["pre_clicks"] = rng.poisson(5 * taste)
    return pl.DataFrame(columns)


def test_each_metric_gets_what_the_arrays_say_in_order_of_enrolment():
    table = outcomes()
    found = estimate_effects(table.sample(fraction=1.0, shuffle=True, seed=1), tuned_for=3000)
    arrays = OutcomeArrays.of(
        (table["variant"] == "treatment").to_numpy(), table["stage"], table["gmv"], table["orders"]
    )
    path, fixed = anytime_path(arrays, tuned_for=3000), fixed_effect(arrays)
    value = found["average_order_value"]
    # the same numbers in the same order
    assert value.anytime.interval.low == pytest.approx(path.low[0], rel=1e-12)
    assert value.anytime.relative_bounds.low == pytest.approx(path.relative_lower[0], rel=1e-12)
    assert value.fixed is not None
    assert fixed is not None
    assert value.fixed.p_value == pytest.approx(fixed.p_value, rel=1e-9)
    assert [effect.metric for effect in found.metrics] == [*PRIMARY_METRICS, *GUARDRAIL_METRICS]
    assert (found.n_users, found.currency) == (3000, "EUR")


def test_an_effect_on_orders_is_seen_in_them_and_not_in_clicks():
    found = estimate_effects(outcomes(8000, lift=1.5), tuned_for=8000)
    assert found["conversion"].anytime.interval.low > 0
    assert found["conversion"].p_adjusted < 0.05
    assert not found["tail_clicks"].anytime.interval.excludes(0.0)


def test_correction_is_holms_within_a_kind_and_simultaneous_intervals_are_wider():
    found = estimate_effects(outcomes(6000, lift=1.2), tuned_for=6000)
    for kind in ("primary", "guardrail"):
        alike = [effect for effect in found.metrics if effect.metric.kind == kind]
        assert [e.p_adjusted for e in alike] == pytest.approx(holm([e.anytime.p_value for e in alike]))
    for effect in found.metrics:
        assert effect.anytime.simultaneous.width > effect.anytime.interval.width


def test_cuped_decides_wherever_there_is_something_to_adjust_by():
    found = estimate_effects(outcomes(covariates=True))
    assert found["clicks"].deciding is found["clicks"].anytime_cuped
    assert found["clicks"].variance_ratio is not None
    assert found["clicks"].variance_ratio < 0.75  # taste explains much of clicks before and after
    assert found["clicks"].deciding.interval.width < found["clicks"].anytime.interval.width
    assert found["conversion"].anytime_cuped is None
    assert found["conversion"].variance_ratio is None
    assert found["average_order_value"].fixed_cuped is not None  # by earlier gmv alone


def test_windows_that_close_later_are_left_out():
    table = outcomes()
    found = estimate_effects(table, windows_closed_at=8 * DAY)
    assert found.n_users == table.filter(pl.col("exposed_at") <= 5 * DAY).height
    assert sum(size.n_control + size.n_treatment for size in found.stages) == found.n_users


def test_following_an_effect_says_at_each_time_what_was_known_then():
    table = outcomes(covariates=True)
    times = [2 * DAY, 8 * DAY, 20 * DAY]
    path = follow_effect(table, METRICS["clicks"], times, burn_in=BurnIn(users=100))
    for i, time in enumerate(times):
        then = estimate_effects(table, [METRICS["clicks"]], windows_closed_at=time, burn_in=BurnIn(users=100))
        assert path.n_users[i] == then.n_users
        assert path.low[i] == pytest.approx(then["clicks"].deciding.interval.low, rel=1e-9)


def test_before_anybody_is_there_everything_is_open():
    found = estimate_effects(outcomes().head(0))
    assert found["gmv"].fixed is None
    assert found["gmv"].anytime.interval.width == np.inf
    assert (found["gmv"].p_adjusted, found.n_users) == (1.0, 0)


def test_two_currencies_are_refused():
    table = outcomes().with_columns(
        currency=pl.when(pl.col("user_id") == "u00007").then(pl.lit("USD")).otherwise(pl.lit("EUR"))
    )
    with pytest.raises(DataError, match="currency must be one for the whole experiment; got EUR, USD"):
        estimate_effects(table)


def test_tables_that_break_a_rule_are_refused_by_name_and_number():
    table = outcomes(40)
    with pytest.raises(DataError, match="got none named gmv, sessions"):
        estimate_effects(table.drop("gmv", "sessions"))
    with pytest.raises(DataError, match=r"user_id must be unique; got 40 repeated"):
        estimate_effects(pl.concat([table, table]))
    with pytest.raises(DataError, match=r"variant must be 'a' or 'b'; got '(control|treatment)' .* 40 of 40"):
        estimate_effects(table, control="a", treatment="b")
    holes = table.with_columns(gmv=pl.when(pl.col("user_id") != "u00001").then("gmv"))
    with pytest.raises(DataError, match="gmv must be known of every user; got 1 nulls"):
        estimate_effects(holes)
    with pytest.raises(ValueError, match="metrics must be sums over users; got 'coverage'"):
        estimate_effects(table, [METRICS["coverage"]])
    with pytest.raises(KeyError, match="'nothing' must be one of"):
        estimate_effects(table)["nothing"]


def test_metrics_have_one_name_each_and_kinds_part_them():
    assert len({metric.name for metric in METRICS.values()}) == len(METRICS)
    kinds = [metrics_of_kind(kind) for kind in ("primary", "guardrail", "descriptive")]
    assert sum(len(kind) for kind in kinds) == len(METRICS)
