import re
import tomllib
from pathlib import Path

import pytest

from tailwise.errors import ConfigError
from tailwise.jobs import (
    PRESETS,
    DataConfig,
    RunConfig,
    SegmentConfig,
    VariantConfig,
    config_as_dict,
    config_from_dict,
    load_config,
)
from tailwise.training import TrainingConfig

DATA = {"data": {"name": "ml-100k"}}


def load(*settings: str, toml: str | None = None, folder: Path | None = None, preset: str | None = None):
    file = None
    if toml is not None:
        assert folder is not None
        file = folder / "run.toml"
        file.write_text(toml)
    return load_config(preset=preset, file=file, overrides=DATA, settings=settings)


def test_defaults_need_data_alone():
    config = load()
    assert [v.name for v in config.variants] == ["adamw", "eisam"]
    assert config.seeds == (0,)
    with pytest.raises(ConfigError, match="data must be either a named data set or a pair of files"):
        load_config(preset="quick", file=None, overrides={"data": {}})
    with pytest.raises(ConfigError, match="setting data must be given"):
        load_config(preset="quick", file=None, overrides={})


def test_later_sources_win_preset_then_file_then_overrides_then_settings(tmp_path):
    assert load(preset="quick").training.max_epochs != 7
    toml = "[training]\nmax_epochs = 7\npatience = 2\nwarmup_share = 0.5\n[model]\nmodel = 'x'\n"
    config = load_config(
        preset="quick",
        file=write(tmp_path, toml),
        overrides={**DATA, "training": {"patience": 4, "warmup_share": 0.25}},
        settings=("training.warmup_share=0",),
    )
    assert config.training.max_epochs == 7
    assert config.training.patience == 4
    assert config.training.warmup_share == 0.0
    assert config.model.model == "x"
    assert config.model.depth == load(preset="quick").model.depth  # the file's table adds to the preset's


def write(folder: Path, toml: str) -> Path:
    file = folder / "run.toml"
    file.write_text(toml)
    return file


@pytest.mark.parametrize(
    ("settings", "preset"),
    [
        *(((), preset) for preset in PRESETS["items"]),
        *((("title.layout=packed",), preset) for preset in PRESETS["titles"]),
    ],
)
def test_every_preset_is_valid(settings, preset):
    assert isinstance(load(*settings, preset=preset), RunConfig)


@pytest.mark.parametrize(
    ("settings", "preset", "message"),
    [
        ((), "fast", "one of few-histories, full, quick for a recommender of items; got 'fast'"),
        (
            ("title.layout=packed",),
            "few-histories",
            "one of full, quick for a recommender of titles; got 'few-histories'",
        ),
    ],
)
def test_an_unknown_preset_is_refused(settings, preset, message):
    with pytest.raises(ConfigError, match=message):
        load(*settings, preset=preset)


