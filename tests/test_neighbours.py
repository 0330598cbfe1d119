"""Nearest free samples against brute force in double precision and scipy's k-d tree."""

import itertools

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from alss_ray.neighbours import FIRST_LOOK, by_torch, nearest, nearest_free, search


def cloud(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def in_turn(codes: np.ndarray, points: np.ndarray, free: np.ndarray) -> list[int]:
    """Brute force: points choose in turn, each the nearest sample that is left, the lower index first."""
    left, chosen = free.copy(), []
    distances = cdist(points.astype(float), codes.astype(float), "sqeuclidean")
    for row in distances:
        if left.any():
            best = int(np.where(left, row, np.inf).argmin())
            chosen.append(best)
            left[best] = False
    return chosen


@pytest.mark.parametrize("dimension", [1, 2, 3, 16])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_search_agrees_with_a_tree(dimension: int, count: int) -> None:
    codes, points = cloud(2000, dimension), 2 * cloud(64, dimension, 1)
    _, expected = cKDTree(codes.astype(float)).query(points.astype(float), k=[*range(1, count + 1)])
    assert np.array_equal(search(codes, points, count), expected)
    assert np.array_equal(nearest(codes, points), expected[:, 0])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("distances", [2**27, 5000], ids=["at once", "in parts"])
def test_torch_finds_what_a_tree_finds(device: str, distances: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    monkeypatch.setattr("alss_ray.neighbours.DISTANCES", distances)
    codes, points = cloud(2000, 3), 2 * cloud(64, 3, 1)
    _, expected = cKDTree(codes).query(points, k=[*range(1, 21)])
    assert np.array_equal(by_torch(codes, points, 20, torch.device(device)), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("count", [1, 40, 3000])
def test_a_gpu_finds_what_a_tree_finds(count: int) -> None:
    torch.cuda.init()
    codes, points = cloud(5000, 3), 2 * cloud(64, 3, 1)
    _, expected = cKDTree(codes.astype(float)).query(points.astype(float), k=[*range(1, count + 1)])
    assert np.array_equal(search(codes, points, count), expected)


@pytest.mark.parametrize("offset", [0.0, 10.0, 300.0])
def test_search_is_exact_far_from_the_origin(offset: float) -> None:
    """|x|^2 + |y|^2 - 2xy in float32 loses all digits here; enough of them must be won back."""
    codes, points = cloud(3000, 3) + np.float32(offset), cloud(50, 3, 1) + np.float32(offset)
    _, expected = cKDTree(codes.astype(float)).query(points.astype(float))
    assert np.array_equal(nearest(codes, points), expected)


@pytest.mark.parametrize("size", [30.0, 1e3, 1e4])
def test_search_is_exact_for_long_steps(size: float) -> None:
    codes, points = cloud(3000, 3), np.float32(size) * cloud(500, 3, 1)
    _, expected = cKDTree(codes.astype(float)).query(points.astype(float))
    assert np.array_equal(nearest(codes, points), expected)


@pytest.mark.parametrize("size", [1e18, 1e19, 1e30])
def test_points_thrown_out_of_range_still_get_real_samples(size: float) -> None:
    """A raw gradient has no bound; the square of its length may not fit float32."""
    codes, points = cloud(60, 2), np.float32(size) * cloud(60, 2, 1)
    assert ((found := nearest(codes, points)) >= 0).all(), found
    every = nearest_free(codes, points, np.ones(60, bool)).indices
    assert sorted(every.tolist()) == list(range(60))


@pytest.mark.parametrize("copies", [3, 30, 300])
def test_ties_go_to_the_lower_index(copies: int) -> None:
    """Small whole numbers: all distances are exact, so ties are ties."""
    grid = np.array([*itertools.product(range(3), repeat=2)], np.float32)
    codes = np.tile(grid, (copies, 1))
    assert np.array_equal(nearest(codes, grid), np.arange(9))
    centre = np.array([[0.5, 0.5]], np.float32)
    four = np.flatnonzero(((codes - centre) ** 2).sum(1) == 0.5)
    assert np.array_equal(search(codes, centre, 12)[0], four[:12])


def test_a_collapsed_embedding_gives_samples_in_their_order() -> None:
    codes = np.zeros((100, 3), np.float32)
    found = nearest_free(codes, np.zeros((40, 3), np.float32), np.ones(100, bool))
    assert found.indices.tolist() == list(range(40))


@pytest.mark.parametrize("share", [1.0, 0.8, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_points_choose_in_turn(share: float, seed: int) -> None:
    codes, points = cloud(3000, 3, seed), cloud(100, 3, seed + 10)
    free = np.random.default_rng(seed).random(3000) < share
    got = nearest_free(codes, points, free)
    assert got.indices.tolist() == in_turn(codes, points, free)
    _, plain = cKDTree(codes.astype(float)).query(points.astype(float))
    assert np.array_equal(got.plain, plain)


@pytest.mark.parametrize("free_share", [0.002, 0.02, 0.2, 1.0])
@pytest.mark.parametrize("crowded", [False, True])
def test_choices_are_distinct_free_and_leave_nothing_nearer(free_share: float, crowded: bool) -> None:
    """Whatever the order of turns: what is left over at the end is nearer to no point than its choice."""
    codes, points = cloud(3000, 3), cloud(200, 3, 1)
    if crowded:
        points = points[:1] + np.float32(1e-3) * points  # all want the same samples
    free = np.random.default_rng(2).random(3000) < free_share
    got = nearest_free(codes, points, free).indices
    assert len(got) == min(len(points), free.sum())
    assert len(set(got.tolist())) == len(got)
    assert free[got].all()
    if len(got) == len(points):
        left = free.copy()
        left[got] = False
        distances = cdist(points.astype(float), codes.astype(float))
        chosen = distances[np.arange(len(points)), got]
        assert (chosen <= distances[:, left].min(1)).all()
    else:
        assert set(got.tolist()) == set(np.flatnonzero(free).tolist())


def test_of_two_points_at_one_place_the_first_gets_the_nearest() -> None:
    codes = np.array([[0.0], [1.0], [2.1], [9.0]], np.float32)
    points = np.array([[1.2], [1.2], [1.2]], np.float32)
    assert nearest_free(codes, points, np.ones(4, bool)).indices.tolist() == [1, 2, 0]


def test_a_taken_sample_is_passed_over_and_counted() -> None:
    codes = np.array([[0.0], [1.0], [2.0]], np.float32)
    got = nearest_free(codes, np.array([[0.1], [1.9]], np.float32), np.array([False, True, True]))
    assert got.indices.tolist() == [1, 2]
    assert got.plain.tolist() == [0, 2]
    assert nearest(codes, np.array([[0.1], [0.2]], np.float32)).tolist() == [0, 0]


@pytest.mark.parametrize("left", [0, 1, 3])
def test_an_exhausted_pool_gives_what_it_has(left: int) -> None:
    codes, points = cloud(50, 2), cloud(7, 2, 1)
    free = np.zeros(50, bool)
    free[10 : 10 + left] = True
    got = nearest_free(codes, points, free)
    assert sorted(got.indices.tolist()) == list(range(10, 10 + left))
    assert got.indices.dtype == np.int64
    assert np.array_equal(got.plain, nearest(codes, points))


@pytest.mark.parametrize("pool", [1, 2, FIRST_LOOK, FIRST_LOOK + 1])
def test_pools_about_the_size_of_the_first_look(pool: int) -> None:
    codes, points = cloud(pool, 2), cloud(pool, 2, 1)
    got = nearest_free(codes, points, np.ones(pool, bool))
    assert sorted(got.indices.tolist()) == list(range(pool))


def test_what_it_is_given_stays_as_it_is() -> None:
    codes, points, free = cloud(100, 3), cloud(30, 3, 1), np.arange(100) % 3 > 0
    before = codes.copy(), points.copy(), free.copy()
    nearest_free(codes, points, free)
    for now, then in zip((codes, points, free), before, strict=True):
        assert np.array_equal(now, then)
