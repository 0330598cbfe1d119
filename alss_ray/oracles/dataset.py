"""The oracle of a data set that has been annotated already: it reads D's stored labels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from alss_ray.oracles.base import ImageBatch, Labels


@dataclass(frozen=True)
class DatasetOracle:
    """Looks labels up by position in D, as the paper does for MNIST and CIFAR-10.

    The label of a decoded image is that of the real sample it stands for (Algorithm 1, line 12).
    """

    targets: Tensor
    """`N x ...` on the CPU: the stored labels of D."""

    def label(self, images: ImageBatch) -> Labels:
        synthesised = (images.indices < 0).nonzero()[:, 0].tolist()
        return Labels(
            self.targets[images.indices], dict.fromkeys(synthesised, "not a sample of the data set")
        )
