"""One label out of the answers of several annotators, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

RULES = ("majority", "refuse")
OVERLAP = 0.7
"""The Dice coefficient above which two masks agree well (Zijdenbos et al. 1994)."""


def decide(
    answers: Sequence[Tensor | None], rule: str, name: Callable[[int], str]
) -> tuple[Tensor | None, str]:
    """The label that annotators give an image together, None where they give none, and how they voted.

    `majority`: the class that more than half of them name; the pixels that more than half of those who painted have
    painted, unless half of all skipped the image. `refuse`: the class that all name; the same pixels, where nobody
    skipped and every two masks have a Dice coefficient above OVERLAP.

    Args:
        answers: one an annotator: a class (int64, no dimensions), a mask (uint8 `1 x H x W`), None for a skip.
        name: what a class is called.
    """
    given = [answer for answer in answers if answer is not None]
    skipped = len(answers) - len(given)
    if not given or (skipped and rule == "refuse") or 2 * skipped >= len(answers):
        return None, f"skipped by {skipped} of {len(answers)}" if len(answers) > 1 else "skipped"
    if len(answers) == 1:
        return given[0], ""
    if not given[0].ndim:
        votes = Counter(map(int, given))
        most, number = votes.most_common(1)[0]
        told = ", ".join(f"{n} for {name(value)}" for value, n in votes.most_common())
        told += f", {skipped} skipped" if skipped else ""
        wanted = len(answers) if rule == "refuse" else len(answers) // 2 + 1
        return (torch.tensor(most) if number >= wanted else None), told
    masks = torch.stack(list(given))
    worst = min(_dice(a, b) for a, b in combinations(masks, 2))
    told = f"{len(given)} masks, Dice {worst:.2f} at least" + (f", {skipped} skipped" if skipped else "")
    if rule == "refuse" and worst <= OVERLAP:
        return None, told
    return (2 * masks.sum(0) > len(masks)).to(masks.dtype), told


def _dice(one: Tensor, other: Tensor) -> float:
    """2 |A ∩ B| / (|A| + |B|); two empty masks agree."""
    both = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / both if both else 1.0
