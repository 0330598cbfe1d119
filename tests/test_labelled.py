"""The labelled set: what appending, choosing and saving keep."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from scipy import stats
from torch import Tensor

from alss_ray.labelled import LabelledSet

POOL = torch.arange(30, dtype=torch.uint8).view(30, 1, 1, 1).expand(30, 1, 2, 2).contiguous()


def rows(*indices: int) -> Tensor:
    return torch.tensor(indices)


def filled() -> LabelledSet:
    """Two real samples, one decoded in place of sample 5, one synthesised, and sample 3 once more."""
    made = torch.tensor([200, 201], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    first = LabelledSet.empty(POOL).append(POOL[rows(3, 7)], rows(1, 2), rows(3, 7), 1, made=False)
    second = first.append(made, rows(4, 5), rows(5, -1), 2, made=True)
    return second.append(POOL[rows(3)], rows(1), rows(3), 3, made=False)


def assert_equal(one: LabelledSet, other: LabelledSet) -> None:
    for field in dataclasses.fields(LabelledSet):
        left, right = getattr(one, field.name), getattr(other, field.name)
        assert left.dtype == right.dtype, field.name
        assert torch.equal(left, right), field.name


def test_increments_stand_in_the_order_in_which_they_were_bought() -> None:
    labelled = filled()
    assert len(labelled) == 5
    assert labelled.indices.tolist() == [3, 7, 5, -1, 3]
    assert labelled.targets.tolist() == [1, 2, 4, 5, 1]
    assert labelled.rounds.tolist() == [1, 1, 2, 2, 3]
    assert labelled.made.tolist() == [False, False, True, True, False]
    assert labelled.images[:, 0, 0, 0].tolist() == [3, 7, 200, 201, 3]


def test_appending_leaves_the_old_set_alone() -> None:
    first = LabelledSet.empty(POOL).append(POOL[:2], rows(0, 1), rows(0, 1), 1, made=False)
    first.append(POOL[2:3], rows(5), rows(2), 2, made=False)
    assert first.indices.tolist() == [0, 1]


def test_repeats_count_once_and_synthesised_images_each() -> None:
    assert filled().distinct == 4
    assert LabelledSet.empty(POOL).distinct == 0
    made = LabelledSet.empty(POOL).append(POOL[:3], rows(0, 0, 0), rows(-1, -1, -1), 1, made=True)
    assert made.distinct == 3


def test_take_chooses_all_fields_alike() -> None:
    chosen = filled().take(rows(4, 2))
    assert chosen.indices.tolist() == [3, 5]
    assert chosen.rounds.tolist() == [3, 2]
    assert chosen.images[:, 0, 0, 0].tolist() == [3, 200]


@pytest.mark.parametrize("labelled", [filled(), filled().take(rows(0, 1)), LabelledSet.empty(POOL)])
def test_a_saved_set_comes_back_equal_without_the_images_of_the_pool(labelled: LabelledSet) -> None:
    packed = labelled.pack()
    assert all(len(value) <= len(labelled) for value in packed.values())
    assert sum(value.dtype == torch.uint8 for value in packed.values()) == 1
    assert len(packed["made_images"]) == labelled.made.sum()
    before = POOL.clone()
    assert_equal(LabelledSet.unpack(load(save(packed)), POOL), labelled)
    assert torch.equal(POOL, before)


def test_maps_as_targets_keep_their_form() -> None:
    maps = torch.rand(3, 1, 4, 4)
    labelled = LabelledSet.empty(POOL).append(POOL[:3], maps, rows(0, 1, 2), 1, made=False)
    labelled = labelled.append(POOL[4:5], maps[:1], rows(4), 2, made=False)
    assert labelled.targets.shape == (4, 1, 4, 4)
    assert_equal(LabelledSet.unpack(labelled.pack(), POOL), labelled)


@pytest.mark.parametrize("counts", [(5, 5, 5), (9, 3, 3), (15, 0, 0), (7, 1)])
def test_balance_is_the_entropy_that_scipy_gives(counts: tuple[int, ...]) -> None:
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    places = torch.arange(len(targets))
    labelled = LabelledSet.empty(POOL).append(POOL[places], targets, places, 1, made=False)
    wanted = stats.entropy([*counts, 0][:3]) / np.log(3)
    assert labelled.balance(3) == pytest.approx(wanted, abs=1e-12)


def test_maps_have_no_balance() -> None:
    labelled = LabelledSet.empty(POOL).append(POOL[rows(3)], torch.ones(1, 1, 2, 2), rows(3), 1, made=False)
    assert labelled.balance(2) is None
