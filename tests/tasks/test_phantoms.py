"""Vessel-wall phantoms: what every mask must be, how a pullback changes, and how rare the hard cases are."""

from dataclasses import fields

import numpy as np
import pytest
from matplotlib.path import Path
from scipy import ndimage
from scipy.optimize import linprog
from scipy.spatial import KDTree

from alss_ray.tasks.phantoms import FIELD_MM, KINDS, MIN_WALL_MM, Phantoms, make_phantoms, rasterise

ARRAYS = [field.name for field in fields(Phantoms) if field.name != "spacing"]


@pytest.fixture(scope="module")
def pullbacks() -> Phantoms:
    return make_phantoms()


@pytest.fixture(scope="module")
def single() -> Phantoms:
    return make_phantoms(count=300, seed=4, independent=True)


def dense(polygons: np.ndarray, times: int = 8) -> np.ndarray:
    """The polygons [N, P, 2] with `times` points on every edge."""
    steps = np.arange(times) / times
    edges = np.roll(polygons, -1, 1) - polygons
    return (polygons[:, :, None] + edges[:, :, None] * steps[:, None]).reshape(len(polygons), -1, 2)


def sees_all(polygon: np.ndarray) -> bool:
    """Whether a point of the polygon sees all of its border, by a linear programme over the half-planes."""
    edges = np.roll(polygon, -1, 0) - polygon
    normals = np.stack([edges[:, 1], -edges[:, 0]], 1) / np.linalg.norm(edges, axis=1, keepdims=True)
    sides = np.column_stack([normals, np.ones(len(polygon))])
    free = [(None, None), (None, None), (None, 1)]  # a point, and its distance to the nearest edge's line
    best = linprog([0, 0, -1], A_ub=sides, b_ub=(normals * polygon).sum(1), bounds=free)
    return bool(best.x[2] > 0)


def test_counts_shapes_and_types(pullbacks):
    assert pullbacks.images.shape == (1200, 1, 64, 64)
    assert pullbacks.images.dtype == np.uint8
    assert pullbacks.images.min() == 0
    assert pullbacks.images.max() == 255
    assert pullbacks.spacing == pytest.approx(0.12)
    assert all(len(getattr(pullbacks, name)) == 1200 for name in ARRAYS)
    for name in ("vessel", "slice", "kind"):
        assert getattr(pullbacks, name).dtype == np.int64
    assert (np.bincount(pullbacks.vessel) == 30).all()
    assert pullbacks.vessel.max() == 39
    np.testing.assert_array_equal(pullbacks.slice, np.tile(np.arange(30), 40))
    assert (pullbacks.vessel < 33).sum() == 990


def test_the_same_seed_gives_the_same_and_another_seed_others(pullbacks):
    again, other = make_phantoms(), make_phantoms(count=60, seed=1)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(pullbacks, name))
    assert np.abs(again.images[:60].astype(int) - other.images).mean() > 5


def test_a_vessel_does_not_depend_on_count_length_or_side(pullbacks):
    first = make_phantoms(count=60)
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(first, name), getattr(pullbacks, name)[:60], rtol=0, atol=1e-9)
    short = make_phantoms(count=35, slices_per_vessel=10, side=32)
    rows = short.vessel * 30 + short.slice
    np.testing.assert_allclose(short.outer, pullbacks.outer[rows], rtol=0, atol=1e-9)
    np.testing.assert_allclose(short.lumen, pullbacks.lumen[rows], rtol=0, atol=1e-9)
    long = make_phantoms(count=40, slices_per_vessel=40)
    np.testing.assert_allclose(long.outer[:30], pullbacks.outer[:30], rtol=0, atol=1e-9)
    assert np.abs(long.lumen[39] - long.lumen[29]).max() > 0.1


def test_independent_slices_come_from_as_many_vessels(single):
    np.testing.assert_array_equal(single.vessel, np.arange(300))
    assert set(single.slice) == set(range(30))
    from_pullbacks = make_phantoms(count=90, seed=4)
    for k in range(3):
        row = 30 * k + single.slice[k]
        np.testing.assert_allclose(single.lumen[k], from_pullbacks.lumen[row], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["pullbacks", "single"])
