from dataclasses import replace

import polars as pl
import pytest

from tailwise.dashboard import ExperimentTables, experiment_page
from tailwise.dashboard._cost_form import measured_change
from tailwise.dashboard._experiment_page import stage_steps
from tailwise.dashboard._figures import interval_mark, path_figure, reach_of
from tailwise.experiments import METRICS, Rollout, estimate_effects, transition
from tests.dashboard.making import DAY, START, FakeSource, decisions, evidence, experiment, outcomes, running


@pytest.fixture(scope="module")
def page():
    return experiment_page(running(), FakeSource(running()).made, decisions())


def test_rows_say_what_the_engine_says(page):
    found = estimate_effects(
        outcomes(),
        (METRICS["tail_clicks"],),
        tuned_for=2000,
        burn_in=running_burn_in(),
    )["tail_clicks"]
    row = page.goals[0]
    assert row.metric.name == "tail_clicks"
    assert row.change == found.deciding.relative
    assert (row.low, row.high) == (
        found.deciding.relative_interval.low,
        found.deciding.relative_interval.high,
    )
    assert (row.fixed_low, row.fixed_high) == (
        found.fixed.relative_interval.low,
        found.fixed.relative_interval.high,
    )
    assert row.verdict == "better"


def running_burn_in():
    from tailwise.experiments import BurnIn

    policy = experiment().policy
    return BurnIn(2 * policy.first_look_users, policy.first_look_active_users)


def test_the_sequence_is_wider_than_the_interval_of_one_look(page):
    for row in (*page.goals, *page.others):
        assert row.low < row.fixed_low < row.change < row.fixed_high < row.high


def test_the_path_ends_where_the_row_is(page):
    for path, row in zip(page.paths, page.goals, strict=False):
        assert path.metric == row.metric
        assert path.low[-1] == pytest.approx(row.low, rel=1e-9)
        assert path.change[0] is None  # before the burn-in


def test_goals_come_first_and_limits_bring_their_margin(page):
    assert [row.metric.name for row in page.goals] == ["tail_clicks", "tail_purchases"]
    margins = {row.metric.name: row.margin for row in page.others}
    assert (margins["head_purchases"], margins["gmv"], margins["conversion"]) == (0.15, 0.1, None)
    assert not {row.metric.name for row in page.goals} & set(margins)


def test_a_metric_that_should_fall_is_worse_when_it_rises(page):
    head = next(row for row in page.segments if row.segment == "head")
    assert head.shown.metric.good == "down"
    assert head.shown.change < 0
    assert head.shown.verdict == "better"


def test_segments_without_impressions_are_left_out(page):
    assert [row.segment for row in page.segments] == ["head", "tail"]


def test_lights_are_those_of_the_policy(page):
    assert {result.name: result.light for result in page.guardrails} == {
        "clicks": "green",
        "gmv": "green",
        "head_purchases": "green",
        "errors": "green",
        "fallbacks": "amber",
        "latency_p95": "green",
        "sample_ratio": "green",
    }
    harm = ExperimentTables(outcomes(60), outcomes(60), evidence(head=(-0.4, -0.6, -0.2)))
    lights = {r.name: r.light for r in experiment_page(running(), harm, []).guardrails}
    assert lights["head_purchases"] == "red"


def test_a_lost_cohort_is_seen_in_the_first_exposures(page):
    assert not page.sample.is_mismatch
    table = outcomes()
    treated = pl.col("variant") == "treatment"
    lost = table.filter(~treated | (pl.col("user_id").str.slice(4).cast(pl.Int64) % 2 == 0))
    found = experiment_page(running(), ExperimentTables(table, lost), []).sample
    assert found.is_mismatch


def test_a_draft_has_an_empty_page_and_no_made_up_number():
    found = experiment_page(Rollout(experiment()), ExperimentTables(pl.DataFrame(), pl.DataFrame()), [])
    assert (found.goals, found.others, found.paths, found.segments, found.guardrails) == ((), (), (), (), ())
    assert (found.sample, found.gmv, measured_change(found)) == (None, None, None)
    assert {step.state for step in found.steps} == {"next"}


def test_few_users_are_too_early_rather_than_unclear():
    found = experiment_page(running(), ExperimentTables(outcomes(60), outcomes(60)), [])
    assert {row.verdict for row in found.goals} == {"early"}
    assert found.goals[0].low is None
    assert path_figure(found.paths[0], []) == ""


def test_users_whose_window_holds_a_pause_are_left_out_in_both_cohorts():
    paused = transition(running(), "pause", START + 10 * DAY)
    table = outcomes(800)
    held = (table["exposed_at"] < START + 10 * DAY) & (table["window_closes_at"] > START + 10 * DAY)
    assert held.sum() > 100
    assert experiment_page(paused, ExperimentTables(table, table), []).n_users == 800 - held.sum()


def test_one_cohort_alone_has_no_effects():
    table = outcomes(200).filter(pl.col("variant") == "control")
    assert experiment_page(running(), ExperimentTables(table, table), []).goals == ()


def test_model_names_other_than_the_usual_ones_are_understood():
    named = running(experiment(control="plain", treatment="eisam"))
    names = {"control": "plain", "treatment": "eisam"}
    table = outcomes(800).with_columns(pl.col("variant").replace(names))
    assert experiment_page(named, ExperimentTables(table, table), []).n_users == 800


def test_the_ramp_shows_when_each_stage_began_and_ended():
    steps = stage_steps(running(), {0: (10, 11)})
    assert [step.state for step in steps] == ["done", "done", "current", "next", "next"]
    assert (steps[0].began_at, steps[0].ended_at) == (START, START + 4 * DAY)
    assert (steps[0].n_control, steps[0].n_treatment, steps[1].n_control) == (10, 11, None)
    back = stage_steps(transition(running(), "rollback", START + 9 * DAY))
    assert (back[2].state, back[2].ended_at) == ("ended", START + 9 * DAY)
    whole = running(stages=5)
    assert stage_steps(transition(whole, "complete", START + 30 * DAY))[4].state == "done"


def test_money_and_sell_through_go_to_the_cost_page(page):
    found = measured_change(page)
    assert found.gmv_relative == page.gmv.change
    assert (found.control_sell_through, found.treatment_sell_through) == (210 / 1600, 340 / 1600)


def test_marks_stay_inside_their_drawing_and_say_when_an_interval_goes_on(page):
    row = replace(page.goals[0], low=-5.0, high=9.0)
    drawn = interval_mark(row, reach_of([row]))
    assert drawn.count('class="beyond"') == 2
    import re

    xs = [float(x) for x in re.findall(r'(?:x1|x2|cx)="([-\d.]+)"', drawn)]
    assert 0 <= min(xs) <= max(xs) <= 180


def test_drawings_carry_no_style_and_no_script(page):
    drawn = str(path_figure(page.paths[0], [(START + 4 * DAY, "<b>5 %</b>")]))
    assert "style=" not in drawn
    assert "<script" not in drawn
    assert "<b>" not in drawn
    assert drawn.count("<svg") == 2
