"""Search spaces: what they hold, what is nearest in them, and that points drawn lie in them."""

import math
import random

import pytest

from alss_ray.space import Choice, Float, Int, clipped, corners, draw, holds

SPACE = {"n": Int(2, 8, log=True), "alpha": Float(0.1, 10.0, log=True), "J": Choice((5, 10, 20))}


@pytest.mark.parametrize(
    ("part", "value", "nearest"),
    [
        (Int(2, 8), 3, 3),
        (Int(4, 8), 3, 4),
        (Float(0.1, 0.5), 1.0, 0.5),
        (Float(0.1, 5.0), 1.0, 1.0),
        (Choice((5, 10, 20)), 20, 20),
        (Choice((5, 10, 20)), 17, 20),
        (Choice(("random", "none")), "gradient", "random"),
    ],
)
def test_what_is_nearest(part: Int | Float | Choice, value: object, nearest: object) -> None:
    assert clipped(part, value) == nearest  # type: ignore[arg-type]
    assert holds(part, nearest)  # type: ignore[arg-type]


def test_a_whole_number_is_no_truth_value_and_no_fraction() -> None:
    assert not holds(Int(0, 1), True)
    assert not holds(Int(0, 3), 1.5)
    assert holds(Float(0, 3), 1)


def test_validation_looks_at_every_choice_and_both_ends() -> None:
    looked_at = {name: {point[name] for point in corners(SPACE)} for name in SPACE}
    assert looked_at == {"n": {2, 8}, "alpha": {0.1, 10.0}, "J": {5, 10, 20}}


def test_points_at_random_lie_in_the_space_on_its_scale() -> None:
    chance = random.Random(0)
    points = [draw(SPACE, chance) for _ in range(4000)]
    assert all(holds(SPACE[name], value) for point in points for name, value in point.items())
    logs = [math.log10(point["alpha"]) for point in points]  # type: ignore[arg-type]
    assert sum(logs) / len(logs) == pytest.approx(0.0, abs=0.05)  # uniform on [-1, 1]: sd of the mean 0.009
    assert {point["n"] for point in points} == set(range(2, 9))
