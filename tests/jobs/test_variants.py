from dataclasses import replace

import pytest
import torch

from tailwise.errors import ConfigError
from tailwise.jobs import VariantConfig, config_as_dict, config_from_dict
from tailwise.jobs._methods import METHODS, check_settings, settings_in_use
from tailwise.jobs._variants import make_optimizer, recorded_settings
from tailwise.optim import EISAM

EVERY_SETTING = [
    ("eisam", "rho", 0.3),
    ("eisam", "strength", 0.5),
    ("eisam", "weights", "power"),
    ("eisam", "gamma", 2.0),
    ("eisam:weights=step", "head_share", 0.4),
    ("eisam", "estimator", "single-pass"),
    ("eisam:estimator=single-pass", "row_weights", "unit"),
    ("eisam:estimator=single-pass", "direction_decay", 0.5),
    ("eisam:estimator=sampled", "row_share", 0.5),
    ("eisam:estimator=every-k", "every", 3),
    ("eisam", "perturb", "shared"),
    ("eisam", "perturb", "*lora_B*"),
    ("eisam", "adaptive", True),
    ("eisam:adaptive=true", "eta", 0.5),
    ("eisam", "relative", True),
    ("eisam", "start_step", 10),
    ("sam", "rho", 0.3),
    ("asam", "eta", 0.5),
    ("imbsam", "head_share", 0.4),
    ("focal-sam", "strength", 1.1),
    ("focal-sam", "gamma", 2.0),
    ("group-sam", "n_groups", 5),
    ("group-sam", "gamma", 1.0),
    ("looksam", "every", 3),
    ("looksam", "alpha", 0.5),
    ("momentum-sam", "ascend", True),
    ("adamw", "logit_adjustment", 0.2),
    ("adamw", "reweighting", 0.5),
    ("adamw", "reweighting_beta", 0.99),
    ("adamw", "resampling", 0.5),
]


def written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("adamw", VariantConfig("adamw")),
        ("eisam", VariantConfig("eisam", optimizer="eisam")),
        (
            "eisam:rho=0.1,strength=1,weights=power",
            VariantConfig(
                "eisam-rho=0.1-strength=1-weights=power",
                optimizer="eisam",
                rho=0.1,
                strength=1.0,
                weights="power",
            ),
        ),
        ("sam:name=plain-sam,rho=0", VariantConfig("plain-sam", optimizer="sam", rho=0.0)),
        ("adamw:", VariantConfig("adamw")),
        (
            "looksam:every=3,relative=true",
            VariantConfig("looksam-every=3-relative=true", optimizer="looksam", every=3, relative=True),
        ),
        (
            "sam:perturb=*lora_B*",  # a folder's name has no asterisks
            VariantConfig("sam-perturb=lora_B", optimizer="sam", perturb="*lora_B*"),
        ),
    ],
)
def test_a_variant_is_read_from_the_command_line(text, expected):
    assert VariantConfig.parse(text) == expected


@pytest.mark.parametrize(("start", "setting", "value"), EVERY_SETTING)
def test_every_setting_is_read_recorded_and_shown(start, setting, value):
    joined = f"{start}{',' if ':' in start else ':'}{setting}={written(value)}"
    plain, changed = VariantConfig.parse(start), VariantConfig.parse(joined)
    assert getattr(changed, setting) == value
    assert getattr(plain, setting) != value
    assert changed.as_dict()[setting] == value
    assert changed.label != plain.label
    assert config_from_dict(VariantConfig, config_as_dict(changed)) == changed
    assert config_from_dict(VariantConfig, changed.as_dict()) == changed


def test_a_setting_that_is_used_and_not_given_takes_its_optimizers_default():
    assert VariantConfig.parse("asam").rho == 0.5
    assert VariantConfig.parse("focal-sam").strength == 0.8
    assert VariantConfig.parse("eisam").strength == 1.0
    assert VariantConfig.parse("eisam:estimator=every-k").every == 5


