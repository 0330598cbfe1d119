"""Encoder and decoder of the variational auto-encoder (Mo et al. 2020, Tables S9-S12)."""

import math

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Tables S9 and S11: two layers of `hidden` units, then the posterior's mean and log-variance.

    Called on images `b x C x H x W` in [0, 1] it gives E(x), `b x n`: the posterior mean, or where it has a stream
    of `noise` the next sample of the posterior.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        latent_dim: int,
        hidden: int,
        noise: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.noise = noise
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(image_shape), hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.mean = nn.Linear(hidden, latent_dim)
        self.log_variance = nn.Linear(hidden, latent_dim)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), each `b x n`."""
        features = self.body(images)
        return self.mean(features), self.log_variance(features)

    def forward(self, images: Tensor) -> Tensor:
        mean, log_variance = self.posterior(images)
        if self.noise is None:
            return mean
        epsilon = torch.randn(mean.shape, generator=self.noise).to(mean)
        return mean + epsilon * (0.5 * log_variance).exp()


class Decoder(nn.Module):
    """Tables S10 and S12: two layers of `hidden` units, then one logit a pixel.

    Called on points `b x n` it gives the Bernoulli means `b x C x H x W` in (0, 1), which is G(p).
    """

    def __init__(self, image_shape: tuple[int, ...], latent_dim: int, hidden: int) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.body = nn.Sequential(
            nn.Linear(latent_dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, math.prod(image_shape)),
        )

    def logits(self, points: Tensor) -> Tensor:
        """Pixel logits `b x C x H x W`."""
        return self.body(points).unflatten(1, self.image_shape)

    def forward(self, points: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(points))
