"""People as the oracle: asked once for an image, waited for without a process, taken at their last word."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from alss_ray.config import Waiting
from alss_ray.oracles import ImageBatch
from alss_ray.oracles.base import Errand, Why
from alss_ray.oracles.cache import LabelStore, Verdict
from alss_ray.oracles.people import Classes, PeopleOracle, Returned, Suggestion

IMAGES = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 1, 4, 4).contiguous()


@dataclass
class Desk:
    """Annotators whose answers a test gives."""

    asked: list[Suggestion] = field(default_factory=list)
    answers: dict[str, Verdict] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    looks: int = 0
    where: str = "the desk"

    def ask(self, suggestions: Sequence[Suggestion]) -> None:
        known = {suggestion.key for suggestion in self.asked}
        self.asked += [suggestion for suggestion in suggestions if suggestion.key not in known]

    def returned(self) -> Returned:
        self.looks += 1
        return Returned(dict(self.answers), list(self.complaints))

    def answer(self, *labels: int | None, came: float = 5.0) -> None:
        """Label the images that were asked for first; None skips one."""
        for suggestion, label in zip(self.asked, labels, strict=False):
            errand = Errand(suggestion.asker, 1.0, came)
            said = Verdict(None, "skipped") if label is None else Verdict(torch.tensor(label))
            self.answers[suggestion.key] = Verdict(said.value, said.refusal, errand)


def oracle(desk: Desk, folder: Path, question: str = "Which?") -> PeopleOracle:
    return PeopleOracle(Classes(("a", "b", "c")), question, desk, LabelStore(folder))


def batch(*rows: int, asker: str = "one", round: int = 2) -> ImageBatch:
    why = [Why(margin=row / 10) for row in rows]
    return ImageBatch(IMAGES[list(rows)], torch.tensor(rows), asker, round, why)


def test_waits_until_every_label_is_there_and_asks_once(tmp_path: Path) -> None:
    desk = Desk()
    with pytest.raises(
        Waiting, match=r"^Waiting for 3 of 3 labels for round 2: give them in the desk"
    ) as waiting:
        oracle(desk, tmp_path).label(batch(3, 1, 2))
    assert [(s.index, s.why.margin, s.round) for s in desk.asked] == [(1, 0.1, 2), (2, 0.2, 2), (3, 0.3, 2)]
    assert waiting.value.keys == {s.key for s in desk.asked}
    desk.answer(2, 0)
    with pytest.raises(Waiting, match="1 of 3"):
        oracle(desk, tmp_path).label(batch(3, 1, 2))
    desk.answer(2, 0, None)
    labels = oracle(desk, tmp_path).label(batch(3, 1, 2))
    assert labels.values[1:].tolist() == [2, 0]
    assert labels.refusals == {0: "skipped"}
    assert labels.errands[0] == Errand("one", 1.0, 5.0)
    assert len(desk.asked) == 3


def test_a_label_is_kept_for_good_and_serves_other_experiments(tmp_path: Path) -> None:
    desk = Desk()
    with pytest.raises(Waiting):
        oracle(desk, tmp_path).label(batch(0, 1))
    with pytest.raises(Waiting, match="2 of 2"):
        oracle(desk, tmp_path).label(batch(1, 2, asker="two"))
    assert [s.index for s in desk.asked] == [0, 1, 2]
    desk.answer(0, 1, 2)
    assert oracle(desk, tmp_path).label(batch(0, 1)).bought == 2
    assert oracle(desk, tmp_path).label(batch(1, 2, asker="two")).bought == 1
    away = Desk()
    assert oracle(away, tmp_path).label(batch(0, 1, asker="three")).values.tolist() == [0, 1]
    assert away.looks == 0
    with pytest.raises(Waiting):
        oracle(away, tmp_path, "Which, upside down?").label(batch(0, 1))


def test_takes_a_corrected_label_for_experiments_to_come(tmp_path: Path) -> None:
    desk = Desk()
    asks = batch(0, 1)
    with pytest.raises(Waiting):
        oracle(desk, tmp_path).label(asks)
    desk.answer(0)
    with pytest.raises(Waiting):
        oracle(desk, tmp_path).label(asks)
    desk.answer(1, 1, came=9.0)
    with pytest.warns(UserWarning, match="was a and is b now"):
        assert oracle(desk, tmp_path).label(asks).values.tolist() == [1, 1]
    desk.answer(2, 2, came=4.0)  # what another folder says, from an earlier day
    with pytest.raises(Waiting):
        oracle(desk, tmp_path).label(batch(0, 2))
    assert oracle(desk, tmp_path).label(asks).values.tolist() == [1, 1]


def test_what_cannot_be_taken_is_told_with_what_is_missing(tmp_path: Path) -> None:
    desk = Desk(complaints=["x.png is odd."])
    with pytest.raises(Waiting, match=r"the desk\.\nx\.png is odd\.$"):
        oracle(desk, tmp_path).label(batch(0))
    waiting = oracle(desk, tmp_path).missing({desk.asked[0].key})
    assert waiting is not None
    desk.answer(0)
    with pytest.warns(UserWarning, match="odd"):
        assert oracle(desk, tmp_path).missing(waiting.keys) is None


def test_images_announced_are_asked_for_without_waiting(tmp_path: Path) -> None:
    desk = Desk()
    oracle(desk, tmp_path).announce(batch(0, 1))
    assert [s.index for s in desk.asked] == [0, 1]
    desk.answer(0, 1)
    assert oracle(desk, tmp_path).label(batch(0, 1)).values.tolist() == [0, 1]


def test_what_is_labelled_already_is_not_asked_for_and_people_see_more_than_the_network(
    tmp_path: Path,
) -> None:
    desk = Desk()
    stored = torch.tensor([2, -1, -1, 0, -1, -1])

    def large(index: int) -> np.ndarray:
        return np.full((3, 40, 30), index, np.uint8)

    knowing = dataclasses.replace(oracle(desk, tmp_path), stored=stored, picture=large)
    with pytest.raises(Waiting, match="2 of 2"):
        knowing.label(batch(0, 1, 2, 3))
    assert [(s.index, s.image.shape) for s in desk.asked] == [(1, (3, 40, 30)), (2, (3, 40, 30))]
    knowing.announce(batch(3, 4))
    assert [s.index for s in desk.asked] == [1, 2, 4]
    desk.answer(1, None)
    labels = knowing.label(batch(0, 1, 2, 3))
    assert labels.values[[0, 1, 3]].tolist() == [2, 1, 0]
    assert labels.refusals == {2: "skipped"}
    assert labels.bought == 2
    # The label is that of the image in D, whatever people were shown.
    assert oracle(desk, tmp_path).label(batch(1)).values.tolist() == [1]
