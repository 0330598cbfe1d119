"""What a user may choose, and how a mask is turned away."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Quantity = Literal["principal", "von_mises", "tensor"]


class Refused(ValueError):
    """A mask that gets no label.

    ``reason`` is a short stable slug (one of ``REASONS``) to count by; ``str(error)`` is one sentence that names
    what was found.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        if reason not in REASONS:
            raise KeyError(f"{reason!r} is not one of the reasons {REASONS}")
        super().__init__(sentence)
        self.reason = reason

    def __reduce__(self) -> tuple[type[Refused], tuple[str, str]]:
        """Pickle with both arguments, so that a refusal crosses process borders whole."""
        return Refused, (self.reason, str(self))


REASONS = (
    "wrong shape",
    "wrong dtype",
    "not finite",
    "out of range",
    "empty mask",
    "full mask",
    "no lumen",
    "several lumens",
    "broken wall",
    "touches border",
    "thin wall",
    "no convergence",
)


@dataclass(frozen=True)
class Beat:
    """The dynamic option: one pulsatile beat instead of one static load.

    The wall starts at rest in equilibrium with ``diastole`` and is followed to a peak of the pressure, whose stress is
    returned. The pressure rises and falls as half cosines; the paper's template waveform is not published.
    """

    diastole: float = 10.67  # kPa, 80 mmHg
    period: float = 0.8  # s, 75 beats a minute
    peak: float = 0.3  # fraction of the period at which the pressure is highest
    beats: int = 1  # the peak of this beat is mapped
    steps: int = 200  # time steps a beat
    density: float = 1.06e-6  # kPa s^2 / mm^2, that is 1060 kg / m^3
    damping: float = 0.8  # spectral radius of the scheme at infinite frequency, 0 (most damping) to 1 (none)

    def __post_init__(self) -> None:
        if not (self.diastole >= 0 and self.period > 0 and 0 < self.peak < 1 and self.density >= 0):
            raise ValueError("a beat needs diastole >= 0, period > 0, 0 < peak < 1 and density >= 0")
        if self.beats < 1 or self.steps < 4 or not 0 <= self.damping <= 1:
            raise ValueError("a beat needs beats >= 1, steps >= 4 and damping in [0, 1]")


@dataclass(frozen=True)
class Settings:
    """Load, material, mesh and output of one solve.

    Material constants and the load are those of Mo et al. 2020, Appendix A.2; stresses are in kPa and lengths in mm.
    """

    pressure: float = 16.0  # kPa on the lumen border, 120 mmHg
    c1: float = 0.138  # kPa
    D1: float = 3.833  # kPa
    D2: float = 18.803
    quantity: Quantity = "principal"
    elements_around: int | None = (
        None  # Q2 elements along the lumen, a multiple of 4; None: by shape, see grid.py
    )
    elements_across: int | None = (
        None  # Q2 elements from lumen to outer border, an even number; None: by shape
    )
    harmonics: int = 24  # finest detail of a border: this many waves along it
    beat: Beat | None = None  # None: quasi-static

    def __post_init__(self) -> None:
        numbers = {"pressure": self.pressure, "c1": self.c1, "D1": self.D1, "D2": self.D2}
        for name, value in numbers.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}, it must be finite and at least 0")
        if self.c1 + self.D1 * self.D2 <= 0:
            raise ValueError("c1 + D1 * D2 is 0: the wall would have no stiffness")
        if self.quantity not in ("principal", "von_mises", "tensor"):
            raise ValueError(f"quantity is {self.quantity!r}, not 'principal', 'von_mises' or 'tensor'")
        if self.elements_around is not None and (self.elements_around < 16 or self.elements_around % 4):
            raise ValueError(f"elements_around is {self.elements_around}, not a multiple of 4 from 16 on")
        if self.elements_across is not None and (self.elements_across < 2 or self.elements_across % 2):
            raise ValueError(f"elements_across is {self.elements_across}, not an even number from 2 on")
        if self.harmonics < 4:
            raise ValueError(f"harmonics is {self.harmonics}, at least 4 are needed")
