import inspect
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailwise import cli, jobs
from tailwise.errors import ConfigError
from tailwise.jobs import VariantConfig
from tailwise.jobs._methods import METHODS, radii_of_groups, settings_in_use
from tailwise.jobs._train_variant import _history_weights, _identity, _target_weights
from tailwise.optim import GroupSAM, ImbSAM, item_weights
from tailwise.recommenders import ItemTokenConfig, SASRecConfig, build_sasrec
from tailwise.reports import check_metrics, read_metrics

from .builders import TINY, final_weights, tiny_config

COUNTS = torch.arange(1, 101)

# Every optimizer, every estimator, every control, and what goes with any of them.
OPTIMIZERS = {
    **{name: name for name in METHODS},
    "single-pass": "eisam:estimator=single-pass",
    "unit": "eisam:estimator=single-pass,row_weights=unit",
    "sampled": "eisam:estimator=sampled,row_share=0.5",
    "every-k": "eisam:estimator=every-k,every=2",
    "exact": "eisam:estimator=exact",
    "step": "eisam:estimator=exact,weights=step,rho=0.05,perturb=shared",
    "shared": "eisam:perturb=shared,rho=0.5",
    "by-name": "eisam:perturb=*lora_B*",
    "late": "sam:start_step=3",
    "relative": "sam:relative=true",
    "ascend": "momentum-sam:ascend=true",
    "margin": "adamw:logit_adjustment=0.5",
    "reweighted": "adamw:reweighting=0.5",
    "class-balanced": "adamw:reweighting_beta=0.9",
    "resampled": "adamw:resampling=1",
    "composed": "eisam:logit_adjustment=0.5,reweighting=0.5,resampling=1",
}


@pytest.fixture(scope="module")
def trained(tiny_log, tiny_model, session_cache, tmp_path_factory) -> Path:
    """One run of all of them, from the command line."""
    out = tmp_path_factory.mktemp("methods") / "run"
    flags = [
        f"--optimizer={text}{',' if ':' in text else ':'}name={name}" for name, text in OPTIMIZERS.items()
    ]
    files = [f"--interactions={tiny_log.interactions}", f"--items={tiny_log.items}", f"--model={tiny_model}"]
    tiny = [f"--set={setting}" for setting in TINY if not setting.startswith("sasrec")]
    shorter = ["--set=training.max_epochs=1", "--set=training.checkpoint_seconds=60"]
    kept = ["--set=training.keep=last", "--set=references=[]", "--quiet", f"--out={out}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(session_cache))
        with pytest.raises(SystemExit) as end:
            cli.main(["run", *files, *flags, *tiny, *shorter, *kept])
    assert end.value.code == 0
    return out


@pytest.mark.slow
def test_every_optimizer_trains_and_is_measured_from_the_command_line(trained):
    metrics = read_metrics(trained / "metrics.json")
    check_metrics(metrics)
    assert [v["name"] for v in metrics["variants"]] == list(OPTIMIZERS)
    assert [v["role"] for v in metrics["variants"]] == ["baseline"] + ["treatment"] * (len(OPTIMIZERS) - 1)
    for variant in metrics["variants"]:
        expected = VariantConfig.parse(OPTIMIZERS[variant["name"]])
        assert variant["label"] == expected.label
        assert variant["settings"]["variant"] == expected.as_dict() | {"name": variant["name"]}
        assert variant["settings"]["training"]["keep"] == "last"
        assert variant["cost"]["kept_epoch"] == variant["cost"]["n_epochs"] == 1
    page = (trained / "report.html").read_text()
    assert "Group-SAM (ρ=0.05, 3 groups)" in page
    assert "+ re-weighting 0.5 + re-sampling 1" in page


@pytest.mark.slow
def test_no_two_of_them_train_alike_but_imbsam_and_eisam_with_step_weights(trained):
    ends = {
        place.split("/")[0]: torch.cat([w.flatten() for w in weights.values()])
        for place, weights in final_weights(trained).items()
    }
    assert ends.keys() == OPTIMIZERS.keys()
    names = sorted(ends)
    alike = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if torch.equal(ends[a], ends[b])]
    assert alike == [("imbsam", "step")]  # the same by definition, computed from other arguments


@pytest.mark.slow
def test_the_record_holds_the_settings_in_use_and_no_others(trained):
    record = json.loads((trained / "unit" / "seed-0" / "record.json").read_text())
    assert record["variant"] == VariantConfig.parse(OPTIMIZERS["unit"]).as_dict() | {"name": "unit"}
    assert "every" not in record["variant"]
    (late,) = [
        v for v in json.loads((trained / "config.json").read_text())["variants"] if v["name"] == "late"
    ]
    assert (late["start_step"], "eta" in late) == (3, False)