def test_one_ring_around_one_lumen(name, request):
    around = np.ones((3, 3))
    for image in request.getfixturevalue(name).images[:, 0]:
        wall = image >= 128
        assert ndimage.label(wall)[1] == 1
        holes, count = ndimage.label(~wall, around)  # diagonal steps too: a wall open at a corner is no ring
        assert count == 2
        assert holes[0, 0] != holes[tuple(np.argwhere(holes * (holes != holes[0, 0]))[0])]
        assert ndimage.label(~wall)[1] == 2  # and no pixel hangs on by a corner only


@pytest.mark.parametrize("name", ["pullbacks", "single"])
def test_two_pixels_of_margin(name, request):
    extent = request.getfixturevalue(name).images[:, 0].max(0)
    assert extent[2:-2, 2:-2].sum() == extent.sum()


@pytest.mark.parametrize("name", ["pullbacks", "single"])
def test_the_wall_is_nowhere_thinner_than_stated(name, request):
    phantoms = request.getfixturevalue(name)
    assert MIN_WALL_MM / make_phantoms(1).spacing > 2.5
    assert phantoms.min_wall.min() >= MIN_WALL_MM
    for outer, lumen in zip(dense(phantoms.outer), dense(phantoms.lumen), strict=True):
        assert KDTree(lumen).query(outer)[0].min() >= MIN_WALL_MM


def test_no_tongue_of_wall_is_thin_either(pullbacks):
    """What a disc of 2.5 pixels does not reach is next to nothing, and the ring holds without it."""
    rows = np.flatnonzero(pullbacks.kind >= 2)[::5]
    radius = 1.25 * 8 - 1
    for image in rasterise(pullbacks.outer[rows], pullbacks.lumen[rows], 512):
        wall = image >= 128
        core = ndimage.distance_transform_edt(wall) > radius
        opened = ndimage.distance_transform_edt(~core) <= radius
        assert (wall & ~opened).sum() < 0.01 * wall.sum()
        assert ndimage.label(core)[1] == 1
        assert ndimage.label(~core, np.ones((3, 3)))[1] == 2


def test_stated_walls_are_those_of_the_raster(pullbacks):
    rows = np.concatenate([np.arange(0, 1200, 75), np.argsort(pullbacks.max_wall)[-4:]])
    for row, image in zip(rows, rasterise(pullbacks.outer[rows], pullbacks.lumen[rows], 512), strict=True):
        holes = ndimage.label(image < 128)[0]
        inside = (image < 128) & (holes != holes[0, 0])
        outside = holes == holes[0, 0]
        rim = ndimage.binary_dilation(outside) & ~outside
        wall = ndimage.distance_transform_edt(~inside)[rim] * FIELD_MM / 512
        assert wall.min() == pytest.approx(pullbacks.min_wall[row], abs=0.02)
        assert wall.max() == pytest.approx(pullbacks.max_wall[row], abs=0.02)


def test_the_raster_has_the_area_of_the_contours(pullbacks):
    area = pullbacks.images.sum((1, 2, 3)) / 255 * pullbacks.spacing**2
    np.testing.assert_allclose(area, pullbacks.vessel_area - pullbacks.lumen_area, atol=0.005)
    np.testing.assert_allclose(pullbacks.burden, 1 - pullbacks.lumen_area / pullbacks.vessel_area)


