"""The generative models that are shipped, by name."""

from alss_ray.generators.alpha_gan import AlphaGan
from alss_ray.generators.base import Embedding, Generator
from alss_ray.generators.vae import Vae

GENERATORS: dict[str, type] = {generator.name: generator for generator in (AlphaGan, Vae)}

__all__ = ["GENERATORS", "AlphaGan", "Embedding", "Generator", "Vae"]
