"""Asking a language model what it would recommend to someone with a certain history."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tailwise.recommenders._text_model import TextModel

__all__ = ["RECOMMENDATION_PROMPTS", "RecommendationPrompt", "tokens_in_place"]

_PLACES = re.compile(r"(\{kind\}|\{titles\}|\{title\}|\{number\})")
_MAX_CHARACTERS = 100  # of a title in a history; the rest is cut off


@dataclass(frozen=True)
class RecommendationPrompt:
    """One way to ask for a recommendation.

    Attributes:
        name: Of the way.
        text: With ``{kind}``, ``{titles}`` (the history, oldest first) and, if wanted,
            ``{number}`` (one more than there are titles). Ends where a title would begin: with a
            quotation mark, which the title's end then closes, or without a space, and then the
            end of the line ends the title.
        each: How a title of the history is written: ``{title}``, ``{number}`` from 1, ``{kind}``.
        between: What stands between two of them.
    """

    name: str
    text: str
    each: str
    between: str

    @property
    def is_quoted(self) -> bool:
        """Whether titles stand in quotation marks."""
        return self.text.endswith('"')

    def fill(self, titles: Sequence[str], *, kind: str) -> str:
        """Write the prompt for a history.

        Example:
            >>> RECOMMENDATION_PROMPTS[1].fill(["Emma", "Persuasion"], kind="novel")
            'A list of each novel that one customer chose, oldest first:\\n1. Emma\\n2. Persuasion\\n3.'
        """
        # In one pass each, so that a title which holds "{kind}" stays what it is.
        lines = [
            _filled(self.each, {"{kind}": kind, "{number}": str(number), "{title}": title[:_MAX_CHARACTERS]})
            for number, title in enumerate(titles, start=1)
        ]
        parts = {"{kind}": kind, "{number}": str(len(lines) + 1), "{titles}": self.between.join(lines)}
        return _filled(self.text, parts)


RECOMMENDATION_PROMPTS = (
    RecommendationPrompt(
        "list",
        "Each line names a {kind} that the same person chose, oldest first.\n{titles}\n-",
        "- {title}",
        "\n",
    ),
    RecommendationPrompt(
        "numbered",
        "A list of each {kind} that one customer chose, oldest first:\n{titles}\n{number}.",
        "{number}. {title}",
        "\n",
    ),
    RecommendationPrompt(
        "profile",
        "Customer profile\n{titles}\nFavourite {kind}:",
        "Favourite {kind}: {title}",
        "\n",
    ),
    RecommendationPrompt(
        "also",
        'People who liked {titles} also liked the {kind} "',
        '"{title}"',
        ", ",
    ),
    RecommendationPrompt(
        "shop",
        'A shop recommends one {kind} to each customer.\nLiked so far: {titles}\nRecommended: "',
        '"{title}"',
        ", ",
    ),
    RecommendationPrompt(
        "advisor",
        'Customer: I enjoyed {titles}. What should I choose next?\nAdvisor: I recommend the {kind} "',
        '"{title}"',
        ", ",
    ),
)


def tokens_in_place(titles: Sequence[str], model: TextModel, *, is_quoted: bool) -> list[list[int]]:
    """Return the tokens of titles as they stand in a prompt: after a quotation mark, or after a space.

    Tokenizers treat the beginning of a text in ways of their own, so each title is turned into
    tokens behind what stands before it. Where they make one token of both (a title
    that begins with a quotation mark, say), it is turned into tokens by itself. An empty title has none.
    """
    before, space = ('"', "") if is_quoted else (":", " ")
    begin = model.tokenize(before)
    found: list[list[int]] = []
    for title in titles:
        if not title:
            found.append([])
            continue
        whole = model.tokenize(f"{before}{space}{title}")
        is_apart = whole[: len(begin)] == begin and len(whole) > len(begin)
        found.append(whole[len(begin) :] if is_apart else model.tokenize(f"{space}{title}"))
    return found


def _filled(text: str, parts: dict[str, str]) -> str:
    return "".join(parts.get(piece, piece) for piece in _PLACES.split(text))
