"""Stage 1 with an α-GAN (Rosca et al. 2017, Algorithm 1; Mo et al. 2020, Tables S1-S5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from alss_ray import rng
from alss_ray.checkpoint import Learner
from alss_ray.config import at_least, positive
from alss_ray.devices import mixed_precision, placed
from alss_ray.generators.base import NoSnapshots, Progress, Snapshots
from alss_ray.generators.loop import take_steps
from alss_ray.networks.alpha_gan import CodeDiscriminator, Encoder, Generator
from alss_ray.tasks.base import to_unit

BETAS = (0.5, 0.9)  # Adam's, as Rosca et al. take them


@dataclass(frozen=True)
class AlphaGan:
    """An auto-encoder whose likelihood and prior are discriminators: of images and of codes.

    A step updates encoder, generator, image discriminator and code discriminator in this order, each with an optimiser
    and a loss of its own. The encoder minimises the reconstruction's ℓ1 distance and R of the codes, the generator the
    same distance and R of reconstructions and of images of N(0, I), the discriminators cross entropies.
    """

    latent_dim: int = 3
    """n, the dimension of the latent space."""
    generator_width: int = 64
    """Channels of the convolutions."""
    generator_iterations: int = 10_000
    """Training steps of the generator."""
    generator_batch_size: int = 64
    """Images in a training step of the generator."""
    generator_learning_rate: float = 2e-4
    """Adam's step size for each of the four networks."""
    reconstruction_weight: float = 40.0
    """λ: weight of the mean absolute difference of a pixel's values in [-1, 1]."""
    adversarial_loss: Literal["ratio", "non_saturating"] = "ratio"
    """What encoder and generator minimise of a discriminator D beside the distance: R = -log D + log(1 - D), as in the
    paper, or -log D alone, whose gradient fades where D is deceived."""
    generator_seed: int = 0
    """The generator's own seed: experiments with other seeds share it, and so do the arms of a comparison."""

    name: ClassVar[str] = "alpha_gan"

    def __post_init__(self) -> None:
        at_least("alpha_gan", 1, latent_dim=self.latent_dim, generator_width=self.generator_width,
                 generator_iterations=self.generator_iterations)  # fmt: skip
        at_least("alpha_gan", 2, generator_batch_size=self.generator_batch_size)  # for batch normalisation
        at_least("alpha_gan", 0, generator_seed=self.generator_seed)
        positive("alpha_gan", generator_learning_rate=self.generator_learning_rate,
                 reconstruction_weight=self.reconstruction_weight)  # fmt: skip

    def modules(self, image_shape: tuple[int, ...]) -> tuple[Encoder, Generator]:
        return (
            Encoder(image_shape, self.latent_dim, self.generator_width),
            Generator(image_shape, self.latent_dim, self.generator_width),
        )

    def train(
        self,
        images: Tensor,
        device: torch.device,
        progress: Progress,
        snapshots: Snapshots = NoSnapshots(),
    ) -> tuple[nn.Module, nn.Module]:
        shape = tuple(images.shape[1:])
        with rng.scope(self.generator_seed, "generator", "init"):
            encoder, generator = self.modules(shape)
            judge, code_judge = Encoder(shape, 1, self.generator_width), CodeDiscriminator(self.latent_dim)
        learners: list[Learner] = []
        for network in (encoder, generator, judge, code_judge):
            placed(network, device).train()
            adam = torch.optim.Adam(network.parameters(), self.generator_learning_rate, BETAS, fused=True)
            learners.append((network, adam))
        draws = rng.stream(self.generator_seed, "generator", "batches")
        noise = rng.stream(self.generator_seed, "generator", "noise")
        images = images.to(device)

        def step() -> None:
            rows = torch.randint(len(images), (self.generator_batch_size,), generator=draws)
            prior = torch.randn(len(rows), self.latent_dim, generator=noise).to(device)
            batch = to_unit(images[rows.to(device)])
            losses = self.losses(encoder, generator, judge, code_judge, batch, prior)
            for (network, adam), loss in zip(learners, losses, strict=True):
                adam.zero_grad()
                loss.backward(inputs=list(network.parameters()))
                adam.step()

        streams = {"batches": draws, "noise": noise}
        take_steps(step, self.generator_iterations, learners, streams, progress, snapshots)
        return encoder, generator

    def losses(
        self, encoder: nn.Module, generator: nn.Module, judge: nn.Module, code_judge: nn.Module,
        images: Tensor, prior: Tensor,
    ) -> Iterator[Tensor]:  # fmt: skip
        """The losses of the four networks in the order of Algorithm 1, each computed after the step along the last one.

        Args:
            images: `b x C x H x W` in [0, 1].
            prior: `b x n`, drawn from N(0, I).
        """

        def distance(rebuilt: Tensor) -> Tensor:
            return self.reconstruction_weight * 2 * (images - rebuilt).abs().mean()

        def realness(discriminator: nn.Module, given: Tensor) -> Tensor:
            return discriminator(given).float()

        def deception(logits: Tensor) -> Tensor:
            # R is minus the logit.
            return (-logits if self.adversarial_loss == "ratio" else softplus(-logits)).mean()

        def precision() -> AbstractContextManager[object]:
            return mixed_precision(images.device)

        with precision():
            codes = encoder(images)
            loss = distance(generator(codes)) + deception(realness(code_judge, codes))
        yield loss
        codes = codes.detach()
        with precision():
            rebuilt, made = generator(codes), generator(prior)
            deceived = deception(realness(judge, rebuilt)) + deception(realness(judge, made))
            loss = distance(rebuilt) + deceived
        yield loss
        rebuilt, made = rebuilt.detach(), made.detach()
        with precision():
            # Real images count twice, as they stand against two kinds of others.
            loss = 2 * softplus(-realness(judge, images)).mean()
            loss = loss + softplus(realness(judge, rebuilt)).mean() + softplus(realness(judge, made)).mean()
        yield loss
        with precision():
            loss = (
                softplus(-realness(code_judge, prior)).mean() + softplus(realness(code_judge, codes)).mean()
            )
        yield loss
