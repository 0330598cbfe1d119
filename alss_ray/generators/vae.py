"""Stage 1 with a vanilla variational auto-encoder (Kingma and Welling 2014; Mo et al. 2020, Tables S9-S12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from alss_ray import rng
from alss_ray.config import at_least, positive
from alss_ray.generators.base import NoSnapshots, Progress, Snapshots
from alss_ray.generators.loop import take_steps
from alss_ray.networks.vae import Decoder, Encoder
from alss_ray.tasks.base import to_unit


@dataclass(frozen=True)
class Vae:
    """Bernoulli likelihood summed over pixels, KL weight 1, Gaussian posterior; E(x) is its mean or a sample of it."""

    latent_dim: int = 3
    """n, the dimension of the latent space."""
    generator_hidden: int = 400
    """Units in each hidden layer."""
    generator_iterations: int = 3000
    """Training steps of the generator."""
    generator_batch_size: int = 128
    """Images in a training step of the generator."""
    generator_learning_rate: float = 1e-3
    """Adam's step size for the generator."""
    generator_seed: int = 0
    """The generator's own seed: experiments with other seeds share it, and so do the arms of a comparison."""
    codes: Literal["mean", "sample"] = "mean"
    """E(D): the posterior's means, or one sample of each posterior, drawn once for all."""

    name: ClassVar[str] = "vae"

    def __post_init__(self) -> None:
        at_least("vae", 1, latent_dim=self.latent_dim, generator_hidden=self.generator_hidden,
                 generator_iterations=self.generator_iterations,
                 generator_batch_size=self.generator_batch_size)  # fmt: skip
        at_least("vae", 0, generator_seed=self.generator_seed)
        positive("vae", generator_learning_rate=self.generator_learning_rate)

    def modules(self, image_shape: tuple[int, ...]) -> tuple[Encoder, Decoder]:
        shape = (image_shape, self.latent_dim, self.generator_hidden)
        noise = rng.stream(self.generator_seed, "generator", "codes") if self.codes == "sample" else None
        return Encoder(*shape, noise), Decoder(*shape)

    def train(
        self,
        images: Tensor,
        device: torch.device,
        progress: Progress,
        snapshots: Snapshots = NoSnapshots(),
    ) -> tuple[nn.Module, nn.Module]:
        with rng.scope(self.generator_seed, "generator", "init"):
            encoder, decoder = self.modules(tuple(images.shape[1:]))
        both = nn.ModuleList([encoder, decoder]).to(device).train()
        optimiser = torch.optim.Adam(both.parameters(), self.generator_learning_rate, fused=True)
        draws = rng.stream(self.generator_seed, "generator", "batches")
        noise = rng.stream(self.generator_seed, "generator", "noise")
        images = images.to(device)

        def step() -> None:
            rows = torch.randint(len(images), (self.generator_batch_size,), generator=draws)
            batch = to_unit(images[rows.to(device)])
            mean, log_variance = encoder.posterior(batch)
            epsilon = torch.randn(mean.shape, generator=noise).to(device)
            logits = decoder.logits(mean + epsilon * (0.5 * log_variance).exp())
            reconstruction = functional.binary_cross_entropy_with_logits(logits, batch, reduction="sum")
            divergence = 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum()
            optimiser.zero_grad()
            ((reconstruction + divergence) / len(batch)).backward()
            optimiser.step()

        streams = {"batches": draws, "noise": noise}
        take_steps(step, self.generator_iterations, [(both, optimiser)], streams, progress, snapshots)
        return encoder, decoder
