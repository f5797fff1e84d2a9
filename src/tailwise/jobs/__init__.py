"""Settings in, a run's folder out: the stages put together, one function per command.

One line: ``run(load_config(preset="quick", file=None, overrides={"data": {"name": "ml-100k"}}),
Path("runs/first"))``.
"""

from tailwise.jobs._audit import audit
from tailwise.jobs._audit_config import ESTIMATORS, AuditConfig
from tailwise.jobs._bench import bench, bench_cell, prepare_tables
from tailwise.jobs._bench_config import (
    BenchComparison,
    BenchConfig,
    BenchMethod,
    BenchSetting,
    load_bench_config,
)
from tailwise.jobs._config import (
    DataConfig,
    EvaluationConfig,
    RunConfig,
    SASRecReferenceConfig,
    SegmentConfig,
)
from tailwise.jobs._config_file import PRESETS, config_as_dict, config_from_dict, load_config
from tailwise.jobs._export import export
from tailwise.jobs._ground import GroundedLists, ground
from tailwise.jobs._recommend import ListsFile, recommend
from tailwise.jobs._rescoring import RescoringConfig
from tailwise.jobs._run import evaluate, report, run
from tailwise.jobs._tune import TuneConfig, parse_search, parse_variant, tune
from tailwise.jobs._variants import VariantConfig

__all__ = [
    "ESTIMATORS",
    "PRESETS",
    "AuditConfig",
    "BenchComparison",
    "BenchConfig",
    "BenchMethod",
    "BenchSetting",
    "DataConfig",
    "EvaluationConfig",
    "GroundedLists",
    "ListsFile",
    "RescoringConfig",
    "RunConfig",
    "SASRecReferenceConfig",
    "SegmentConfig",
    "TuneConfig",
    "VariantConfig",
    "audit",
    "bench",
    "bench_cell",
    "config_as_dict",
    "config_from_dict",
    "evaluate",
    "export",
    "ground",
    "load_bench_config",
    "load_config",
    "parse_search",
    "parse_variant",
    "prepare_tables",
    "recommend",
    "report",
    "run",
    "tune",
]