def test_a_pattern_that_matches_nothing_is_refused_before_the_first_training(
    tiny_log, tiny_model, tailwise_cache, tmp_path
):
    variants = "variants=[{name='adamw'}, {name='mistyped', optimizer='sam', perturb='*lora_C*'}]"
    config = tiny_config(tiny_log.interactions, tiny_log.items, tiny_model, variants, "references=[]")
    with pytest.raises(ConfigError, match=r"variant 'mistyped': perturb must name .*; got '\*lora_C\*'"):
        jobs.run(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "adamw").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"reweighting": 0.5},
        {"reweighting_beta": 0.5},
        {"resampling": 0.5},
        {"logit_adjustment": 0.5},
        {"optimizer": "sam"},
        {"optimizer": "eisam"},
    ],
)
def test_every_setting_makes_another_training_whose_checkpoints_do_not_mix(changes, tiny_log, tiny_model):
    config = tiny_config(tiny_log.interactions, tiny_log.items, tiny_model)
    recommender = build_sasrec(5, SASRecConfig(width=8, depth=1), ItemTokenConfig(max_length=6), seed=0)
    data = SimpleNamespace(summary={"checksum": "0", "split": {}})

    def identity(**settings: Any) -> str:
        return _identity(
            recommender,
            config,
            settings.pop("training", config.training),
            VariantConfig("x", **settings),
            seed=0,
            data=data,  # type: ignore[arg-type]
        )

    assert identity(**changes) != identity()
    assert identity(training=replace(config.training, keep="last")) != identity()
    assert identity(training=replace(config.training, checkpoint_seconds=7.0)) == identity()


# Defaults and rules


@pytest.mark.parametrize("name", METHODS)
def test_a_default_is_that_of_the_method_where_the_method_has_one(name):
    variant = VariantConfig.parse(name)
    optimizer = METHODS[name].build(
        [torch.zeros(1, requires_grad=True)], COUNTS, 0, settings_in_use(name, {})
    )
    functions = [cls.__init__ for cls in reversed(type(optimizer).__mro__)] + [item_weights]
    own = {
        key: parameter.default
        for function in functions
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }
    ours = METHODS[name].defaults
    other = {
        "group-sam": {"rho", "gamma"},  # its own rho is a factor of radii that are given; here the largest
        "eisam": {"estimator", "row_share", "perturb"},  # docs/decisions/0019-default-estimator.md
    }
    compared = {key for key in ours if key in own} - other.get(name, set())
    assert {key: ours[key] for key in compared} == {key: own[key] for key in compared}
    assert variant.own_settings().items() <= ours.items()


def test_imbsams_tail_is_the_complement_of_the_head_share():
    own = settings_in_use("imbsam", {"head_share": 0.3})
    optimizer = METHODS["imbsam"].build([torch.zeros(1, requires_grad=True)], COUNTS, 0, own)
    assert isinstance(optimizer, ImbSAM)
    assert optimizer.item_weights.tolist() == [1.0] * 70 + [0.0] * 30  # COUNTS ascend


def test_radii_of_groups_worked_by_hand():
    # Means 40, 10 and 2.5; (2.5 / 40) ** 0.5 = 0.25. The item never trained on joins the rarest.
    groups, radii = radii_of_groups(torch.tensor([48, 3, 0, 32, 12, 2, 8]), 3, gamma=0.5)
    assert groups.tolist() == [0, 2, 2, 0, 1, 2, 1]
    assert radii == [0.25, 0.5, 1.0]


def test_equal_counts_share_a_group_and_a_group_without_items_does_not_move():
    groups, radii = radii_of_groups(torch.tensor([5, 5, 5, 1]), 2, gamma=1.0)
    assert groups.tolist() == [1, 1, 1, 1]
    assert radii == [0.0, 1.0]


@given(
    counts=st.lists(st.integers(0, 1000), min_size=4, max_size=40).filter(any),
    n_groups=st.integers(2, 6),
    gamma=st.floats(0, 3),
)
def test_radii_rise_with_rarity_up_to_one(counts, n_groups, gamma):
    n = torch.tensor(counts)
    groups, radii = radii_of_groups(n, n_groups, gamma=gamma)
    radius = torch.tensor(radii, dtype=torch.float64)[groups]
    by_count = radius[n.argsort(descending=True, stable=True)]
    assert (by_count.diff() >= 0).all()
    assert radius[n.argmin()] == radii[-1] == 1
    assert ((radius > 0) & (radius <= 1)).all()


def test_group_sam_takes_its_radii_from_the_counts():
    own = settings_in_use("group-sam", {"rho": 0.1})
    optimizer = METHODS["group-sam"].build([torch.zeros(1, requires_grad=True)], COUNTS, 0, own)
    assert isinstance(optimizer, GroupSAM)
    assert (optimizer.rho, len(optimizer.rhos)) == (0.1, 3)
    assert optimizer.rhos == tuple(radii_of_groups(COUNTS, 3, gamma=0.25)[1])


def test_re_sampling_weighs_a_history_by_its_targets_not_by_its_first_item():
    # Targets 0, 0 and 0, 1: the example of row_sampling_weights.
    histories = [torch.tensor(h).numpy() for h in ([1, 0, 0], [1, 0, 1])]
    weights = _history_weights(VariantConfig("x", resampling=0.5), torch.tensor([100, 4]), histories)
    assert weights is not None
    assert weights.tolist() == [0.5, 1.5]
    assert _history_weights(VariantConfig("x"), torch.tensor([100, 4]), histories) is None


def test_re_weighting_is_by_inverse_counts_or_by_effective_numbers():
    counts = torch.tensor([8, 2, 0])
    inverse = _target_weights(VariantConfig("x", reweighting=1.0), counts)
    effective = _target_weights(VariantConfig("x", reweighting_beta=0.5), counts)
    assert inverse is not None
    assert effective is not None
    assert inverse.tolist() == [0.625, 2.5, 2.5]
    # 1 - β^n: 255/256 and 3/4; a target of the rarer item counts 85/64 times as much.
    assert float(effective[1] / effective[0]) == pytest.approx(85 / 64, rel=1e-6)  # float32
    assert _target_weights(VariantConfig("x"), counts) is None