def test_the_preset_for_few_histories_trains_as_the_benchmark_that_recommends_it():
    benchmark = Path(__file__).parents[2] / "benchmarks" / "does_flattening_add_to_dropout.toml"
    declared = tomllib.loads(benchmark.read_text())
    (baseline,) = (method for method in declared["methods"] if method["role"] == "baseline")
    preset = config_as_dict(load(preset="few-histories"))
    of_run = declared["run"]
    for section, name in (
        ("model", "depth"),
        ("recommender", "max_length"),
        ("training", "keep"),
        ("training", "learning_rate"),
        ("training", "weight_decay"),
        ("training", "positions_per_batch"),
    ):
        assert preset[section][name] == of_run[section][name], name
    for section, name in (("recommender", "dropout"), ("training", "max_epochs")):
        assert preset[section][name] in baseline["search"][f"{section}.{name}"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.max_epoch=3", "setting training.max_epoch must exist.* Did you mean 'max_epochs'"),
        ("training.zzz=3", "setting training.zzz must exist; .* Known: max_epochs, learning_rate"),
        ("trainings.max_epochs=3", "setting trainings must exist; .* Did you mean 'training'"),
        ("training.max_epochs=many", "setting training.max_epochs must be of kind int; got 'many'"),
        ("training.max_epochs=2.5", "setting training.max_epochs must be of kind int; got 2.5"),
        ("training.max_epochs=true", "setting training.max_epochs must be of kind int; got True"),
        ("training.learning_rate=true", "setting training.learning_rate must be of kind float; got True"),
        ("training.max_epochs=0", "training.max_epochs must be >= 1; got 0"),
        ("training=3", "setting training must be a table; got 3"),
        ("seeds=3", "setting seeds must be a list; got 3"),
        ("seeds=[1, 'a']", r"setting seeds\[1\] must be of kind int; got 'a'"),
        ("seeds=[1, 1]", r"seeds must be distinct numbers >= 0, at least one; got \[1, 1\]"),
        ("seeds=[]", r"seeds must be .*; got \[\]"),
        ("seeds=[-1]", r"seeds must be .*; got \[-1\]"),
        ("variants=[]", "variants must hold at least one entry; got none"),
        ("references=['best']", "references must be one of most-popular, item-knn, sasrec; got 'best'"),
        ("device=tpu", "device must be one of auto, cpu, cuda; got 'tpu'"),
        ("recommender.dropout=1.5", r"recommender: dropout must be in \[0, 1\); got 1.5"),
        ("data.split=random", "data.split must be one of auto, .*; got 'random'"),
        ("data.test_share=0", "fractions > 0 with a sum below 1; got 0.1 and 0.0"),
        ("data.test_share=0.9", "fractions > 0 with a sum below 1; got 0.1 and 0.9"),
        ("data.repeats=all", "data.repeats must be one of first, keep; got 'all'"),
        ("data.columns={user_id='u'}", "data.columns must be empty for a named data set; got {'user_id'"),
        ("evaluation.list_length=20", "evaluation.list_length must be >= 50; got 20"),
        ("evaluation.n_resamples=10", "evaluation.n_resamples must be >= 100; got 10"),
        ("evaluation.validation_users=0", "evaluation.validation_users must be >= 1; got 0"),
        ("model.lora_rank=0", "model.lora_rank must be >= 1; got 0"),
        ("recommender.max_length=900", r"positions_per_batch must be at least .* \(900\); got 800"),
        ("segments.rule=thirds", "segments.rule must be one of head-share, .*; got 'thirds'"),
        ("segments.parameters={head_share=20}", "head_share must be a fraction in .*; got 20"),
        ("segments.parameters={share=0.2}", "must suit the rule 'head-share'; got {'share': 0.2}"),
        ("training.max_epochs", "--set must be section.field=value; got 'training.max_epochs'"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_value(setting, message):
    with pytest.raises(ConfigError, match=message):
        load(setting)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model.depth=2", 2),
        ("model.depth=none", None),
        ("model.model=HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
        ("model.model='quoted'", "quoted"),
        ("training.learning_rate=1", 1.0),
        ("training.learning_rate=1e-4", 1e-4),
        ("recommender.id_residual=false", False),
        ("seeds=[3, 4]", (3, 4)),
        ("evaluation.validation_users=none", None),
        ("sasrec.training.max_epochs=2", 2),
    ],
)
def test_a_setting_is_read_as_toml_and_a_bare_word_as_text(setting, value):
    found = load(setting)
    for name in setting.partition("=")[0].split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[training]\nmax_epoch = 3\n", "Did you mean 'max_epochs'"),
        ("[training]\nmax_epochs = 0\n", "training.max_epochs must be >= 1; got 0"),
        ("seeds = 'all'\n", "seeds must be a list; got 'all'"),
    ],
)
def test_a_mistake_in_a_file_is_located_there(tmp_path, toml, message):
    with pytest.raises(ConfigError, match=f"(?s){message}.*Read from {re.escape(str(tmp_path))}/run.toml"):
        load(toml=toml, folder=tmp_path)


def test_a_mistake_on_the_command_line_is_not_blamed_on_the_file(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load("training.max_epochs=0", toml="[training]\npatience = 2\n", folder=tmp_path)
    assert "Read from" not in str(caught.value)


def test_a_file_may_hold_a_part_of_a_section_that_the_command_line_completes(tmp_path):
    assert load(toml="[data]\nsplit = 'leave-last-out'\n", folder=tmp_path).data == DataConfig(
        name="ml-100k", split="leave-last-out"
    )


def test_a_file_that_is_missing_or_no_toml_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=f"config must be an existing TOML file; got '{tmp_path}/no.toml'"):
        load_config(preset=None, file=tmp_path / "no.toml", overrides=DATA)
    with pytest.raises(ConfigError, match=f"config must be an existing TOML file; got '{tmp_path}'"):
        load_config(preset=None, file=tmp_path, overrides=DATA)
    with pytest.raises(ConfigError, match=r"(?s)run.toml' must be valid TOML; got: .*line 1"):
        load(toml="seeds = = 1", folder=tmp_path)


