"""The device that computes, and the precision and layout that suit it."""

from __future__ import annotations

import contextlib
from typing import TypeVar

import torch
from torch import nn

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


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A block whose convolutions and products run in bfloat16 on a GPU; on a CPU nothing changes.

    bfloat16 has float32's range, so losses need no scaling; weights, optimiser and losses stay float32.
    """
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def placed(module: Module, device: torch.device) -> Module:
    """The module on the device, its convolutions' weights channels-last on a GPU, as tensor cores read them."""
    module = module.to(device)
    return module.to(memory_format=torch.channels_last) if device.type == "cuda" else module