def test_a_setting_that_is_not_used_is_none_and_no_part_of_the_record():
    plain = VariantConfig("adamw")
    assert (plain.rho, plain.estimator, plain.start_step) == (None, None, None)
    assert plain.as_dict() == {
        "name": "adamw",
        "optimizer": "adamw",
        "logit_adjustment": 0.0,
        "reweighting": 0.0,
        "reweighting_beta": 0.0,
        "resampling": 0.0,
    }
    assert "row_weights" not in VariantConfig.parse("eisam:estimator=exact").as_dict()
    assert "gamma" not in VariantConfig.parse("eisam:weights=effective-number").as_dict()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adam", "variant optimizer must be one of adamw, sam, .*, eisam; got 'adam'"),
        ("eisam:radius=1", "variant 'eisam:radius=1' must use settings that exist; got 'radius'. Known: rho"),
        ("eisam:optimizer=sam", "must use settings that exist; got 'optimizer'"),
        ("eisam:rho=0.1,rho=0.2", "must give each setting once; got rho twice"),
        ("eisam:rho=big", "rho of variant 'eisam:rho=big' must be a number; got 'big'"),
        ("eisam:rho", "rho of variant 'eisam:rho' must be a number; got ''"),
        ("looksam:every=2.5", "every of variant 'looksam:every=2.5' must be a whole number; got '2.5'"),
        ("sam:relative=yes", "relative of variant 'sam:relative=yes' must be true or false; got 'yes'"),
        ("eisam:rho=-1", "variant 'eisam-rho=-1': rho must be .*; got -1.0"),
        ("eisam:rho=nan", "rho must be .*; got nan"),
        ("sam:rho=-1", "variant 'sam-rho=-1': rho must be .*; got -1.0"),
        ("asam:eta=-1", "eta must be .*; got -1.0"),
        ("sam:start_step=-1", "start_step must be .*; got -1"),
        ("sam:perturb=", "perturb must be shared, all or a pattern of parameter names; got ''"),
        ("eisam:strength=2", r"strength must be in \[0, 1\]; got 2.0"),
        ("focal-sam:strength=-1", "strength must be .*; got -1.0"),
        ("eisam:weights=tail", "got 'tail'"),
        ("eisam:gamma=-1", "gamma must be .*; got -1"),
        ("focal-sam:gamma=-1", "gamma must be .*; got -1"),
        ("group-sam:gamma=-1", "gamma must be .*; got -1"),
        ("group-sam:n_groups=1", "n_groups must be a whole number from 2 to 100; got 1"),
        ("group-sam:n_groups=101", "n_groups must be a whole number from 2 to 100; got 101"),
        ("imbsam:head_share=20", "head_share must be a fraction in .*; got 20.0"),
        ("eisam:weights=step,head_share=0", "head_share must be a fraction in .*; got 0.0"),
        ("eisam:estimator=magic", "estimator must be one of .*; got 'magic'"),
        ("eisam:estimator=every-k,every=0", "every must be >= 1; got 0"),
        ("looksam:every=0", "every must be >= 1; got 0"),
        ("looksam:alpha=-1", "alpha must be .*; got -1.0"),
        ("eisam:estimator=single-pass,row_weights=mean", "row_weights must be one of .*; got 'mean'"),
        ("eisam:estimator=single-pass,direction_decay=1", r"direction_decay must be in .*; got 1.0"),
        ("adamw:logit_adjustment=-1", "logit_adjustment must be .*; got -1.0"),
        ("adamw:reweighting=-1", "reweighting must be .*; got -1.0"),
        ("adamw:reweighting=nan", "reweighting must be .*; got nan"),
        ("adamw:reweighting_beta=1", r"reweighting_beta must be in \[0, 1\); got 1.0"),
        ("adamw:resampling=inf", "resampling must be .*; got inf"),
        ("adamw:reweighting=1,reweighting_beta=0.9", "must not both be on.*; got 1.0 and 0.9"),
        ("adamw:name=a/b", "variant name must be usable as a folder's: .*; got 'a/b'"),
        ("adamw:name=..", "variant name must be .*; got '..'"),
        ("adamw:name=", "variant name must be .*; got ''"),
        ("adamw:name=data", "variant name must be .* not 'data'; got 'data'"),
        (f"adamw:name={'x' * 201}", "variant name must be .* at most 200 .*; got 'xxx"),
    ],
)
def test_a_variant_out_of_range_is_refused_before_any_work(text, message):
    with pytest.raises(ConfigError, match=message):
        VariantConfig.parse(text)


