"""What a reader must know before relying on an audit: a function per reason, often silent."""

from collections.abc import Mapping
from typing import Any

from tailwise.reports._audit_results import ALPHA, PRIOR, Audit
from tailwise.reports._numbers import amount, count, number, percent
from tailwise.reports._words import tied_caveats

__all__ = [
    "attribution_caveats",
    "caveats",
    "data_caveats",
    "list_caveats",
    "prior_caveats",
    "seed_caveats",
    "shuffle_caveats",
    "target_caveats",
]

_FEW_TARGETS = 1000
_HARDLY_STABLE = 0.5  # rank correlation of two wordings, on average
_FEW_IN_CELL = 30  # held-out interactions of a cell of the 2 × 2 grid


def caveats(audit: Audit) -> list[str]:
    """All of them, the gravest first."""
    parts = (
        target_caveats,
        attribution_caveats,
        shuffle_caveats,
        prior_caveats,
        list_caveats,
        seed_caveats,
        data_caveats,
    )
    return [caveat for part in parts for caveat in part(audit)]


def target_caveats(audit: Audit) -> list[str]:
    """Accuracy is unknown, or rests on little."""
    main = audit.main
    if main["attribution"] is None:
        if main["role"] == "reference" or main["no_attribution_because"] is None:
            return []
        because = main["no_attribution_because"].strip().rstrip(".").replace("\n", " ")
        return [f"Which side goes with who is found was not answered: {' '.join(because.split())}."]
    found = []
    n_targets = main["attribution"]["n_targets"]
    if n_targets < _FEW_TARGETS:
        found.append(
            f"Only {count(n_targets)} held-out interactions tell who is found, so much that is true cannot be"
            " told from chance. Hold out more."
        )
    grid = audit.grid(main, 2)
    thin = [cell for cell in grid["cells"] if cell["n_targets"] < _FEW_IN_CELL] if grid else []
    if grid is not None and thin:
        found.append(
            f"{count(len(thin))} of the {count(len(grid['cells']))} cells of the grid hold fewer than"
            f" {_FEW_IN_CELL} held-out interactions: do not read their accuracy on its own."
        )
    return found


def attribution_caveats(audit: Audit) -> list[str]:
    """What the shares do not say."""
    found = audit.main["attribution"]
    if found is None or not found["is_measurable"]:
        return []
    texts = [
        "Shares go with a side and are not shown to be caused by it: whatever makes an item both liked and"
        " easy to find, such as its quality or its age, is booked to the log."
    ]
    if not found.get("is_calibrated", True):  # not in files of earlier versions
        texts.append(
            f"The held-out interactions are worth those of only {amount(found['effective_items'])} items and"
            f" {amount(found['effective_users'])} users of equal weight: take the intervals of the shares as"
            " rough."
        )
    if found["corrected"] is None:
        texts.append(
            "The shares are not corrected for errors in measuring the prior, because"
            f" {found['why_uncorrected']}; the language model's share may be larger than shown."
        )
    return texts


def shuffle_caveats(audit: Audit) -> list[str]:
    """The intervention contradicts the attribution."""
    shuffled = audit.content["shuffled_titles"]
    own = None if shuffled is None else shuffled["attribution_own"]
    if own is None or not own["is_measurable"] or own["p_prior"] > ALPHA:
        return []
    return [
        "With titles dealt out anew among items, what the language model knows of an item's own title still"
        " goes with how well it is found. So part of the language model's share is not its doing."
    ]


def prior_caveats(audit: Audit) -> list[str]:
    """How far the language model's knowledge is measured at all."""
    side = audit.content["prior_side"]
    found = []
    of_length = next((check for check in side["length_checks"] if check["name"] == "score"), None)
    if of_length is not None and not of_length["is_free_of_length"]:
        found.append(
            "How well the language model seems to know an item still goes with the length of its title"
            f" ({number(of_length['spearman_with_length']['value'], 2)} on a scale from −1 to 1), so part of"
            " it may be length and not knowledge."
        )
    stable = next((one for one in side["stabilities"] if one["name"] == PRIOR), None)
    if stable is not None and (stable["mean_spearman"] or 1.0) < _HARDLY_STABLE:
        found.append(
            "What the language model seems to know changes with the wording of the question: two wordings"
            f" agree by {number(stable['mean_spearman'], 2)} only, on a scale from −1 to 1."
        )
    if side["pairwise"] is not None and not side["pairwise"]["is_informative"]:
        found.append(f"{side['pairwise']['sentence']} They are shown below and used for nothing else.")
    if side["pairwise_left_out"] is not None:
        found.append(f"Pairs of items were not compared: {side['pairwise_left_out']}")
    if side["n_filled"]:
        found.append(
            f"{count(side['n_filled'])} items have no title: they count as known as well as the median item."
        )
    return found


def list_caveats(audit: Audit) -> list[str]:
    """What was irregular in given lists."""
    found = []
    for subject in audit.subjects:
        checks = subject["checks"]
        reasons = [] if checks is None else _irregular(checks)
        if reasons:
            found.append(f"{audit.label(subject)}: {'; '.join(reasons)}.")
    return found


def seed_caveats(audit: Audit) -> list[str]:
    """Models of a single training."""
    once = [s for s in (audit.main, audit.treatment) if s is not None and len(s["seeds"]) == 1]
    if not once:
        return []
    names = " and ".join(audit.label(s) for s in once)
    verb = "were each trained once" if len(once) > 1 else "was trained once"
    return [
        f"{names} {verb}. The intervals cover the choice of users and items, not the luck of one training"
        " run, which can be as large as a difference between two models."
    ]


def data_caveats(audit: Audit) -> list[str]:
    """What the log itself leaves open."""
    skew = audit.content["data_side"]["skew"]
    found = []
    if skew["looks_filtered"]:
        found.append(
            f"No item of the log has fewer than {count(skew['smallest_count'])} interactions: somebody has"
            " removed the rare ones. The shop's own log is more concentrated than the numbers here."
        )
    found.append(
        "What users chose was itself shown to them by somebody. For items that were always hidden, “what"
        " users chose” is too low a yardstick."
    )
    targets = audit.main["accuracy"]
    return found + (tied_caveats(audit.content["data"]["split"]) if targets else [])


def _irregular(checks: Mapping[str, Any]) -> list[str]:
    """Of given lists, what changes the numbers: ``ListChecks.as_dict()``."""
    texts = {
        "n_unknown_item_rows_dropped": "{} rows name items outside the catalogue and were dropped",
        "n_unknown_user_rows_dropped": "{} rows are of unknown users and were dropped",
        "n_repeated_rows_dropped": "{} rows repeat an item of their list and were dropped",
        "n_users_with_short_list": "{} users have a shorter list, whose empty places count as misses",
        "n_users_emptied": "{} users lost all their rows",
        "n_tied_slots": "{} places have tied scores, so their order is arbitrary",
        "n_targets_without_list": "{} held-out interactions are of users without a list and count as misses",
    }
    found = [text.format(count(checks[key])) for key, text in texts.items() if checks.get(key)]
    if checks.get("exclude_seen") and checks.get("n_seen_slots"):
        share = percent(checks["n_seen_slots"] / max(checks.get("n_slots") or 0, 1))
        found.append(
            f"{count(checks['n_seen_slots'])} places ({share}) show what the user had already chosen,"
            " although the lists are taken to leave that out"
        )
    return found
