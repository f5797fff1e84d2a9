"""An audit in the words of somebody who buys for a shop, claiming no more than the intervals allow.

Every sentence is a function of the results and says nothing where its part is missing. What
cannot be told from chance is said so; what only goes together is never called a cause.
"""

from collections.abc import Sequence

from tailwise.reports._audit_caveats import caveats
from tailwise.reports._audit_results import (
    Audit,
    Case,
    attribution_case,
    clear_ratios,
    estimate,
    sharpness_changes,
    told_apart,
    versus,
)
from tailwise.reports._numbers import amount, count, number, percent
from tailwise.reports._results import Estimate
from tailwise.reports._words import Summary, segment_name

__all__ = [
    "agreement_sentences",
    "attribution_sentences",
    "change_sentences",
    "column_sentences",
    "concentration_sentences",
    "exposure_sentences",
    "headline",
    "in_percent",
    "neglect_sentences",
    "taste_sentences",
    "words_for_audit",
]

_MOST, _PART = 0.5, 0.1  # of a share: above, "mostly" and "in part"
_AGREES = ((0.1, "hardly"), (0.3, "weakly"), (0.5, "moderately"))  # a rank correlation below; else strongly
_N_EXAMPLES = 3
_LONGEST = 60  # characters of a title within a sentence

_HEADLINES: dict[Case, str] = {
    "data-more": "who is found goes more with the shop's own log than with what the language model knew",
    "prior-more": "who is found goes more with what the language model knew than with the shop's own log",
    "both": "who is found goes with the shop's own log and with what the language model knew",
    "data": "who is found goes with the shop's own log",
    "prior": "who is found goes with what the language model knew",
    "together": "the log and what the language model knew tell too much the same to be held apart",
    "neither": "neither the log nor what the language model knew is shown to decide who is found",
    "not-measurable": "who is found cannot be told from chance",
}


def words_for_audit(audit: Audit) -> Summary:
    """Put an audit into a headline, a paragraph and caveats."""
    parts = (
        concentration_sentences,
        exposure_sentences,
        agreement_sentences,
        attribution_sentences,
        neglect_sentences,
        column_sentences,
        taste_sentences,
        change_sentences,
    )
    sentences = tuple(sentence for part in parts for sentence in part(audit))
    return Summary(headline(audit), "plain", sentences, tuple(caveats(audit)))


def headline(audit: Audit) -> str:
    """Say who is shown, and what goes with who is found; one line."""
    held, shown = audit.interaction_share(audit.tail), audit.exposure(audit.main, "slot_share", audit.tail)
    if audit.tail is None or held is None or shown is None or shown.value is None:
        first = (
            f"The most popular fifth of the catalogue takes {in_percent(audit.top_share(0.2))} of all choices"
        )
    else:
        side = versus(shown, held)
        few = "only " if side == "below" and shown.value < held / 2 else ""
        places = f"{few}{in_percent(shown.value)}" if shown.value else "none"
        first = (
            f"{_capitalized(segment_name(audit.tail))} get {places} of the places"
            f" for {in_percent(held)} of the choices"
        )
        if side == "unclear":
            first += ", no clear difference"
    case = attribution_case(audit.main["attribution"])
    return first if case is None else f"{first}; {_HEADLINES[case]}"


def concentration_sentences(audit: Audit) -> list[str]:
    """How few items hold the choices, and how many hardly have any."""
    data, skew = audit.content["data"], audit.content["data_side"]["skew"]
    text = (
        f"In the log of {data['name']} ({count(skew['n_interactions'])} choices among"
        f" {count(skew['n_items'])} items) the most popular fifth of the items takes"
        f" {in_percent(audit.top_share(0.2))} of the choices"
    )
    rare = next((row for row in skew["rare_items"] if row["count"] == 5), None)
    if rare is not None and rare["n_items"]:
        few = f"{count(rare['n_items'])} items ({in_percent(rare['item_share'])})"
        text += f", and {few} were chosen five times at most"
    return [text + "."]


