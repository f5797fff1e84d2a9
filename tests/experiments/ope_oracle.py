"""Write ``ope_oracle.json``: what obp 0.4.1, the Open Bandit Pipeline, estimates on small made-up logs.

Not run by the tests: obp needs an environment of its own. ::

    pip install --target FOLDER --no-deps obp==0.4.1 scikit-learn joblib threadpoolctl narwhals
    PYTHONPATH=FOLDER python tests/experiments/ope_oracle.py

Its packages are entered without their ``__init__``, which would import what was pinned in 2021.
"""

import functools
import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent


@functools.cache
def root():
    """Where obp is installed."""
    spec = importlib.util.find_spec("obp")
    return Path(next(iter(spec.submodule_search_locations)))


def load(name):
    """A module of obp, without running the packages around it."""
    for package, folder in (("obp", root()), ("obp.ope", root() / "ope")):
        if not getattr(sys.modules.get(package), "is_bare", False):
            module = types.ModuleType(package)
            module.__path__ = [str(folder)]
            module.is_bare = True
            sys.modules[package] = module
    return importlib.import_module(f"obp.ope.{name}")


def slots():
    """Single slots with marginal propensities, a policy by place, and a wrong reward model."""
    rng = np.random.default_rng(11)
    n, n_items, n_places = 120, 5, 3
    logged = rng.dirichlet(np.ones(n_items), size=n_places)  # [n_places, n_items]
    policy = rng.dirichlet(np.ones(n_items), size=n_places)
    model = rng.uniform(0, 1, size=(n_items, n_places))
    place = rng.integers(0, n_places, size=n)
    item = np.array([rng.choice(n_items, p=logged[k]) for k in place])
    reward = (rng.random(n) < 0.2 + 0.1 * item).astype(float) * rng.uniform(0.5, 2.0, n).round(3)
    feedback = {
        "reward": reward,
        "action": item,
        "pscore": logged[place, item],
        "position": place,
        "action_dist": np.broadcast_to(policy.T[None], (n, n_items, n_places)).copy(),
    }
    estimated = np.broadcast_to(model[None], (n, n_items, n_places)).copy()
    obp = load("estimators")
    found = {
        "ips": obp.InverseProbabilityWeighting().estimate_policy_value(**feedback),
        "snips": obp.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**feedback),
        "dr": obp.DoublyRobust().estimate_policy_value(**feedback, estimated_rewards_by_reg_model=estimated),
    }
    return {
        "position": place + 1,
        "item": item,
        "propensity": logged[place, item],
        "reward": reward,
        "policy": policy,
        "model": model,
        "found": found,
    }


def lists():
    """Lists of three drawn items with conditional propensities of log and policy."""
    rng = np.random.default_rng(12)
    n, n_places = 80, 3
    logged, policy = (rng.uniform(0.2, 1.0, size=(n, n_places)) for _ in range(2))
    reward = rng.uniform(0, 2, size=(n, n_places)).round(3)
    ids, place = np.repeat(np.arange(n), n_places), np.tile(np.arange(n_places), n)
    common = {"slate_id": ids, "reward": reward.ravel(), "position": place}
    whole = [np.repeat(p.prod(axis=1), n_places) for p in (logged, policy)]
    cascade = [np.cumprod(p, axis=1).ravel() for p in (logged, policy)]
    obp = load("estimators_slate")
    found = {
        "list": obp.SlateStandardIPS(len_list=n_places).estimate_policy_value(
            **common, pscore=whole[0], evaluation_policy_pscore=whole[1]
        ),
        "cascade": obp.SlateRewardInteractionIPS(len_list=n_places).estimate_policy_value(
            **common, pscore_cascade=cascade[0], evaluation_policy_pscore_cascade=cascade[1]
        ),
        "position": obp.SlateIndependentIPS(len_list=n_places).estimate_policy_value(
            **common,
            pscore_item_position=logged.ravel(),
            evaluation_policy_pscore_item_position=policy.ravel(),
        ),
    }
    return {"propensity": logged, "target_propensity": policy, "reward": reward, "found": found}


def open_bandit(campaign):
    """The random log of the package's own sample, for the policy that its bts log shows on average."""
    data = {p: root() / "dataset" / "obd" / p / campaign / f"{campaign}.csv" for p in ("random", "bts")}
    columns = {"usecols": ["item_id", "position", "propensity_score", "click"]}
    random, bts = (pd.read_csv(data[p], **columns) for p in ("random", "bts"))
    n_items = int(max(random["item_id"].max(), bts["item_id"].max())) + 1
    policy = np.zeros((n_items, 3))
    np.add.at(policy, (bts["item_id"], bts["position"] - 1), 1.0)
    feedback = {
        "reward": random["click"].to_numpy(float),
        "action": random["item_id"].to_numpy(),
        "pscore": random["propensity_score"].to_numpy(),
        "position": random["position"].to_numpy() - 1,
        "action_dist": np.repeat((policy / policy.sum(axis=0))[None], len(random), axis=0),
    }
    obp = load("estimators")
    return {
        "ips": obp.InverseProbabilityWeighting().estimate_policy_value(**feedback),
        "snips": obp.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**feedback),
    }


def plain(value):
    """Arrays and numpy numbers as JSON has them."""
    return value.tolist() if isinstance(value, np.ndarray) else float(value)


if __name__ == "__main__":
    content = {"obp": "0.4.1", "slots": slots(), "lists": lists()}
    content["open-bandit"] = {campaign: open_bandit(campaign) for campaign in ("all", "men", "women")}
    (HERE / "ope_oracle.json").write_text(json.dumps(content, default=plain) + "\n")
    print(content["slots"]["found"], content["lists"]["found"], content["open-bandit"])  # noqa: T201
