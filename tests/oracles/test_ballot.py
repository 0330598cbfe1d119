"""Votes of several annotators, worked out by hand."""

import pytest
import torch

from alss_ray.oracles.ballot import decide

SKIP = None


def classes(*votes):
    return [None if vote is None else torch.tensor(vote) for vote in votes]


@pytest.mark.parametrize(
    ("votes", "majority", "refuse", "told"),
    [
        ((3,), 3, 3, ""),
        ((SKIP,), None, None, "skipped"),
        ((3, 3), 3, 3, "2 for class 3"),
        ((3, 4), None, None, "1 for class 3, 1 for class 4"),
        ((3, 4, 3), 3, None, "2 for class 3, 1 for class 4"),
        ((3, 4, 5), None, None, "1 for class 3, 1 for class 4, 1 for class 5"),
        ((3, 3, SKIP), 3, None, "2 for class 3, 1 skipped"),
        ((3, 4, 3, SKIP), None, None, "2 for class 3, 1 for class 4, 1 skipped"),
        ((3, SKIP), None, None, "skipped by 1 of 2"),
    ],
)
def test_classes(votes, majority, refuse, told):
    for rule, wanted in (("majority", majority), ("refuse", refuse)):
        value, said = decide(classes(*votes), rule, "class {}".format)
        assert (None if value is None else int(value)) == wanted
        if rule == "majority" or SKIP not in votes:
            assert said == told


def test_masks():
    """Three masks of four pixels; Dice of the first and the last is 2 * 1 / (2 + 2)."""
    masks = [
        torch.tensor(row, dtype=torch.uint8).reshape(1, 2, 2)
        for row in ([1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0])
    ]
    value, told = decide(masks, "majority", str)
    assert value.tolist() == [[[1, 1], [1, 0]]]
    assert told == "3 masks, Dice 0.50 at least"
    assert decide(masks, "refuse", str) == (None, told)
    value, told = decide(masks[:2], "refuse", str)  # Dice 0.8; of two masks, what both painted
    assert value.tolist() == [[[1, 1], [0, 0]]]
    assert told == "2 masks, Dice 0.80 at least"
    empty = torch.zeros_like(masks[0])
    value, told = decide([empty, empty, SKIP], "majority", str)
    assert (value.sum(), told) == (0, "2 masks, Dice 1.00 at least, 1 skipped")