def exposure_sentences(audit: Audit) -> list[str]:
    """What the lists show of the rare items, and to how many of them nobody ever comes."""
    main = audit.main
    held, shown = audit.interaction_share(audit.tail), audit.exposure(main, "slot_share", audit.tail)
    if audit.tail is None or held is None or shown is None or shown.value is None:
        return []
    name = segment_name(audit.tail)
    found = {
        "below": f"although {in_percent(held)} of the choices were theirs",
        "above": f"more than the {in_percent(held)} of the choices that were theirs",
        "unclear": f"which cannot be told from the {in_percent(held)} of the choices that were theirs",
    }[versus(shown, held)]
    places = in_percent(shown.value) if shown.value else "none"
    lists = f"The lists of {audit.label(main)}, {main['k']} places each,"
    text = f"{lists} give {name} {places} of the places, {found}"
    covered = audit.exposure(main, "coverage", audit.tail)
    if covered is None or covered.value is None:
        return [text + "."]
    if covered.value <= 0:
        return [text + f"; not one of the {name} appears in anybody's list."]
    if covered.value >= 1:
        return [text + f"; every one of the {name} appears in somebody's list."]
    return [text + f"; {in_percent(1 - covered.value)} of the {name} appear in nobody's list."]


def agreement_sentences(audit: Audit) -> list[str]:
    """Whether what the language model knew beforehand agrees with what users chose."""
    found = audit.agreement_with_log
    if found is None or found.value is None:
        return []
    known = "What the language model knew of the items beforehand"
    scale = f"{number(found.value, 2)} on a scale from −1 to 1"
    if found.low is None or found.high is None or versus(found, 0.0) == "unclear":
        return [
            f"{known} cannot be told from unrelated to what users chose ({scale}, where 0 is no relation)."
        ]
    how = next((word for bound, word in _AGREES if abs(found.value) < bound), "strongly")
    verb = "agrees" if found.value > 0 else "disagrees"
    return [f"{known} {verb} {how} with what users chose ({scale})."]


def attribution_sentences(audit: Audit) -> list[str]:
    """Which of the two sides goes with how well an item is found."""
    found = audit.main["attribution"]
    case = attribution_case(found)
    if case is None:
        return (
            []
            if audit.main["role"] == "reference"
            else ["Which side goes with how well an item is found could not be asked."]
        )
    differs = "How high an item stands in the lists of users who then choose it differs from item to item"
    if case == "not-measurable":
        return [f"{differs} no more than chance would make it, so neither side can be blamed."]
    shares = found["corrected"] or found["uncorrected"]
    data, prior, both = (estimate(shares[name]) for name in ("data", "prior", "v_both"))
    log, knowledge = "how often the shop's own log holds it", "how well the language model knew it beforehand"
    if case in ("data-more", "prior-more", "both"):
        first, second = (data, log), (prior, knowledge)
        if (prior.value or 0.0) > (data.value or 0.0):
            first, second = second, first
        text = (
            f"{differs}; this goes {_amount(first[0])} with {first[1]} and {_amount(second[0])} with"
            f" {second[1]}; each explains something that the other does not"
        )
        if case == "both":
            text += ", but which of them explains more cannot be told"
    elif case in ("data", "prior"):
        told, other = ((data, log), (prior, knowledge))[:: 1 if case == "data" else -1]
        text = (
            f"{differs}; this goes {_amount(told[0])} with {told[1]}; whether {other[1]} adds anything to"
            f" that cannot be told from chance{_given(other[0])}"
        )
    elif case == "together":
        text = (
            f"{differs}; {log} and {knowledge} together explain {_bracket(both, '')} of that, but tell so"
            " much the same that neither can be held apart from the other"
        )
    else:
        text = f"{differs}; neither {log} nor {knowledge} is shown to explain that: it could be chance"
    return [text + "."]


def neglect_sentences(audit: Audit) -> list[str]:
    """Name the items that are passed over most clearly."""
    rows = audit.main["neglected"]
    clear = [row for row in rows if row["shown_ratio_high"] < 1][:_N_EXAMPLES]
    if not clear:
        return ["No item is passed over so clearly that chance is ruled out."] if rows else []
    titles = _listed([f"“{shorten(row['title'])}”" for row in clear])
    wanted, got = (_listed([amount(row[key]) for row in clear]) for key in ("expected_slots", "n_slots"))
    if not any(row["n_slots"] for row in clear):
        got = "none"
    verb, them = ("is", "it") if len(clear) == 1 else ("are", "them")
    return [
        f"Passed over most clearly {verb} {titles}: by what users chose, {wanted} lists would show {them},"
        f" and {got} do."
    ]


