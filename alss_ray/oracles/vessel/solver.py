"""From mask to stress map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .contours import Array, Wall, wall_from_mask
from .dynamics import systole
from .elements import Mesh, State, lumen_area
from .grid import grid_for
from .material import Material, principal, von_mises
from .recovery import Field, gauss_stress, pixel_points, places
from .settings import Refused, Settings
from .statics import equilibrium

# glibc hands freed memory back and asks for it again at every Newton step; up to half the time would be page faults.
# It keeps blocks up to the size of the largest one that it has seen freed: this one, whose pages are never touched.
np.empty(30 << 20, np.uint8)


@dataclass(frozen=True)
class Solution:
    """The stress map of one mask, and what it was made of.

    ``stress`` is float32 in kPa: [H, W], or [3, H, W] with xx, yy, xy for the tensor (x along a row of pixels, y down
    the image). It is the true Cauchy stress, drawn where the material lies in the input image (the unloaded wall), at
    the centre of every pixel whose repaired value is at least 0.5, and 0 elsewhere.
    """

    stress: NDArray[np.float32]
    repairs: tuple[str, ...]
    wall: Wall
    nodes: Array  # [2 * around, 2 * across + 1, 2] mm, unloaded
    displacement: Array  # the same shape, mm, without rigid motion
    gauss_stress: (
        Array  # [2 * around, 2 * across, 4] kPa: xx, yy, xy, zz at the 2 x 2 Gauss points of the elements
    )
    newton_iterations: tuple[int, ...]  # on each mesh, coarse to fine
    residual: float  # largest out-of-balance nodal force over the largest nodal load
    lumen_area: float  # mm^2, unloaded
    loaded_lumen_area: float  # mm^2, under the pressure


def solve(mask: NDArray[np.generic], spacing: float, settings: Settings | None = None) -> Solution:
    """The stress map of a vessel wall under blood pressure (Mo et al. 2020, Appendix A.2).

    ``mask`` [H, W] is bool, uint8 (0..255) or float (0..1), sides 32 to 1024; grey values are pixel shares and their
    0.5 level is the border. ``spacing`` is the side of a pixel in mm. The mask is taken as the unloaded wall.

    Raises Refused, with its reason, for a mask that cannot be labelled, and ValueError for a spacing that is not a
    positive number.
    """
    settings = settings or Settings()
    if not (math.isfinite(spacing) and spacing > 0):
        raise ValueError(f"spacing is {spacing}, it must be a positive number of mm")
    wall = wall_from_mask(mask, spacing, settings.harmonics)
    grid = grid_for(wall, settings)
    material = Material.of(settings)
    meshes = grid.meshes(settings)
    for around, across in meshes:
        nodes = grid.nodes(2 * around, 2 * across)
        try:
            found = (
                equilibrium(nodes, material, settings.pressure)
                if settings.beat is None
                else systole(nodes, material, settings.pressure, settings.beat)
            )
            break
        except Refused:
            if (around, across) == meshes[-1]:
                raise
    mesh = Mesh(nodes)
    state, rotation = _without_rigid_motion(mesh, found.state)
    stress = _rotated(gauss_stress(mesh, found.state, material), rotation)
    return Solution(
        stress=_map(mesh, stress, wall, spacing, settings),
        repairs=wall.repairs,
        wall=wall,
        nodes=nodes,
        displacement=state.u,
        gauss_stress=stress,
        newton_iterations=found.iterations,
        residual=found.residual,
        lumen_area=lumen_area(mesh, np.zeros_like(nodes)),
        loaded_lumen_area=lumen_area(mesh, state.u),
    )


def _map(mesh: Mesh, stress: Array, wall: Wall, spacing: float, settings: Settings) -> NDArray[np.float32]:
    values = Field(mesh, stress)(places(mesh, pixel_points(wall.inside, spacing)))
    if settings.quantity == "tensor":
        result = np.zeros((3, *wall.inside.shape), dtype=np.float32)
        result[:, wall.inside] = values[:, :3].T
        return result
    result = np.zeros(wall.inside.shape, dtype=np.float32)
    result[wall.inside] = principal(values) if settings.quantity == "principal" else von_mises(values)
    return result


def _without_rigid_motion(mesh: Mesh, state: State) -> tuple[State, Array]:
    """Turn and shift the deformed wall to where it lies closest to the unloaded one; the state and the turn [2, 2].

    The load leaves rigid motions free; this choice depends on no node, so that the map turns with the mask.
    """
    weight = np.zeros(mesh.nodes.shape[:2])
    np.add.at(weight.reshape(-1), mesh.index, (mesh.area / 9.0)[:, None])
    weight = weight[..., None] / weight.sum()
    before, after = mesh.nodes, mesh.nodes + state.u
    middle, middle_after = (weight * before).sum((0, 1)), (weight * after).sum((0, 1))
    cross = np.einsum("ijk,ijl->kl", weight * (after - middle_after), before - middle)
    angle = math.atan2(cross[0, 1] - cross[1, 0], cross[0, 0] + cross[1, 1])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return State((after - middle_after) @ turn.T + middle - before, state.p, state.s), turn


def _rotated(stress: Array, turn: Array) -> Array:
    """Stress [..., 4] (xx, yy, xy, zz) after turning the body by ``turn``."""
    xx, yy, xy, zz = np.moveaxis(stress, -1, 0)
    (c, _), (s, _) = turn
    return np.stack(
        [
            c * c * xx - 2 * c * s * xy + s * s * yy,
            s * s * xx + 2 * c * s * xy + c * c * yy,
            c * s * (xx - yy) + (c * c - s * s) * xy,
            zz,
        ],
        axis=-1,
    )
