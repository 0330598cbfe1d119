"""One label out of the answers of several annotators, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

RULES = ("majority", "refuse")
SKIPPED, DISPUTED = "skipped", "annotators differ"
OVERLAP = 0.7
"""The Dice coefficient above which two masks agree well (Zijdenbos et al. 1994)."""


class Outcome(NamedTuple):
    """What several annotators say together."""

    label: Tensor | None
    """None where the image is refused."""
    refusal: str
    """Why it is: SKIPPED or DISPUTED; empty where it is not."""
    votes: str
    """How they voted, in words; empty where there was one annotator."""


def decide(answers: Sequence[Tensor | None], rule: str, name: Callable[[int], str]) -> Outcome:
    """The label that annotators give an image together.

    `majority`: the class that more than half of them name; the pixels that more than half of those who painted have
    painted. `refuse`: the class that all name; the same pixels, where every two masks have a Dice coefficient above
    OVERLAP. An image that half of them have skipped is refused, with `refuse` one that anybody has.

    Args:
        answers: one an annotator: a class (int64, no dimensions), a mask (uint8 `1 x H x W`), None for a skip.
        name: what a class is called.
    """
    given = [answer for answer in answers if answer is not None]
    skipped = len(answers) - len(given)
    masks = bool(given) and given[0].ndim > 0
    label, told = _mask(given, rule) if masks else _class(given, len(answers), rule, name)
    votes = ", ".join(told + [f"{skipped} skipped"] * bool(skipped)) if len(answers) > 1 else ""
    if 2 * skipped >= len(answers) or (skipped and rule == "refuse"):
        return Outcome(None, SKIPPED, votes)
    return Outcome(label, DISPUTED if label is None else "", votes)


def _class(
    given: Sequence[Tensor], asked: int, rule: str, name: Callable[[int], str]
) -> tuple[Tensor | None, list[str]]:
    """The class of enough of those who were asked, and how many name each."""
    votes = Counter(map(int, given)).most_common()
    needed = asked if rule == "refuse" else asked // 2 + 1
    label = torch.tensor(votes[0][0]) if votes and votes[0][1] >= needed else None
    return label, [f"{number} for {name(value)}" for value, number in votes]


def _mask(given: Sequence[Tensor], rule: str) -> tuple[Tensor | None, list[str]]:
    """The mask of those who have painted, and how well their masks overlap."""
    masks = torch.stack(list(given))
    worst = min((_dice(one, other) for one, other in combinations(masks, 2)), default=1.0)
    label = (2 * masks.sum(0) > len(masks)).to(masks.dtype)
    told = [f"{len(masks)} masks, Dice {worst:.2f} at least" if len(masks) > 1 else "1 mask"]
    return (None if rule == "refuse" and worst <= OVERLAP else label), told


def _dice(one: Tensor, other: Tensor) -> float:
    """2 |A ∩ B| / (|A| + |B|); two empty masks agree."""
    both = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / both if both else 1.0