def column_sentences(audit: Audit) -> list[str]:
    """Which category or brand is passed over and which is favoured, having looked at all of them."""
    found = []
    for column in audit.main["columns"]:
        less, more = clear_ratios(column)
        parts = [
            f"“{shorten(rows[0]['value'])}” gets {word} for what is chosen of it"
            f" ({_times(rows[0]['exposure_ratio'])} its due)"
            for rows, word in ((less, "least"), (more, "most"))
            if rows
        ]
        if parts:
            found.append(f"By {column['column']}, {_listed(parts)}.")
    return found


def taste_sentences(audit: Audit) -> list[str]:
    """Whether those who like rare items are shown them."""
    taste = audit.main["taste"]
    if taste is None:
        return []
    niche = next((group for group in taste["groups"] if group["name"] == "niche"), None)
    is_grouped = niche is not None and niche["difference"]["value"] is not None
    own, shown, change = (
        estimate((niche if niche is not None and is_grouped else taste)[name])
        for name in ("own_tail_share", "shown_tail_share", "difference")
    )
    if own.value is None or shown.value is None:
        return []
    who = "the third of the users who like rare items most" if is_grouped else "users"
    shares = (
        f"{in_percent(own.value)} of the choices and {in_percent(shown.value)} of the places are rare items"
    )
    if versus(change, 0.0) == "unclear":
        return [f"Among {who}, {shares}, a difference that cannot be told from chance."]
    return [f"Among {who}, {shares}."]


def change_sentences(audit: Audit) -> list[str]:
    """What the treatment changed of the exposure and of the sharpness of rare items."""
    if audit.treatment is None or audit.tail is None:
        return []
    found, name, treatment = [], segment_name(audit.tail), audit.label(audit.treatment)
    before, after = (audit.exposure(s, "slot_share", audit.tail) for s in (audit.main, audit.treatment))
    if before is not None and after is not None and before.value is not None and after.value is not None:
        text = f"With {treatment}, {name} get {in_percent(after.value)} of the places instead of"
        text += f" {in_percent(before.value)}"
        if told_apart(before, after) == "unclear":
            text += ", a change that these two numbers alone cannot tell from chance"
        found.append(text + ".")
    change = sharpness_changes(audit.content["sharpness"], audit.treatment["name"]).get(audit.tail)
    if change is not None:
        how = {
            "flatter": "less fragile: the same small change of it does less harm",
            "sharper": "more fragile: the same small change of it does more harm",
            "unclear": "neither more nor less fragile, as far as can be told from chance",
        }[change["verdict"]]
        found.append(f"On {name} that model is {how} (its sharpness).")
    return found


def in_percent(share: float | None) -> str:
    """A share with as many digits as it deserves: ``35 %``, ``6.0 %``, ``under 0.1 %``."""
    if share is None:
        return percent(None)
    if 0 < share < 0.0005:
        return f"under {percent(0.001, 1)}"
    return percent(share, 0 if share == 0 or 0.0995 <= share <= 0.9005 or share >= 1 else 1)


def shorten(title: str) -> str:
    """A title that fits into a sentence."""
    plain = " ".join(title.split())
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1].rstrip() + "…"


def _amount(share: Estimate) -> str:
    value = share.value or 0.0
    word = "mostly" if value > _MOST else "in part" if value > _PART else "a little"
    return f"{word} {_bracket(share, '()')}"


def _bracket(share: Estimate, around: str) -> str:
    """``62 %, 45 to 80``: a share of the differences with its interval."""
    if share.value is None:
        text = "an unknown share"
    elif share.low is None or share.high is None:
        text = percent(share.value, 0)
    else:
        ends = " to ".join(number(100 * end, 0).replace("−0", "0") for end in (share.low, share.high))
        text = f"{percent(share.value, 0)}, {ends}"
    return f"{around[0]}{text}{around[1]}" if around else text


def _given(share: Estimate) -> str:
    """What a side gets for agreeing with the other, if it is worth a word."""
    if share.value is None or share.value <= _PART:
        return ""
    return f" (since the two agree in part, {percent(share.value, 0)} are booked to it)"


def _times(value: float) -> str:
    if value == 0:
        return "nothing of"
    return f"{in_percent(value)} of" if value < 1 else f"{number(value, 1)} times"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
