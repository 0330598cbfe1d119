"""Who labels: an oracle is anything with `label(images) -> Labels`."""

from alss_ray.oracles.base import ImageBatch, Labels, Oracle
from alss_ray.oracles.dataset import DatasetOracle

__all__ = ["DatasetOracle", "ImageBatch", "Labels", "Oracle"]
