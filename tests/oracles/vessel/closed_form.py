"""Stress of a long thick tube under internal pressure, from one integral; independent of the package."""

from __future__ import annotations

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq

C1, D1, D2 = 0.138, 3.833, 18.803  # Mo et al. 2020, Appendix A.2


def hoop_minus_radial(radius: float, c: float) -> float:
    """Difference of the principal Cauchy stresses in kPa at unloaded radius R, where r^2 = R^2 + c."""
    square = (radius**2 + c) / radius**2
    slope = C1 + D1 * D2 * np.exp(D2 * (square + 1.0 / square - 2.0))
    return 2.0 * slope * (square - 1.0 / square)


def radial(radius: float, outer: float, c: float) -> float:
    """Radial Cauchy stress in kPa at unloaded radius R; 0 on the outer border."""
    return -quad(lambda x: hoop_minus_radial(x, c) * x / (x**2 + c), radius, outer, epsabs=1e-12)[0]


def constant(inner: float, outer: float, pressure: float) -> float:
    """c in mm^2 of r^2 = R^2 + c."""
    return brentq(lambda c: radial(inner, outer, c) + pressure, 0.0, 4.0 * inner**2, xtol=1e-14)
