"""What an experiment whose labels are maps keeps of its end: true and predicted maps of a few test samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from alss_ray.tasks.base import to_unit

SAMPLES = 6


def sample_rows(
    network: nn.Module, images: Tensor, targets: Tensor, scale: float, unit: str
) -> list[dict[str, Any]]:
    """Rows of the records for a few test samples, evenly spread over the test set.

    Args:
        network: F, on the device of the samples.
        images: uint8 `M x 1 x H x W`.
        targets: `M x 1 x H x W`, of which 1 is `scale` in `unit`.
    """
    chosen = torch.linspace(0, len(images) - 1, SAMPLES).long().unique()
    images, targets = (part[chosen.to(images.device)] for part in (images, targets))
    network.eval()
    with torch.inference_mode():
        outputs = network(to_unit(images))
    height, width = targets.shape[-2:]
    return [
        {
            "sample": int(sample),
            "height": height,
            "width": width,
            "unit": unit,
            "image": images[k, 0].cpu().numpy().tobytes(),
            "target": (scale * targets[k, 0]).cpu().numpy().astype("<f4").tobytes(),
            "output": (scale * outputs[k, 0]).cpu().numpy().astype("<f4").tobytes(),
        }
        for k, sample in enumerate(chosen.tolist())
    ]