def test_the_raster_is_exact():
    """A rectangle with known shares of every pixel, and a ring against 4,096 samples a pixel."""
    box = np.array([[[-1.5, -1.0], [1.25, -1.0], [1.25, 0.5], [-1.5, 0.5]]]) * FIELD_MM / 8
    hole = np.array([[[-0.5, -0.5], [0.5, -0.5], [0.5, 0.0], [-0.5, 0.0]]]) * FIELD_MM / 8
    x, y = np.array([0, 0, 0.5, 1, 1, 0.25, 0, 0]), np.array([0, 0, 0, 1, 0.5, 0, 0, 0])
    share = np.outer(y, x)
    share[3, 3] = share[3, 4] = 0.75
    np.testing.assert_array_equal(rasterise(box, hole, 8)[0], np.rint(255 * share))
    phantom = make_phantoms(1, seed=3)
    at = ((np.arange(16 * 64) + 0.5) / (16 * 64) - 0.5) * FIELD_MM
    grid = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
    wall = Path(phantom.outer[0]).contains_points(grid) & ~Path(phantom.lumen[0]).contains_points(grid)
    sampled = wall.reshape(16, 64, 16, 64).mean((1, 3)) * 255
    np.testing.assert_allclose(rasterise(phantom.outer, phantom.lumen, 16)[0], sampled, atol=2)


def test_512_pixels_show_the_same_vessels(pullbacks):
    rows = np.arange(0, 60, 7)
    large = make_phantoms(count=60, side=512)
    assert large.images.shape == (60, 1, 512, 512)
    assert large.spacing == pytest.approx(0.015)
    mean = large.images[rows, 0].reshape(-1, 64, 8, 64, 8).mean((2, 4))
    np.testing.assert_allclose(mean, pullbacks.images[rows, 0], atol=1)


def test_a_pullback_changes_smoothly(pullbacks):
    images = pullbacks.images[:, 0].reshape(40, 30, 64 * 64).astype(float)
    steps = np.abs(np.diff(images, axis=1)).mean(2)
    middles = images[:, 15]
    between = np.abs(middles[:, None] - middles[None]).mean(2)[np.triu_indices(40, 1)]
    assert steps.mean() < 0.25 * between.mean()
    assert steps.max() < 0.5 * between.mean()
    assert steps.min() > 0  # and no slice is a copy of its neighbour
    for name, most in (
        ("outer", 0.2),
        ("lumen", 0.5),
    ):  # mm that any point of a contour moves in a step of 0.5 mm
        contours = getattr(pullbacks, name).reshape(40, 30, -1, 2)
        assert np.linalg.norm(np.diff(contours, axis=1), axis=3).max() < most
    assert np.abs(np.diff(pullbacks.burden.reshape(40, 30), axis=1)).max() < 0.12


def test_geometry_stays_in_the_stated_ranges(pullbacks):
    def within(values, low, high):
        return low <= values.min() and values.max() <= high

    assert within(pullbacks.vessel_area, 7, 25.5)
    assert within(pullbacks.lumen_area, 1.8, 18)
    assert within(pullbacks.burden, 0.22, 0.88)
    assert within(pullbacks.eccentricity, 1, 9)
    assert within(pullbacks.vessel_ellipticity, 0, 0.2)
    assert within(pullbacks.lumen_ellipticity, 0, 0.55)
    assert pullbacks.vessel_area.std() > 2.5
    assert pullbacks.eccentricity.std() > 0.7


@pytest.mark.parametrize("seed", [0, 1])
def test_most_slices_are_mild_and_the_rare_cases_are_there(seed):
    phantoms = make_phantoms(seed=seed)
    severe = phantoms.burden >= 0.7
    assert 0.015 < severe.mean() < 0.08
    assert 0.08 < (phantoms.eccentricity >= 3).mean() < 0.3
    assert (phantoms.burden < 0.55).mean() > 0.7
    crescents = np.flatnonzero(phantoms.kind == [kind.name for kind in KINDS].index("crescent"))
    hidden = sum(not sees_all(phantoms.lumen[row, ::2]) for row in crescents)
    assert 0.005 < hidden / 1200 < 0.05
    mild = phantoms.lumen[phantoms.kind == 0][::25]
    assert all(sees_all(lumen) for lumen in mild)
    kinds = phantoms.kind[::30]
    assert (np.abs(np.bincount(kinds) / 40 - [kind.share for kind in KINDS]) < 0.04).all()
    assert all(0 < (kinds[k : k + 7] > 0).sum() < 5 for k in range(34))  # any seven vessels: a fair test set
    assert len(set(kinds[:33])) == len(KINDS)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"slices_per_vessel": 0}, {"side": -1}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="must be positive"):
        make_phantoms(**wrong)
