import pytest

from tailwise.diagnosis._sentence import sentence
from tailwise.diagnosis._uncertain import Uncertain

LARGE, SMALL, NOTHING = Uncertain(0.62, 0.45, 0.8), Uncertain(0.1, -0.05, 0.22), Uncertain(0.01, -0.04, 0.06)


def say(**changed):
    arguments = {
        "data": LARGE,
        "prior": SMALL,
        "both": Uncertain(0.72, 0.55, 0.9),
        "p_data": 0.01,
        "p_prior": 0.01,
        "is_measurable": True,
        "is_corrected": True,
    }
    return sentence(**(arguments | changed))


def test_a_side_that_adds_nothing_is_said_to():
    assert say(p_prior=0.4) == (
        "Most (62 %, 45 to 80) of the differences in accuracy between items goes with the shop's own log; "
        "the language model's prior is given 10 %, −5 to 22, but what it adds to the log cannot be told "
        "from nothing (p = 0.40)."
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "the shop's own log, 10 %, −5 to 22 with the language model's prior; each adds something"),
        ({"data": SMALL, "prior": LARGE}, "Most (62 %, 45 to 80) of the differences"),
        ({"p_data": 0.5, "data": SMALL, "prior": LARGE}, "adds to the prior cannot be told from nothing"),
        ({"p_data": 0.5, "p_prior": 0.4}, "neither adds to the other more than chance"),
        ({"p_data": 0.5, "p_prior": 0.4, "both": NOTHING}, "Neither the shop's own log nor"),
        ({"is_measurable": False}, "no gap to explain"),
        ({"is_corrected": False}, "not corrected, so its share may be larger"),
        ({"worth": (23.4, 118.0)}, "worth those of only 23 items and 118 users of equal weight"),
        ({"prior": Uncertain(0.3), "p_prior": 0.01}, "log, 30 % with the language model's prior"),
        ({"prior": Uncertain(-0.002, -0.01, 0.01), "p_prior": 0.4}, "is given 0 %, −1 to 1"),
    ],
)
def test_every_outcome_has_its_words(changed, words):
    assert words in say(**changed)
