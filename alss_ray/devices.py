"""The device that computes, and the precision and layout that suit it.

On a GPU training runs in bfloat16; evaluation, gradients in latent space and figures stay in float32, with products in
TensorFloat-32. On a CPU everything is float32, unless an experiment says `bfloat16`: then F runs in it throughout.
"""

from __future__ import annotations

import contextlib
import os
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from alss_ray.config import UsageError

Module = TypeVar("Module", bound=nn.Module)


def chosen(name: str | None = None) -> torch.device:
    """The device of this name, as torch writes it ('cpu', 'cuda:1'); the GPU where there is one unless named.

    Raises:
        UsageError: there is no such device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"--device {name} cannot be used ({reason}); leave it out, or give cpu.") from error
    return device


def prepare(device: torch.device) -> None:
    """Make a GPU the current one, and let it take the fastest convolutions and TensorFloat-32."""
    if device.type == "cuda":
        if device.index is not None:
            torch.cuda.set_device(device)  # faiss searches on the current one
        torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
        torch.set_float32_matmul_precision("high")


def make_deterministic() -> None:
    """From now on a GPU gives the same bits every time, too, and refuses what it cannot repeat."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A block whose convolutions and products run in bfloat16 on a GPU.

    bfloat16 has float32's range, so losses need no scaling; weights, optimiser and losses stay float32.
    """
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


class InBfloat16(nn.Module):
    """A network whose convolutions and products run in bfloat16 wherever it runs; its outputs are float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return cast(Tensor, self.network(images)).float()


def placed(module: Module, device: torch.device) -> Module:
    """The module on the device, its convolutions channels-last: faster on a CPU, and what tensor cores read."""
    return module.to(device).to(memory_format=torch.channels_last)
