import json
from dataclasses import replace
from pathlib import Path

import pytest

from tailwise.errors import ConfigError, DataError
from tailwise.jobs import DataConfig, RunConfig, VariantConfig, config_as_dict
from tailwise.jobs._run_folder import RunFolder, write_json

CONFIG = RunConfig(DataConfig(name="ml-100k"))


def begin(folder: Path) -> RunFolder:
    """A run of CONFIG that has got as far as its data."""
    RunFolder(folder).claim(CONFIG, resume=False)
    (folder / "data").mkdir()
    (folder / "data" / "interactions.parquet").write_bytes(b"")
    return RunFolder(folder)


def test_a_new_or_empty_folder_becomes_the_runs(tmp_path):
    for folder in (tmp_path, tmp_path / "new" / "deeper"):
        RunFolder(folder).claim(CONFIG, resume=False)
        assert RunFolder(folder).read_config() == CONFIG


def test_a_folder_with_other_files_is_refused_and_stays_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(ConfigError, match=f"--out must be a new or empty folder.*; got '{tmp_path}'"):
            RunFolder(tmp_path).claim(CONFIG, resume=resume)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with (
        pytest.raises(ConfigError, match=f"--out must be a folder; got '{tmp_path}/out', which is a file"),
        RunFolder(tmp_path / "out").locked(),
    ):
        pass


def test_a_folder_in_use_is_refused_until_it_is_let_go(tmp_path):
    folder = RunFolder(tmp_path / "out")
    with folder.locked():
        folder.claim(CONFIG, resume=False)
        refusal = pytest.raises(ConfigError, match=f"got '{tmp_path}/out', in which another process is at")
        with refusal, RunFolder(tmp_path / "out").locked():
            pass
    with folder.locked():
        folder.claim(CONFIG, resume=True)


def test_settings_that_nothing_came_of_give_way_to_the_corrected_ones(tmp_path):
    RunFolder(tmp_path).claim(RunConfig(DataConfig(name="ml-100")), resume=False)
    (tmp_path / "data").mkdir()
    RunFolder(tmp_path).claim(CONFIG, resume=False)
    assert RunFolder(tmp_path).read_config() == CONFIG


def test_a_run_is_taken_up_only_on_request(tmp_path):
    begin(tmp_path)
    with pytest.raises(ConfigError, match=f"got '{tmp_path}', which holds a run. Pass --resume"):
        RunFolder(tmp_path).claim(CONFIG, resume=False)
    RunFolder(tmp_path).claim(CONFIG, resume=True)


def test_resume_of_nothing_is_a_new_run(tmp_path):
    RunFolder(tmp_path / "new").claim(CONFIG, resume=True)
    assert RunFolder(tmp_path / "new").read_config() == CONFIG


def test_resume_with_other_settings_is_refused_by_their_names(tmp_path):
    begin(tmp_path)
    other = RunConfig(DataConfig(name="ml-100k", test_share=0.2), seeds=(1, 2))
    with pytest.raises(ConfigError, match=r"got other values of data\.test_share, seeds\."):
        RunFolder(tmp_path).claim(other, resume=True)


def test_a_run_may_grow_by_seeds_variants_and_references_but_not_shrink(tmp_path):
    begin(tmp_path)
    larger = replace(
        CONFIG,
        seeds=(0, 1),
        variants=(*CONFIG.variants, VariantConfig("sam", optimizer="sam")),
        references=("most-popular", "item-knn", "sasrec"),
    )
    RunFolder(tmp_path).claim(larger, resume=True)
    assert RunFolder(tmp_path).read_config() == larger
    with pytest.raises(ConfigError, match=r"other values of references, seeds, variants\."):
        RunFolder(tmp_path).claim(CONFIG, resume=True)


def as_an_earlier_version_wrote_it(config: RunConfig) -> dict[str, object]:
    """Without the settings that came later, and with every variant's settings whether used or not."""
    content = json.loads(json.dumps(config_as_dict(config)))
    for training in (content["training"], content["sasrec"]["training"]):
        del training["keep"]
    content["variants"] = [
        {
            "name": variant.name,
            "optimizer": variant.optimizer,
            "rho": variant.rho or 0.05,
            "strength": 1.0,
            "weights": "rank",
            "gamma": 1.0,
            "estimator": "exact",
            "logit_adjustment": variant.logit_adjustment,
        }
        for variant in config.variants
    ]
    return content


def test_a_run_of_an_earlier_version_is_read_resumed_and_grown(tmp_path):
    variants = (
        VariantConfig("adamw"),
        VariantConfig("eisam", optimizer="eisam", rho=0.05, estimator="exact", perturb="shared"),
        VariantConfig("sam", optimizer="sam", rho=0.1),
        VariantConfig("margin", logit_adjustment=0.2),
    )
    config = replace(CONFIG, variants=variants)
    begin(tmp_path)
    write_json(as_an_earlier_version_wrote_it(config), tmp_path / "config.json")
    assert RunFolder(tmp_path).read_config() == config
    RunFolder(tmp_path).claim(config, resume=True)
    write_json(as_an_earlier_version_wrote_it(config), tmp_path / "config.json")
    larger = replace(config, variants=(*variants, VariantConfig("asam", optimizer="asam")))
    RunFolder(tmp_path).claim(larger, resume=True)
    assert RunFolder(tmp_path).read_config() == larger
    other = replace(larger, variants=(*variants[:2], replace(variants[2], rho=0.2), variants[3]))
    with pytest.raises(ConfigError, match=r"got other values of variants\."):
        RunFolder(tmp_path).claim(other, resume=True)


def test_settings_are_written_without_what_a_variant_does_not_use(tmp_path):
    RunFolder(tmp_path).claim(CONFIG, resume=False)
    adamw, eisam = json.loads((tmp_path / "config.json").read_text())["variants"]
    assert "rho" not in adamw
    assert (eisam["rho"], eisam["estimator"]) == (0.1, "sampled")
    assert "every" not in eisam


def test_a_process_killed_while_it_wrote_its_settings_is_no_obstacle(tmp_path):
    (tmp_path / ".config.json.4711").write_text('{"data"')
    RunFolder(tmp_path).claim(CONFIG, resume=True)
    assert RunFolder(tmp_path).read_config() == CONFIG


def test_a_folder_without_a_run_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=f"run must be a folder .*; got '{tmp_path}'"):
        RunFolder(tmp_path).read_config()


def test_a_result_is_done_when_its_record_is_there(tmp_path):
    result = RunFolder(tmp_path).result("eisam", 3)
    assert result.path == tmp_path / "eisam" / "seed-3"
    assert RunFolder(tmp_path).result("item-knn").path == tmp_path / "item-knn"
    assert not result.is_done()
    result.write_record({"seed": 3})
    assert result.is_done()
    assert result.read_record() == {"seed": 3}


def test_json_is_replaced_as_a_whole(tmp_path):
    file = tmp_path / "a.json"
    write_json({"café": 1}, file)
    with pytest.raises(TypeError):
        write_json({"café": object()}, file)
    assert json.loads(file.read_text()) == {"café": 1}