TOY = [torch.zeros(1, requires_grad=True)]
BAD_VALUES = {
    "rho": (-1.0, float("nan"), float("inf")),
    "perturb": (),  # what a pattern matches, the recommender's own parameters tell
    "relative": (),
    "adaptive": (),
    "eta": (-0.1, float("nan")),
    "start_step": (-1,),
    "head_share": (0.0, 1.0, 20.0),
    "strength": (-0.5, float("nan")),
    "gamma": (-1.0, float("nan"), float("inf")),
    "n_groups": (1, 101),
    "every": (0, -3),
    "alpha": (-1.0, float("inf")),
    "ascend": (),
    "weights": ("tail",),
    "estimator": ("magic",),
    "row_weights": ("mean",),
    "direction_decay": (-0.1, 1.0),
    "row_share": (0.0, 1.5),
}
GOES_WITH = {
    "eta": {"adaptive": True},
    "gamma": {"weights": "power"},
    "head_share": {"weights": "step"},
    "row_weights": {"estimator": "single-pass"},
    "direction_decay": {"estimator": "single-pass"},
    "row_share": {"estimator": "sampled"},
    "every": {"estimator": "every-k"},
}


def complaint(call, *arguments):
    try:
        call(*arguments)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("optimizer", METHODS)
def test_the_check_says_what_the_optimizer_itself_would_say(optimizer):
    check_settings(optimizer, settings_in_use(optimizer, {}))
    taken = METHODS[optimizer].defaults
    for name in taken:
        beside = {other: value for other, value in GOES_WITH.get(name, {}).items() if other in taken}
        for value in BAD_VALUES[name]:
            settings = settings_in_use(optimizer, {**beside, name: value})
            of_optimizer = complaint(METHODS[optimizer].build, TOY, torch.arange(1, 101), 0, settings)
            assert of_optimizer is not None
            assert complaint(check_settings, optimizer, settings) == of_optimizer


def test_a_method_that_makes_no_base_optimizer_cannot_pass_for_checked(monkeypatch):
    monkeypatch.setitem(METHODS, "adamw", replace(METHODS["adamw"], make=lambda *_: None))
    with pytest.raises(TypeError, match="method adamw must make the base optimizer"):
        VariantConfig("adamw")


def test_a_variant_is_checked_without_an_optimizer_that_would_load_the_compiler_of_torch(monkeypatch):
    def made(*_, **__):
        raise AssertionError("an optimizer was made")

    monkeypatch.setattr(torch.optim.Optimizer, "__init__", made)
    for optimizer in METHODS:
        VariantConfig("x", optimizer=optimizer)
    with pytest.raises(AssertionError, match="an optimizer was made"):
        make_optimizer(VariantConfig("x"), [torch.zeros(1, requires_grad=True)], torch.tensor([1]), seed=0)


UNUSED = [
    ("adamw:rho=0.1", "rho must be left out for adamw, .*; got 0.1. adamw takes no settings of its own"),
    ("sam:strength=1", "strength must be left out for sam, .*; got 1.0. sam takes rho, perturb"),
    ("sam:estimator=exact", "estimator must be left out for sam, .*; got exact"),
    ("imbsam:gamma=1", "gamma must be left out for imbsam"),
    ("asam:adaptive=true", "adaptive must be left out for asam, .*; got true"),
    ("momentum-sam:every=2", "every must be left out for momentum-sam, .*; got 2"),
    ("group-sam:weights=rank", "weights must be left out for group-sam"),
    ("sam:eta=0.1", "got eta=0.1 with adaptive=false. It goes with adaptive=true"),
    ("eisam:estimator=exact,row_weights=unit", "got row_weights=unit with estimator=exact. It goes with"),
    ("eisam:estimator=exact,row_weights=unbiased", "got row_weights=unbiased with estimator=exact"),
    ("eisam:direction_decay=0.5", "got direction_decay=0.5 with estimator=sampled"),
    ("eisam:estimator=every-k,direction_decay=0.5", "got direction_decay=0.5 with estimator=every-k"),
    ("eisam:estimator=exact,row_share=0.5", "got row_share=0.5 with estimator=exact"),
    ("eisam:estimator=single-pass,every=3", "got every=3 with estimator=single-pass"),
    ("eisam:weights=step,gamma=2", "got gamma=2.0 with weights=step. It goes with weights=power or rank"),
    ("eisam:weights=effective-number,gamma=2", "got gamma=2.0 with weights=effective-number"),
    ("eisam:head_share=0.1", "got head_share=0.1 with weights=rank. It goes with weights=step"),
]


@pytest.mark.parametrize(("text", "message"), UNUSED)
def test_a_setting_that_would_do_nothing_is_refused_by_name_value_and_optimizer(text, message):
    with pytest.raises(
        ConfigError, match=f"variant '{text.replace(':', '-').replace(',', '-')}': .*{message}"
    ):
        VariantConfig.parse(text)


