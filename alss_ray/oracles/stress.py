"""The finite-element solver as an oracle: vessel-wall masks in, structural stress maps out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from alss_ray.config import positive
from alss_ray.oracles.base import ImageBatch, Labels
from alss_ray.oracles.vessel import Refused, Settings, solve


@dataclass(frozen=True)
class StressOracle:
    """Largest principal Cauchy stress under systolic pressure (Mo et al. 2020, Appendix A.2), by alss_ray's solver."""

    spacing: float
    """Side of a pixel, mm."""
    pressure: float = 16.0
    """Blood pressure on the lumen border at systole, kPa (16 kPa = 120 mmHg)."""

    version: ClassVar[str] = "2"
    """Raise it when the solver's maps change, so that stored labels are not taken for its own."""

    def __post_init__(self) -> None:
        positive("stress oracle", spacing=self.spacing, pressure=self.pressure)

    def label(self, images: ImageBatch) -> Labels:
        """Maps in kPa, float32 `k x 1 x H x W`; an image that is no vessel wall is refused by its reason."""
        values = np.zeros(tuple(images.images.shape), np.float32)
        refusals = {}
        for k, image in enumerate(images):
            try:
                values[k, 0] = solve(image[0], self.spacing, Settings(pressure=self.pressure)).stress
            except Refused as refused:
                refusals[k] = refused.reason
        return Labels(torch.from_numpy(values), refusals)
