"""Seeded synthetic vessel-wall masks: coronary cross-sections as intravascular ultrasound shows them.

`make_phantoms()` gives 1,200 slices of 64 x 64 pixels: 40 pullbacks ("vessels") of 30 neighbouring slices,
0.5 mm apart, that change smoothly along the vessel. A grey value is the share of the pixel's area that lies
in the wall, between the lumen and the external elastic membrane (EEM), times 255; half of it is the contour.
Hold whole vessels out for a test (`vessel >= 33`: 990 slices to learn from, 210 to test); by slice, it leaks.

Geometry and raster are separate: slice s of vessel k of a seed is the same whatever the count, the length and
the side; the field of view is always 7.68 mm (0.12 mm a pixel at 64, 0.015 at 512), and the contours come
along in mm. The raster is the exact area coverage of their 256-gons (1 micrometre off the smooth curves).

Ranges, and where they come from:

- Vessel size: normal lumen diameters are 4.5 +- 0.5 mm (left main), 3.7 +- 0.4 (proximal LAD), 1.9 +- 0.4
  (distal LAD) (Dodge et al., Circulation 1992;86:232), so areas of 16, 11 and 2.8 mm2. EEM area away from the
  lesion 8-20 mm2: chosen, proximal and middle segments with their wall; distal ones would get too few pixels.
- Wall: normal media about 0.2 mm, normal intima under 0.3 mm (textbook values). Smallest wall 0.31 mm:
  chosen, 2.6 pixels at 64 x 64; thinner normal walls are missing, and burdens under about 0.26 do not occur.
- Plaque burden (EEM - lumen) / EEM area, mild vessels 0.25-0.62: angiographically mild segments were narrowed
  by 36 +- 20 % of their area, range 0-80 (Porter et al., J Am Coll Cardiol 1993;22:1858). Severe peaks
  0.72-0.84: significant stenoses had 73 +- 7 and 78 +- 6 % (Surmely et al., Heart 2007;93:928); 70 % or more,
  or a lumen of 4 mm2 or less, marked lesions with later events (PROSPECT; Stone et al., N Engl J Med
  2011;364:226). Smallest lumen aimed at 2 mm2: chosen, as a catheter of about 1 mm must pass.
- Remodelling: EEM area x 0.92-1.20 at a lesion: chosen. Vessels grow with their plaque, the lumen shrinks
  only beyond a burden of about 40 % (Glagov et al., N Engl J Med 1987;316:1371).
- Eccentricity index, largest / smallest wall: 3 or more in 46 % of 1,446 stenoses (Mintz et al., Circulation
  1996;93:924). The lumen's offset is drawn between centred and touching the smallest wall (chosen): 1.2 to 9,
  3 or more in a sixth of the slices, as most of them are no stenoses.
- Ellipticity (largest - smallest) / largest diameter, the ACC consensus document's lumen eccentricity (Mintz
  et al., J Am Coll Cardiol 2001;37:1478). Its ranges (EEM to 0.15, lumen to 0.5), Fourier borders, bends,
  cavities, shares of the kinds, rates of change along the vessel: chosen.

Kinds of vessel: mild 65 %; severe 15 % (narrow, eccentric lumen); crescent 12 % (a plaque bulges into the
lumen, which bends around it until no point sees all of its border); irregular 8 % (lobed border, cavity as
after a rupture). A lesion fills a part of its vessel only, so hard slices are rarer than hard vessels. Kinds
and sizes follow low-discrepancy sequences, so that any seven neighbouring vessels get their share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Range = tuple[float, float]

FIELD_MM = 7.68  # width of every image
SLICE_MM = 0.5  # distance of neighbouring slices along a pullback
MIN_WALL_MM = 0.31
MIN_LUMEN_MM2 = 2.0  # aimed at; a shape that does not fit is shrunk a little further
EEM_MM2: Range = (8.0, 20.0)  # away from the lesion
REMODELLING: Range = (-0.08, 0.20)  # growth of the EEM area at the lesion
EEM_MODES = (0.08, 0.03, 0.015)  # largest Fourier amplitudes 2, 3, 4 of the EEM's radius
REACH_MM = 3.55  # no wall further than this from the middle of the image: 2.4 pixels of margin at 64
POINTS = 256  # vertices of a contour
_LUMEN_MODES = np.arange(2, 8)
_PLACED_WALL_MM = 0.322  # asked of the coarse contours that place the lumen: the fine ones keep MIN_WALL_MM


@dataclass(frozen=True)
class Kind:
    """What sort of vessel, and the ranges that its parameters are drawn from."""

    name: str
    share: float  # of all vessels
    burden: Range  # plaque burden aimed at away from the lesion
    peak_burden: Range  # and at the lesion
    offset: Range  # of the lumen: 0 centred, 1 touching the smallest wall
    aspect: Range  # length over width of the lumen at the lesion, before it is bent
    bend: Range  # half the angle (rad) by which the lumen bends around the plaque at the lesion
    border: Range  # amplitude of the lumen's Fourier modes at the lesion, in units of the relative wall
    cavity: Range  # height of a local cavity in the lumen's border, in units of its radius
    tilt: float  # largest angle (rad) between the lumen's width and the plaque


KINDS = (  # name, share, burden, peak burden, offset, aspect, bend, border, cavity, tilt
    Kind("mild", 0.65, (0.25, 0.45), (0.38, 0.62), (0.1, 1), (1, 1.3), (0, 0.3), (0.1, 0.6), (0, 0), 1.6),
    Kind("severe", 0.15, (0.32, 0.5), (0.72, 0.84), (0.6, 1), (1, 1.6), (0, 0.6), (0.1, 0.5), (0, 0.1), 0.8),
    Kind("crescent", 0.12, (0.3, 0.5), (0.62, 0.76), (0.5, 1), (3, 4.4), (2, 2.5), (0, 0.1), (0, 0), 0.3),
    Kind("irregular", 0.08, (0.3, 0.5), (0.5, 0.7), (0.2, 1), (1, 1.6), (0, 0.4), (0.6, 0.9), (0.2, 0.5), 2),
)


@dataclass(frozen=True)
class Phantoms:
    """N cross-sections; contours and positions in mm from the middle of the image, x to the right, y down."""

    images: NDArray[np.uint8]  # [N, 1, side, side], wall coverage
    vessel: Ints  # [N], which vessel (pullback) a slice belongs to
    slice: Ints  # [N], position along the pullback
    spacing: float  # mm a pixel
    outer: Floats  # [N, 256, 2], contour of the external elastic membrane
    lumen: Floats  # [N, 256, 2], contour of the lumen
    kind: Ints  # [N], index into KINDS, the same for all slices of a vessel
    vessel_area: Floats  # [N], mm2 inside the external elastic membrane
    lumen_area: Floats  # [N], mm2
    burden: Floats  # [N], 1 - lumen_area / vessel_area
    min_wall: Floats  # [N], mm
    max_wall: Floats  # [N], mm
    eccentricity: Floats  # [N], max_wall / min_wall
    vessel_ellipticity: Floats  # [N], 1 - smallest / largest diameter of the external elastic membrane
    lumen_ellipticity: Floats  # [N], the same of the lumen


def make_phantoms(
    count: int = 1200, slices_per_vessel: int = 30, side: int = 64, seed: int = 0, independent: bool = False
) -> Phantoms:
    """The first `count` slices of a seed's vessels; if `independent`, one slice each of `count` vessels."""
    if min(count, slices_per_vessel, side) < 1:
        raise ValueError(f"must be positive: {count=}, {slices_per_vessel=}, {side=}")
    vessel, place = np.divmod(np.arange(count), slices_per_vessel)
    if independent:  # any place along each: the slice that its pullback has there
        vessel = np.arange(count)
        place = np.array([int(_stream(seed, 2, k).random() * slices_per_vessel) for k in range(count)])
    courses = [_course(seed, int(k), place[vessel == k]) for k in np.unique(vessel)]
    course = {name: np.concatenate([c[name] for c in courses]) for name in courses[0]}
    parts = []
    for chunk in np.array_split(np.arange(count), -(-count // 32)):  # small enough for the cache
        outer, lumen = _contours({name: values[chunk] for name, values in course.items()})
        gap = np.sqrt(_squares(outer, lumen).min(2))  # from each point of the outer contour to the lumen
        parts.append((outer, lumen, gap.min(1), gap.max(1)))
    outer, lumen, min_wall, max_wall = (np.concatenate(part) for part in zip(*parts, strict=True))
    vessel_area, lumen_area = _area(outer), _area(lumen)
    return Phantoms(
        images=rasterise(outer, lumen, side)[:, None],
        vessel=vessel.astype(np.int64),
        slice=place.astype(np.int64),
        spacing=FIELD_MM / side,
        outer=outer,
        lumen=lumen,
        kind=course["kind"].astype(np.int64),
        vessel_area=vessel_area,
        lumen_area=lumen_area,
        burden=1 - lumen_area / vessel_area,
        min_wall=min_wall,
        max_wall=max_wall,
        eccentricity=max_wall / min_wall,
        vessel_ellipticity=_ellipticity(outer),
        lumen_ellipticity=_ellipticity(lumen),
    )


def rasterise(outer: Floats, lumen: Floats, side: int) -> NDArray[np.uint8]:
    """uint8 [N, side, side]: the share of each pixel between contours [N, P, 2] in mm, in 1/255."""
    images = np.empty((len(outer), side, side), np.uint8)
    step = max(1, 2**21 // side**2)
    for start in range(0, len(outer), step):
        part = slice(start, start + step)
        cover = _coverage(outer[part], side) - _coverage(lumen[part], side)
        images[part] = np.rint(255 * np.clip(cover, 0, 1))
    return images


def _coverage(polygons: Floats, side: int) -> Floats:
    """Exact area coverage [N, side, side] of polygons [N, P, 2], by sums of signed areas along the rows."""
    corners = polygons * (side / FIELD_MM) + side / 2  # in pixels
    edges = np.roll(corners, -1, 1) - corners
    pieces = int(np.abs(edges).max()) + 2  # shorter than a pixel: one row and column crossed at most
    a = corners[:, :, None] + edges[:, :, None] * (np.arange(pieces) / pieces)[:, None]
    a = a.reshape(len(polygons), -1, 2)
    b = np.roll(a, -1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cuts = (np.maximum(np.floor(a), np.floor(b)) - a) / (b - a)
    cuts = np.sort(np.where((cuts > 0) & (cuts < 1), cuts, 0.0), axis=-1)
    ends = np.stack([np.zeros(cuts.shape[:2]), cuts[..., 0], cuts[..., 1], np.ones(cuts.shape[:2])], -1)
    points = a[:, :, None] + ends[..., None] * (b - a)[:, :, None]
    middle = (points[:, :, 1:] + points[:, :, :-1]) / 2  # of a segment that lies in one pixel
    rise = points[:, :, 1:, 1] - points[:, :, :-1, 1]
    pixel = np.floor(middle).astype(np.int64)
    right = (middle[..., 0] - pixel[..., 0]) * rise
    image = np.arange(len(polygons))[:, None, None]
    cell = ((image * side + pixel[..., 1]) * (side + 1) + pixel[..., 0]).ravel()
    size = len(polygons) * side * (side + 1)
    jumps = np.bincount(cell, (right - rise).ravel(), size) - np.bincount(cell + 1, right.ravel(), size)
    return np.asarray(-np.cumsum(-jumps.reshape(-1, side, side + 1), axis=2)[..., :side])


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def _course(seed: int, vessel: int, place: Ints) -> dict[str, NDArray[Any]]:
    """The parameters of one vessel at places [S] along its pullback, as smooth functions of the place."""
    start = _stream(seed, 0).random(2)
    rank, size = (start + vessel * np.array([(5**0.5 - 1) / 2, 2**0.5])) % 1
    number = min(int(np.searchsorted(np.cumsum([k.share for k in KINDS]), rank, "right")), len(KINDS) - 1)
    kind, rng, z = KINDS[number], _stream(seed, 1, vessel), place * SLICE_MM

    def pick(low: float, high: float) -> float:
        return low + (high - low) * float(rng.random())

    def wave() -> Floats:  # between -1 and 1
        slow, fast = (np.sin(2 * np.pi * (z / pick(*period) + pick(0, 1))) for period in ((14, 28), (8, 14)))
        return np.asarray(0.7 * slow + 0.3 * fast)

    def turning(sway: float) -> NDArray[np.complex128]:  # of length one
        return np.asarray(np.exp(1j * (pick(-np.pi, np.pi) + sway * wave())))

    lesion = np.exp(pick(0.6, 2.4) * (np.cos(2 * np.pi * (z / pick(14, 20) - pick(0, 1))) - 1))  # 0 to 1
    apart = 1 - lesion
    area = (EEM_MM2[0] + size * (EEM_MM2[1] - EEM_MM2[0])) * (1 + 0.06 * wave())
    area = area * (1 + pick(*REMODELLING) * lesion)
    eem = np.stack([pick(0.1, 1) * top * (0.8 + 0.2 * wave()) * turning(0.5) for top in EEM_MODES], 1)
    radius = np.sqrt(area / np.pi / (1 + (np.abs(eem) ** 2).sum(1) / 2))
    room = np.minimum(0.5, REACH_MM - radius * (1 + np.abs(eem).sum(1)))
    burden = apart * pick(*kind.burden) + lesion * pick(*kind.peak_burden) + 0.03 * wave()
    burden = np.minimum(burden, 1 - MIN_LUMEN_MM2 / area)
    strength = (0.15 * apart + lesion * pick(*kind.border)) * (1 - np.sqrt(1 - burden))
    border = np.stack([pick(0.2, 1) / n * turning(0.4) * (1 + 0.3 * wave()) for n in _LUMEN_MODES], 1)
    return {
        "kind": np.full(len(z), number),
        "centre": room * (wave() + 1j * wave()) / 2**0.5,
        "radius": radius,
        "eem": eem,
        "scale": np.sqrt(1 - burden),
        "offset": np.clip(pick(*kind.offset) + 0.2 * wave(), 0, 1),
        "plaque": turning(0.5),
        "tilt": np.exp(1j * kind.tilt * (pick(-0.8, 0.8) + 0.2 * wave())),
        "aspect": apart * pick(1, 1.15) + lesion * pick(*kind.aspect),
        "bend": pick(*kind.bend) * np.sqrt(lesion),
        "border": border * strength[:, None],
        "cavity": pick(*kind.cavity) * lesion,
        "cavity_at": turning(0.3),
    }


def _contours(course: dict[str, NDArray[Any]]) -> tuple[Floats, Floats]:
    """Contours (outer, lumen), each [S, 256, 2]: the lumen as large as wanted and allowed by the wall.

    The lumen is made in the unit disc: an ellipse with Fourier modes and a cavity, bent around the plaque,
    turned, scaled, shifted. A polynomial maps the disc onto the vessel, whose outline the lumen so follows.
    """
    centre, plaque = course["centre"][:, None], course["plaque"][:, None]
    turn = np.exp(2j * np.pi * np.arange(POINTS) / POINTS)
    border = 1 + sum(np.real(course["border"][:, [i]] * turn**n) for i, n in enumerate(_LUMEN_MODES))
    near = np.real(turn * course["cavity_at"][:, None]) - 1
    border = border + course["cavity"][:, None] * np.exp(8 * near)
    length = np.sqrt(course["aspect"])[:, None]
    u, v = border * turn.real * length, border * turn.imag / length
    bend = course["bend"][:, None] / length
    x = (1 - bend * v) * u * np.sinc(bend * u / np.pi)
    y = v * np.cos(bend * u) + bend * u**2 / 2 * np.sinc(bend * u / 2 / np.pi) ** 2
    x, y = (c - (c.max(1, keepdims=True) + c.min(1, keepdims=True)) / 2 for c in (x, y))
    shape = (x + 1j * y) * np.sqrt(np.pi / _area(np.stack([x, y], -1)))[:, None]
    shape = shape * course["tilt"][:, None] * plaque / 1j  # the plaque lies where the shape's y points

    def to_vessel(disc: NDArray[np.complex128]) -> NDArray[np.complex128]:
        growth = sum(np.real(course["eem"][:, [i]] * disc**n) for i, n in enumerate((2, 3, 4)))
        return np.asarray(centre + course["radius"][:, None] * disc * (1 + growth))

    outer = to_vessel(np.broadcast_to(turn, shape.shape))

    def fits(scale: Floats, shift: Floats) -> NDArray[np.bool_]:
        disc = scale[:, None] * shape[:, ::2] - shift[:, None] * plaque
        gap = np.sqrt(_squares(_xy(outer[:, ::2]), _xy(to_vessel(disc))).min((1, 2)))
        return np.asarray((np.abs(disc).max(1) < 1) & (gap > _PLACED_WALL_MM))

    none = np.zeros(len(shape))
    scale = _largest(lambda s: fits(s, none), none + 0.1, course["scale"])
    shift = _largest(lambda s: fits(scale, s), none, none + 0.9) * course["offset"]
    scale = _largest(lambda s: fits(s, shift), none + 0.1, scale)
    return _xy(outer), _xy(to_vessel(scale[:, None] * shape - shift[:, None] * plaque))


def _largest(fits: Callable[[Floats], NDArray[np.bool_]], low: Floats, high: Floats) -> Floats:
    """By bisection, for each slice: the largest value under `high` that fits, where `low` does."""
    for _ in range(11):
        middle = (low + high) / 2
        good = fits(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return low


def _xy(points: NDArray[np.complex128]) -> Floats:
    return np.stack([points.real, points.imag], -1)


def _squares(a: Floats, b: Floats) -> Floats:
    """Squared distances [S, P, Q] between points [S, P, 2] and [S, Q, 2]."""
    square = np.asarray((a[:, :, None, 0] - b[:, None, :, 0]) ** 2)
    square += (a[:, :, None, 1] - b[:, None, :, 1]) ** 2
    return square


def _area(polygon: Floats) -> Floats:
    after = np.roll(polygon, -1, 1)
    return np.asarray((polygon[..., 0] * after[..., 1] - polygon[..., 1] * after[..., 0]).sum(1) / 2)


def _ellipticity(polygon: Floats) -> Floats:
    angles = np.pi * np.arange(48) / 48
    along = polygon @ np.stack([np.cos(angles), np.sin(angles)])
    widths = along.max(1) - along.min(1)
    return np.asarray(1 - widths.min(1) / widths.max(1))