def test_what_earlier_versions_recorded_in_vain_is_left_out_and_the_rest_is_kept():
    recorded = {
        "name": "x",
        "optimizer": "adamw",
        "rho": 0.05,
        "strength": 1.0,
        "weights": "rank",
        "gamma": 1.0,
        "estimator": "exact",
        "logit_adjustment": 0.2,
    }
    assert recorded_settings(recorded) == {"name": "x", "optimizer": "adamw", "logit_adjustment": 0.2}
    assert recorded_settings(recorded | {"optimizer": "sam"}) == {
        "name": "x",
        "optimizer": "sam",
        "rho": 0.05,
        "logit_adjustment": 0.2,
    }
    eisam = recorded | {"optimizer": "eisam"}
    assert recorded_settings(eisam) == eisam | {"perturb": "shared"}  # which was no setting then
    assert recorded_settings(eisam | {"perturb": "all"}) == eisam | {"perturb": "all"}
    assert recorded_settings({"name": "x"}) == {"name": "x"}
    unknown = {"name": "x", "optimizer": "of-tomorrow", "rho": 1}
    assert recorded_settings(unknown) == unknown


def test_labels_say_what_a_person_needs():
    labels = {
        "adamw": "AdamW",
        "sam:logit_adjustment=0.2": "SAM (ρ=0.05) + logit adjustment τ=0.2",
        "asam": "ASAM (ρ=0.5)",
        "imbsam:head_share=0.3": "ImbSAM (ρ=0.05, head 0.3)",
        "focal-sam": "Focal-SAM (ρ=0.05, λ=0.8, γ=1)",
        "group-sam:gamma=0.5": "Group-SAM (ρ=0.05, 3 groups, γ=0.5)",
        "looksam": "LookSAM (ρ=0.05, k=5)",
        "momentum-sam:ascend=true": "Momentum-SAM (ρ=0.05, ascending)",
        "eisam:rho=0.2": "EISAM (sampled, ρ=0.2, λ=1, rank, moving all)",
        "eisam:estimator=exact,gamma=2": "EISAM (exact, ρ=0.1, λ=1, rank, moving all, γ=2)",
        "eisam:estimator=single-pass": "EISAM (single-pass, ρ=0.1, λ=1, rank, moving all)",
        "eisam:estimator=single-pass,row_weights=unit,direction_decay=0.5": (
            "EISAM (single-pass, ρ=0.1, λ=1, rank, moving all, unit row weights, decay 0.5)"
        ),
        "eisam:row_share=0.125": "EISAM (sampled, ρ=0.1, λ=1, rank, moving all, 0.125 of rows)",
        "eisam:estimator=every-k,every=3": "EISAM (every-k, k=3, ρ=0.1, λ=1, rank, moving all)",
        "sam:perturb=all,relative=true,adaptive=true,eta=0.1,start_step=20": (
            "SAM (ρ=0.05, moving all, adaptive, η=0.1, relative ρ, from step 20)"
        ),
        "adamw:reweighting=0.5,resampling=0.25": "AdamW + re-weighting 0.5 + re-sampling 0.25",
        "adamw:reweighting_beta=0.999": "AdamW + re-weighting β=0.999",
    }
    assert {text: VariantConfig.parse(text).label for text in labels} == labels


def test_no_two_variants_share_a_label():
    starts = [start for start, _, _ in EVERY_SETTING]
    changed = [f"{s}{',' if ':' in s else ':'}{n}={written(v)}" for s, n, v in EVERY_SETTING]
    texts = {*starts, *changed, *METHODS}
    settings = {str(VariantConfig.parse(t).as_dict() | {"name": ""}) for t in texts}
    assert len({VariantConfig.parse(text).label for text in texts}) == len(settings)


def test_the_draw_of_rows_follows_the_seed_of_the_training():
    variant = VariantConfig.parse("eisam:estimator=single-pass")
    optimizers = [
        make_optimizer(variant, [torch.zeros(1, requires_grad=True)], torch.tensor([2, 1]), seed=seed)
        for seed in (0, 3)
    ]
    assert all(isinstance(optimizer, EISAM) for optimizer in optimizers)
    assert [optimizer.seed for optimizer in optimizers] == [0, 3]


def test_a_pattern_that_matches_no_parameter_is_refused_by_variant_and_value():
    variant = VariantConfig.parse("sam:perturb=*lora_C*,name=mistyped")
    named = [("lora_A", torch.zeros(1, requires_grad=True))]
    with pytest.raises(ConfigError, match=r"variant 'mistyped': perturb must name .*; got '\*lora_C\*'"):
        make_optimizer(variant, named, torch.tensor([2, 1]), seed=0)
