"""Buying labels: each once, refused images replaced and counted, nothing made up."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from alss_ray.config import ExperimentFailed
from alss_ray.labelled import LabelledSet
from alss_ray.labelling import FREE, LABELLED, REFILLS, REFUSED, Answer, Labeller
from alss_ray.oracles.base import Errand, ImageBatch, Labels
from alss_ray.strategies.base import Query

POOL = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 1, 2, 2).contiguous()
NOTHING = LabelledSet.empty(POOL)


@dataclass
class Reader:
    """An oracle whose label is a hundred plus the image's grey; it remembers what it was shown."""

    refuses: frozenset[int] = frozenset()
    greys: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)

    def label(self, images: ImageBatch) -> Labels:
        greys = [int(image.max()) for image in images]
        self.greys += greys
        self.positions += images.indices.tolist()
        refusals = {k: f"grey {grey}" for k, grey in enumerate(greys) if grey in self.refuses}
        return Labels(torch.tensor([100 + grey for grey in greys]), refusals)


@dataclass
class Purse:
    """A labeller with the state that it works on."""

    oracle: Reader
    known: LabelledSet = NOTHING
    taken: Tensor = field(default_factory=lambda: torch.full((40,), FREE, dtype=torch.int8))
    again: Callable[[int, int], Query] | None = None

    def buy(self, *indices: int, images: Tensor | None = None) -> Answer:
        def never(count: int, refill: int) -> Query:
            raise AssertionError(f"asked for {count} more")

        query = Query(torch.tensor(indices, dtype=torch.int64), images)
        return Labeller(self.oracle, POOL, lambda values: values).fill(
            query, self.again or never, self.known, self.taken, LABELLED, 2
        )


