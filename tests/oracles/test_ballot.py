"""Votes of several annotators, worked out by hand."""

import pytest
import torch

from alss_ray.oracles.ballot import DISPUTED, SKIPPED, decide

SKIP = None


def classes(*votes):
    return [None if vote is None else torch.tensor(vote) for vote in votes]


@pytest.mark.parametrize(
    ("votes", "majority", "refuse", "told"),
    [
        ((3,), 3, 3, ""),
        ((SKIP,), SKIPPED, SKIPPED, ""),
        ((3, 3), 3, 3, "2 for class 3"),
        ((3, 4), DISPUTED, DISPUTED, "1 for class 3, 1 for class 4"),
        ((3, 4, 3), 3, DISPUTED, "2 for class 3, 1 for class 4"),
        ((3, 4, 5), DISPUTED, DISPUTED, "1 for class 3, 1 for class 4, 1 for class 5"),
        ((3, 3, SKIP), 3, SKIPPED, "2 for class 3, 1 skipped"),
        ((3, 4, 3, SKIP), DISPUTED, SKIPPED, "2 for class 3, 1 for class 4, 1 skipped"),
        ((3, SKIP), SKIPPED, SKIPPED, "1 for class 3, 1 skipped"),
        ((SKIP, SKIP), SKIPPED, SKIPPED, "2 skipped"),
    ],
)
def test_classes(votes, majority, refuse, told):
    for rule, wanted in (("majority", majority), ("refuse", refuse)):
        outcome = decide(classes(*votes), rule, "class {}".format)
        assert (outcome.refusal if outcome.label is None else int(outcome.label)) == wanted
        assert outcome.votes == told


def test_masks():
    """Three masks of four pixels; Dice of the first and the last is 2 * 1 / (2 + 2)."""
    painted = [1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0]
    masks = [torch.tensor(row, dtype=torch.uint8).reshape(1, 2, 2) for row in painted]
    outcome = decide(masks, "majority", str)
    assert outcome.label.tolist() == [[[1, 1], [1, 0]]]
    assert outcome.votes == "3 masks, Dice 0.50 at least"
    assert decide(masks, "refuse", str) == (None, DISPUTED, "3 masks, Dice 0.50 at least")
    outcome = decide(masks[:2], "refuse", str)  # Dice 0.8; of two masks, what both painted
    assert outcome.label.tolist() == [[[1, 1], [0, 0]]]
    assert outcome.votes == "2 masks, Dice 0.80 at least"
    empty = torch.zeros_like(masks[0])
    outcome = decide([empty, empty, SKIP], "majority", str)
    assert (outcome.label.sum(), outcome.votes) == (0, "2 masks, Dice 1.00 at least, 1 skipped")
    assert decide([masks[0], SKIP], "majority", str) == (None, SKIPPED, "1 mask, 1 skipped")
    assert torch.equal(decide(masks[:1], "refuse", str).label, masks[0])
