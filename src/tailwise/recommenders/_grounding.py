"""Free text that any language model said, and the items of the catalogue that it means."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["GROUNDINGS", "GroundedTitles", "TitleGrounding"]

GROUNDINGS = ("exact", "normalised", "embedding", "unmatched")
"""How a text found its item, strictest first."""

Encoder = Callable[[list[str]], Tensor]

_ARTICLE = re.compile(r"^(.*), (the|a|an|der|die|das|le|la|les|el|los|las|il|lo)$")
_YEAR = re.compile(r"[\s(\[]+(?:1[89]|20)\d\d[)\]]?$")


@dataclass(frozen=True, eq=False)
class GroundedTitles:
    """What texts mean.

    Attributes:
        items: ``[n]`` int64; the item of each text, -1 where it has none.
        how: ``[n]``; one of :data:`GROUNDINGS` each.
    """

    items: NDArray[np.int64]
    how: tuple[str, ...]

    @property
    def shares(self) -> Mapping[str, float]:
        """Share of the texts by how they found an item; NaN where there is no text."""
        n = len(self.how)
        return {name: self.how.count(name) / n if n else float("nan") for name in GROUNDINGS}

    @property
    def unmatched_share(self) -> float:
        """Share of the texts that mean no item: what such a recommender wastes of its places."""
        return self.shares["unmatched"]


class TitleGrounding:
    """Maps what a language model says to the items of a catalogue.

    A text is looked up as it stands, but for space around it; then normalised: compatible characters and
    accents, case, punctuation and space made alike, "Matrix, The" turned round; then, if that names no
    title, without a year at its end, where just one title of the catalogue is such; then, with an
    ``encoder``, as the title of the highest cosine similarity of at least ``min_similarity``, every
    dimension centred and scaled over the catalogue. Items of equal titles: the first of the catalogue.
    Texts whose normalised form several *different* titles share match none of them by it.

    Args:
        titles: ``[n_items]``, the catalogue's.
        encoder: From texts to ``[len(texts), d]`` floating, such as ``encode_titles`` of a language
            model; None: texts are compared as text alone.
        min_similarity: In (0, 1]; choose it on texts whose items are known: of other encoders, other
            numbers are near.

    Raises:
        ValueError: there is no title, or ``min_similarity`` is out of range.

    Example:
        >>> grounding = TitleGrounding(["Matrix, The (1999)", "Alien (1979)"])
        >>> grounded = grounding.ground(["The Matrix", "alien (1979)", "Home"])
        >>> grounded.items.tolist(), grounded.how
        ([0, 1, -1], ('normalised', 'normalised', 'unmatched'))
    """

    def __init__(
        self, titles: Sequence[str], *, encoder: Encoder | None = None, min_similarity: float = 0.9
    ) -> None:
        if not titles:
            raise ValueError("titles must hold one or more; got none.\n  Check the catalogue.")
        if not 0 < min_similarity <= 1:
            raise ValueError(f"min_similarity must be in (0, 1]; got {min_similarity}.")
        self._encoder = encoder
        self._min_similarity = min_similarity
        self._exact: dict[str, int] = {}
        for item, title in enumerate(titles):
            self._exact.setdefault(title.strip(), item)
        distinct = list(self._exact.items())
        self._normalised = _unambiguous([(_normalised(title), item) for title, item in distinct])
        self._undated = _unambiguous([(_normalised(_YEAR.sub("", title)), item) for title, item in distinct])
        self._items = np.array([item for _, item in distinct])
        self._vectors: Tensor | None = None
        if encoder is not None:
            given = encoder([title for title, _ in distinct]).float()
            self._centre, self._scale = given.mean(0), given.std(0, unbiased=False).clamp_min(1e-6)
            self._vectors = self._unit(given)

    def ground(self, texts: Sequence[str]) -> GroundedTitles:
        """Find the item of each text."""
        items = np.full(len(texts), -1, dtype=np.int64)
        how = ["unmatched"] * len(texts)
        for number, text in enumerate(texts):
            item = self._exact.get(text.strip())
            if item is not None:
                items[number], how[number] = item, "exact"
                continue
            item = self._by_normalised(text)
            if item is not None:
                items[number], how[number] = item, "normalised"
        left = [number for number, found in enumerate(how) if found == "unmatched" and texts[number].strip()]
        if left and self._encoder is not None and self._vectors is not None:
            said = self._encoder([texts[number] for number in left])
            similarity = self._unit(said.float()) @ self._vectors.T
            best = similarity.max(dim=1)
            for number, value, place in zip(left, best.values.tolist(), best.indices.tolist(), strict=True):
                if value >= self._min_similarity:
                    items[number], how[number] = self._items[place], "embedding"
        return GroundedTitles(items, tuple(how))

    def _unit(self, vectors: Tensor) -> Tensor:
        """Directions from the catalogue's centre: hidden states share a few huge dimensions."""
        return torch.nn.functional.normalize((vectors - self._centre) / self._scale, dim=1)

    def _by_normalised(self, text: str) -> int | None:
        said = _normalised(text)
        if said in self._normalised:
            return self._normalised[said]
        # A year that is said and wrong names another thing; one that is not said may be anything.
        return None if _YEAR.search(text.strip()) else self._undated.get(said)


def _unambiguous(named: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Names that stand for one item each; the empty name stands for none."""
    times: dict[str, list[int]] = {}
    for name, item in named:
        times.setdefault(name, []).append(item)
    return {name: items[0] for name, items in times.items() if name and len(items) == 1}


def _normalised(text: str) -> str:
    """Letters and digits of a text, without accents and case, words apart by one space."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(character for character in plain if not unicodedata.combining(character)).strip()
    year = _YEAR.search(plain)
    body, rest = (plain[: year.start()].strip(), plain[year.start() :]) if year else (plain, "")
    turned = _ARTICLE.match(body)
    if turned:
        body = f"{turned[2]} {turned[1]}"
    plain = (body + rest).replace("&", " and ")
    return " ".join(re.sub(r"[^\w]+", " ", plain).split())
