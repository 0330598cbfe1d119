"""The modified Mooney-Rivlin wall, incompressible and in plane strain (Mo et al. 2020, Appendix A.2, equation 3).

W = c1 (I1 - 3) + D1 [exp(D2 (I1 - 3)) - 1] + p (J - 1) with I1 = tr(F F^T) + 1 for the in-plane F, as the wall neither
stretches along the vessel nor changes its area (J = 1, so that I1 and its unimodular form agree).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .contours import Array
from .settings import Settings

CEILING = 60.0  # cap of the exponent; no wall in equilibrium comes near it, a diverging iterate may


@dataclass(frozen=True)
class Material:
    """W' = dW/dI1 and what follows from it. All moduli and stresses in kPa."""

    c1: float
    D1: float
    D2: float

    @classmethod
    def of(cls, settings: Settings) -> Material:
        return cls(settings.c1, settings.D1, settings.D2)

    @property
    def at_rest(self) -> float:
        """W' of the undeformed wall: half its small-strain shear modulus."""
        return self.c1 + self.D1 * self.D2

    @property
    def stiffens(self) -> bool:
        """Whether there is an exponential term; without it the wall is neo-Hookean."""
        return self.D1 * self.D2 > 0.0

    def slope(self, stretch: Array) -> Array:
        """W' at I1 - 3 = ``stretch``."""
        result: Array = self.c1 + self.D1 * self.D2 * np.exp(np.minimum(self.D2 * stretch, CEILING))
        return result

    def curvature(self, slope: Array) -> Array:
        """W'' where W' is ``slope``."""
        return self.D2 * (slope - self.c1)

    def stretch(self, slope: Array) -> Array:
        """I1 - 3 where W' is ``slope``, for a material that stiffens."""
        result: Array = np.log((slope - self.c1) / (self.D1 * self.D2)) / self.D2
        return result

    def cauchy(self, gradient: Array, pressure: Array) -> Array:
        """True stress [..., 4] (xx, yy, xy, zz) for F [..., 2, 2] and the Lagrange multiplier [...]."""
        (a, b), (c, d) = np.moveaxis(gradient, (-2, -1), (0, 1))
        jacobian = a * d - b * c
        twice = 2.0 * self.slope(a * a + b * b + c * c + d * d - 2.0)
        return np.stack(
            [
                twice * (a * a + b * b) / jacobian + pressure,
                twice * (c * c + d * d) / jacobian + pressure,
                twice * (a * c + b * d) / jacobian,
                twice / jacobian + pressure,
            ],
            axis=-1,
        )


def principal(stress: Array) -> Array:
    """Maximum principal stress of [..., 4]; in plane strain of an incompressible wall it lies in the plane."""
    xx, yy, xy, _ = np.moveaxis(stress, -1, 0)
    result: Array = 0.5 * (xx + yy) + np.hypot(0.5 * (xx - yy), xy)
    return result


def von_mises(stress: Array) -> Array:
    """Von Mises stress of [..., 4], at least 0 whatever the stress."""
    xx, yy, xy, zz = np.moveaxis(stress, -1, 0)
    result: Array = np.sqrt(0.5 * ((xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2) + 3.0 * xy**2)
    return result
