"""The contract of a generator (stage 1) and what comes out of it: an Embedding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from alss_ray.checkpoint import Tensors
from alss_ray.tasks.base import in_parts, to_unit

CHUNK = 4096  # images encoded at once

Progress = Callable[[int, int], None]
"""Called with (iterations done, iterations in all) now and then."""


class Snapshots(Protocol):
    """Keeps an unfinished training, for whoever goes on with it."""

    def load(self) -> Tensors | None:
        """The last snapshot; None where there is none."""
        ...

    def offer(self, state: Callable[[], Tensors]) -> None:
        """Take a snapshot if one is due; `state` is not called otherwise."""
        ...


class NoSnapshots:
    """Keeps nothing."""

    def load(self) -> None:
        return None

    def offer(self, state: Callable[[], Tensors]) -> None:
        pass


class Generator(Protocol):
    """A frozen dataclass whose fields are the generative model's options."""

    name: ClassVar[str]
    latent_dim: int
    generator_iterations: int
    generator_seed: int

    def modules(self, image_shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        """Fresh encoder (images `b x C x H x W` in [0, 1] to codes `b x n`) and decoder (the way back)."""
        ...

    def train(
        self,
        images: Tensor,
        device: torch.device,
        progress: Progress,
        snapshots: Snapshots = NoSnapshots(),
    ) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder trained on uint8 images `N x C x H x W`.

        Same seed, same weights on CPU, whether or not the training was broken off and went on from a snapshot.
        """
        ...


@dataclass(frozen=True)
class Embedding:
    """The frozen E and G of stage 1 with the codes of D."""

    encoder: nn.Module
    decoder: nn.Module
    codes: Tensor
    """float32 `N x n` on the CPU: E(D)."""

    @classmethod
    def of(cls, encoder: nn.Module, decoder: nn.Module, images: Tensor, device: torch.device) -> Embedding:
        """Freeze a trained pair and encode D (uint8 `N x C x H x W`)."""
        frozen = cls.frozen(encoder, decoder, torch.empty(0), device)
        with torch.inference_mode():
            codes = [frozen.encoder(to_unit(part.to(device))).cpu() for part in in_parts(images, CHUNK)]
        return cls(frozen.encoder, frozen.decoder, torch.cat(codes))

    @classmethod
    def frozen(cls, encoder: nn.Module, decoder: nn.Module, codes: Tensor, device: torch.device) -> Embedding:
        """Put both in evaluation mode on the device and stop their gradients."""
        for part in (encoder, decoder):
            part.to(device).eval().requires_grad_(False)
        return cls(encoder, decoder, codes)