def grey(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def test_labels_stand_beside_their_samples() -> None:
    purse = Purse(Reader())
    answer = purse.buy(9, 2, 30)
    assert answer.query.indices.tolist() == [9, 2, 30]
    assert answer.targets.tolist() == [109, 102, 130]
    assert (answer.calls, dict(answer.refusals)) == (3, {})
    assert (purse.taken == LABELLED).nonzero()[:, 0].tolist() == [2, 9, 30]
    assert (purse.taken == FREE).sum() == 37


def test_how_people_came_to_their_labels_is_told() -> None:
    class Panel(Reader):
        def label(self, images: ImageBatch) -> Labels:
            errand = Errand("another", 1e9, 1e9 + 60, 2.5, "2 for 109, 1 for 110")
            return dataclasses.replace(super().label(images), errands={0: errand})

    (row,) = Purse(Panel()).buy(9, 2).errands
    assert (row["sample"], row["label"], row["refusal"]) == (9, 109, None)
    assert (row["asker"], row["person_seconds"], row["votes"]) == ("another", 2.5, "2 for 109, 1 for 110")
    assert row["asked_at"].isoformat() == "2001-09-09T01:46:40+00:00"
    assert (row["came_at"] - row["asked_at"]).total_seconds() == 60


def test_a_known_label_is_not_bought_again() -> None:
    known = NOTHING.append(POOL[[2, 5]], torch.tensor([-2, -5]), torch.tensor([2, 5]), 1, made=False)
    purse = Purse(Reader(), known)
    answer = purse.buy(5, 9, 2)
    assert answer.targets.tolist() == [-5, 109, -2]
    assert purse.oracle.positions == [9]
    assert answer.calls == 1


def test_all_known_asks_nobody() -> None:
    known = NOTHING.append(POOL[[2, 5]], torch.tensor([-2, -5]), torch.tensor([2, 5]), 1, made=False)
    purse = Purse(Reader(), known)
    assert purse.buy(5, 5, 2).targets.tolist() == [-5, -5, -2]
    assert purse.oracle.positions == []


def test_a_sample_asked_for_twice_at_once_is_bought_once() -> None:
    purse = Purse(Reader())
    answer = purse.buy(4, 6, 4, 4)
    assert answer.targets.tolist() == [104, 106, 104, 104]
    assert purse.oracle.positions == [4, 6]
    assert answer.calls == 2


def test_synthesised_images_are_shown_as_made_and_each_is_bought() -> None:
    known = NOTHING.append(grey(200), torch.tensor([300]), torch.tensor([-1]), 1, made=True)
    purse = Purse(Reader(), known)
    answer = purse.buy(-1, 7, -1, images=grey(200, 201, 202))
    assert purse.oracle.greys == [200, 7, 202]
    assert answer.targets.tolist() == [300, 107, 302]
    assert torch.equal(answer.query.images, grey(200, 201, 202))
    assert (purse.taken == LABELLED).nonzero()[:, 0].tolist() == [7]


def test_the_oracle_sees_the_real_sample_behind_a_decoded_one() -> None:
    """Algorithm 1, line 12: F trains on G(p) with the label of the real neighbour."""
    purse = Purse(Reader())
    assert purse.buy(3, 4, images=grey(250, 251)).targets.tolist() == [103, 104]
    assert purse.oracle.greys == [3, 4]


def test_refused_images_are_replaced_counted_and_never_asked_for_again() -> None:
    purse = Purse(Reader(frozenset({1, 3, 21})))
    asked = []

    def again(count: int, refill: int) -> Query:
        asked.append((count, refill))
        assert (purse.taken[[1, 3]] == REFUSED).all()
        assert (purse.taken[[2, 4]] == LABELLED).all()
        return Query(torch.tensor([[20, 21], [22]][refill - 1]))

    purse.again = again
    answer = purse.buy(1, 2, 3, 4)
    assert asked == [(2, 1), (1, 2)]
    assert sorted(answer.query.indices.tolist()) == [2, 4, 20, 22]
    assert answer.targets.tolist() == [100 + k for k in answer.query.indices.tolist()]
    assert answer.calls == 7
    assert dict(answer.refusals) == {"grey 1": 1, "grey 3": 1, "grey 21": 1}
    assert (purse.taken == REFUSED).nonzero()[:, 0].tolist() == [1, 3, 21]


def test_replacements_of_decoded_images_bring_their_images() -> None:
    purse = Purse(Reader(frozenset({3})), again=lambda count, refill: Query(torch.tensor([8]), grey(208)))
    answer = purse.buy(3, 4, images=grey(203, 204))
    assert answer.query.indices.tolist() == [4, 8]
    assert torch.equal(answer.query.images, grey(204, 208))


def test_a_replacement_that_was_just_bought_is_not_bought_again() -> None:
    """Where repeats are allowed, a refill may name a sample of the same round."""
    purse = Purse(Reader(frozenset({3})), again=lambda count, refill: Query(torch.tensor([5])))
    answer = purse.buy(3, 5)
    assert answer.targets.tolist() == [105, 105]
    assert purse.oracle.positions == [3, 5]
    assert answer.calls == 2


def test_a_repeat_of_a_refused_sample_is_refused_too() -> None:
    purse = Purse(Reader(frozenset({3})), again=lambda count, refill: Query(torch.tensor([10, 11])[:count]))
    answer = purse.buy(3, 6, 3)
    assert answer.query.indices.tolist() == [6, 10, 11]
    assert answer.calls == 4


def test_endless_refusals_end_in_one_sentence() -> None:
    asked = []

    def again(count: int, refill: int) -> Query:
        asked.append(refill)
        return Query(torch.full((count,), -1), grey(*[255] * count))

    purse = Purse(Reader(frozenset({255})), again=again)
    with pytest.raises(
        ExperimentFailed, match=r"2 of 3 images could not be labelled.*x grey 255.*lower"
    ) as caught:
        purse.buy(-1, 5, -1, images=grey(255, 0, 255))
    assert "\n" not in str(caught.value)
    assert len(purse.oracle.greys) == 3 + 2 * (REFILLS - 1)


def test_nothing_left_to_ask_for_ends_in_one_sentence() -> None:
    purse = Purse(
        Reader(frozenset({3})), again=lambda count, refill: Query(torch.empty(0, dtype=torch.int64))
    )
    with pytest.raises(ExperimentFailed, match=r"1 of 2 images could not be labelled.*1 x grey 3"):
        purse.buy(3, 4)
