"""What a model said, and which item it meant."""

import math

import numpy as np
import pytest
import torch

from tailwise.recommenders import TitleGrounding

TITLES = [
    "Matrix, The (1999)",
    "Alien (1979)",
    "Amélie (2001)",
    "King Kong (1933)",
    "King Kong (1976)",
    "Alien (1979)",
    "Crème & Sugar",
    "Go!",
    "Go?",
    "千と千尋の神隠し",
]


def ground(*texts, **given):
    found = TitleGrounding(TITLES, **given).ground(texts)
    return list(zip(found.items.tolist(), found.how, strict=True))


@pytest.mark.parametrize(
    ("text", "item", "how"),
    [
        ("Alien (1979)", 1, "exact"),  # and not 5, which has the same title
        ("  Alien (1979)\n", 1, "exact"),
        ("alien (1979)", 1, "normalised"),
        ("ALIEN", 1, "normalised"),
        ("The Matrix (1999)", 0, "normalised"),
        ("the matrix", 0, "normalised"),
        ("Matrix, The", 0, "normalised"),
        ("Amelie", 2, "normalised"),
        ("creme and sugar", 6, "normalised"),
        ("King Kong [1976]", 4, "normalised"),
        ("千と千尋の神隠し", 9, "exact"),
        ("King Kong", -1, "unmatched"),  # which?
        ("Alien (1986)", -1, "unmatched"),  # another year is another film
        ("go", -1, "unmatched"),  # two titles read alike
        ("Go?", 8, "exact"),
        ("Aliens", -1, "unmatched"),
        ("", -1, "unmatched"),
        ("!!", -1, "unmatched"),
    ],
)
def test_a_text_means_the_title_that_it_names_and_no_other(text, item, how):
    assert ground(text) == [(item, how)]


def vectors(texts):
    """Counts of letters: near for texts that differ by a letter."""
    made = torch.zeros(len(texts), 26)
    for row, text in enumerate(texts):
        for letter in text.lower():
            if "a" <= letter <= "z":
                made[row, ord(letter) - ord("a")] += 1
    return made + 1e-3


def test_what_is_not_found_as_text_may_be_near_as_a_vector():
    texts = ("Matricks, Teh", "zzz", " ")
    (near, how), (far, _), (empty, _) = ground(*texts, encoder=vectors, min_similarity=0.5)
    assert (near, how) == (0, "embedding")
    assert (far, empty) == (-1, -1)
    assert ground("Matricks, Teh", encoder=vectors, min_similarity=1.0) == [(-1, "unmatched")]


def test_what_is_found_as_text_is_not_asked_for_as_a_vector():
    asked = []

    def encoder(texts):
        asked.append(list(texts))
        return vectors(texts)

    TitleGrounding(TITLES, encoder=encoder).ground(["Alien (1979)", "the matrix"])
    assert len(asked) == 1  # the titles themselves


def test_shares_add_up():
    found = TitleGrounding(TITLES).ground(["Alien (1979)", "alien", "Heat", "Ran"])
    assert found.shares == {"exact": 0.25, "normalised": 0.25, "embedding": 0.0, "unmatched": 0.5}
    assert found.unmatched_share == 0.5
    assert found.items.dtype == np.int64
    assert math.isnan(TitleGrounding(TITLES).ground([]).unmatched_share)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"titles": []}, "titles must hold one or more; got none"),
        ({"titles": TITLES, "min_similarity": 0.0}, r"min_similarity must be in \(0, 1\]; got 0.0"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        TitleGrounding(given.pop("titles"), **given)
