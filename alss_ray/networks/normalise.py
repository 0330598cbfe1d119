"""What stands before a network's first layer: normalisation, and augmentation while it trains."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Normalise(nn.Module):
    """Images `b x C x H x W` in [0, 1], shifted and scaled a channel.

    It belongs to the network, so that whoever asks for F(x), the gradient through F(G(p)) too, gets it.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("deviation", deviation)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.deviation


class CropAndFlip(nn.Module):
    """In training: a crop after `margin` black pixels were put around, and a mirror image every other time.

    In evaluation mode images pass as they are. Chance comes from torch's global stream of the images' device.
    """

    def __init__(self, margin: int = 4) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return images
        count, channels, height, width = images.shape
        on = images.device
        padded = functional.pad(images, (self.margin,) * 4)
        top, left = torch.randint(2 * self.margin + 1, (2, count, 1), device=on)
        rows = top + torch.arange(height, device=on)
        columns = left + torch.arange(width, device=on)
        flipped = torch.rand(count, 1, device=on) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
        sample = torch.arange(count, device=on).view(-1, 1, 1, 1)
        channel = torch.arange(channels, device=on).view(1, -1, 1, 1)
        return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