def test_settings_survive_a_round_trip_through_plain_values():
    config = load("seeds=[1, 2]", "model.depth=none", "segments.parameters={head_share=0.1}", preset="full")
    assert config_from_dict(RunConfig, config_as_dict(config)) == config


def test_variants_have_names_of_their_own():
    twice = (VariantConfig("adamw"), VariantConfig("adamw"))
    with pytest.raises(ConfigError, match="variant names must be unique; got 'adamw' twice"):
        RunConfig(DataConfig(name="x"), variants=twice)
    with pytest.raises(ConfigError, match="variant names must be unique; got 'item-knn' twice"):
        RunConfig(DataConfig(name="x"), variants=(VariantConfig("item-knn"),))


@pytest.mark.parametrize(
    "extra",
    [{"logit_adjustment": 0.2}, {"reweighting": 0.5}, {"reweighting_beta": 0.99}, {"resampling": 0.5}],
)
def test_the_baseline_is_the_first_plain_variant(extra):
    lifted = VariantConfig("lifted", **extra)
    plain, eisam = VariantConfig("adamw"), VariantConfig("eisam", optimizer="eisam")
    assert RunConfig(DataConfig(name="x"), variants=(eisam, lifted, plain)).baseline == plain
    assert RunConfig(DataConfig(name="x"), variants=(eisam, lifted)).baseline == eisam


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("{name='x', rho=0.1}", "variant 'x': rho must be left out for adamw, .*; got 0.1"),
        ("{name='x', optimizer='sam', every=2}", "variant 'x': every must be left out for sam, .*; got 2"),
        ("{name='x', optimizer='looksam', every=2.5}", r"variants\[0\].every must be of kind int; got 2.5"),
        ("{name='x', optimizer='sam', relative=1}", r"variants\[0\].relative must be of kind bool; got 1"),
        ("{name='x', radius=1}", r"setting variants\[0\].radius must exist"),
    ],
)
def test_a_variant_of_a_file_is_judged_like_one_of_the_command_line(tmp_path, variant, message):
    with pytest.raises(ConfigError, match=message):
        load(toml=f"variants = [{variant}]\n", folder=tmp_path)


def test_a_variant_of_a_file_reads_every_kind_of_setting(tmp_path):
    toml = """
    [[variants]]
    name = "all-kinds"
    optimizer = "eisam"
    rho = 1
    estimator = "every-k"
    every = 3
    relative = true
    perturb = "*lora_B*"
    strength = "none"
    """
    (variant,) = load(toml=toml, folder=tmp_path).variants
    assert (variant.rho, variant.every, variant.relative, variant.perturb) == (1.0, 3, True, "*lora_B*")
    assert variant.strength == 1.0  # none is the default


def test_segment_rules_judge_their_own_parameters():
    assert SegmentConfig("absolute-counts", {"thresholds": [5, 20]}).rule == "absolute-counts"
    with pytest.raises(ConfigError, match="n_groups must be a whole number from 2 to 100; got 1"):
        SegmentConfig("quantiles", {"n_groups": 1})
    with pytest.raises(ConfigError, match=r"segments.rule must be one of .*; got 'column'"):
        SegmentConfig("column")  # the labels of a whole catalogue do not fit into settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "x", "interactions": "a", "items": "b"}, "either a named data set or a pair of files"),
        ({"interactions": "a"}, "data needs both a log and a catalogue; got no --items FILE"),
        ({"items": "b"}, "data needs both a log and a catalogue; got no --interactions FILE"),
    ],
)
def test_data_come_from_a_name_or_from_a_pair_of_files(settings, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(**settings)


def test_negatives_are_written_only_where_they_are_set():
    """So that runs and benchmarks of earlier versions stay the same ones."""
    plain, sampled = TrainingConfig(), TrainingConfig(negatives=64, negatives_power=0.75)
    assert not [name for name in config_as_dict(plain) if name.startswith("negatives")]
    assert config_as_dict(sampled)["negatives"] == 64
    assert config_from_dict(TrainingConfig, config_as_dict(sampled)) == sampled
    assert config_from_dict(TrainingConfig, config_as_dict(plain)) == plain


def test_a_power_without_negatives_is_refused():
    with pytest.raises(ConfigError, match=r"negatives_power must go with training.negatives.*got 0.5 alone"):
        TrainingConfig(negatives_power=0.5)
