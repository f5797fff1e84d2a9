import numpy as np
import pytest

from tailwise.diagnosis._shares import SHARES, given_counts, shares_of, slopes_of

#                 V(D)  P1   P2   P3   B1   B2   B3  total, then agreement: reliabilities 0.8 and 0.6
MOMENTS = np.array([3.0, 2.0, 2.4, 2.5, 5.0, 5.2, 5.3, 10.0, 0.8, 1.0, 0.3, 0.5])


def named(stated=None, moments=MOMENTS):
    found = shares_of(moments, stated)
    return dict(zip(SHARES, found[:8], strict=True)), dict(zip(SHARES, found[8:16], strict=True))


def test_uncorrected_shares_worked_by_hand():
    plain, _ = named()
    assert plain["v_data"] == pytest.approx(0.3)
    assert plain["v_prior"] == pytest.approx(0.25)
    assert plain["v_both"] == pytest.approx(0.53)
    assert plain["data"] == pytest.approx((0.3 + 0.53 - 0.25) / 2)
    assert plain["prior"] == pytest.approx((0.25 + 0.53 - 0.3) / 2)
    assert plain["data_alone"] == pytest.approx(0.28)
    assert plain["prior_alone"] == pytest.approx(0.23)
    assert plain["interaction"] == pytest.approx(0.53 - 0.3 - 0.25)


def test_each_order_is_divided_by_its_own_power_of_its_own_reliability():
    _, corrected = named()
    assert corrected["v_prior"] == pytest.approx((2 / 0.8 + 0.4 / 0.8**2 + 0.1 / 0.8**3) / 10)
    assert corrected["prior_alone"] == pytest.approx((2 / 0.6 + 0.2 / 0.6**2 + 0.1 / 0.6**3) / 10)
    assert corrected["v_data"] == pytest.approx(0.3)  # counts have no error


def test_stated_reliability_takes_the_place_of_the_measured_one():
    # Error is 0.3 of a variance of 1, of which counts leave ½: reliability 0.4 there.
    _, corrected = named(stated=0.7)
    assert corrected["prior_alone"] == pytest.approx((2 / 0.4 + 0.2 / 0.4**2 + 0.1 / 0.4**3) / 10)
    assert given_counts(0.7, 1.0, 0.5) == pytest.approx(0.4)


def test_total_is_handed_on():
    assert shares_of(MOMENTS, None)[-1] == 10.0


def test_slopes_predict_small_changes():
    rng = np.random.default_rng(0)
    step = 1e-6 * rng.standard_normal(12)
    for stated in (None, 0.7):
        change = shares_of(MOMENTS + step, stated) - shares_of(MOMENTS - step, stated)
        assert 2 * step @ slopes_of(MOMENTS, stated) == pytest.approx(change, rel=1e-4, abs=1e-10)


def test_prior_that_counts_predict_exactly_is_not_corrected_given_them():
    moments = MOMENTS.copy()
    moments[-2:] = 0.0
    assert np.isfinite(shares_of(moments, None)).all()
    assert named(moments=moments)[1]["prior_alone"] == pytest.approx(0.23)
