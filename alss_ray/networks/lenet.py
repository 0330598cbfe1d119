"""The target network for MNIST (Mo et al. 2020, Table S7)."""

from torch import nn

LEAST_SIDE = 16


def lenet(channels: int = 1, classes: int = 10, side: int = 28) -> nn.Sequential:
    """Table S7: images `b x 1 x 28 x 28` in [0, 1] to logits `b x 10`; 431,080 parameters.

    The table calls the last layer '(Mean)', which its 10 class outputs do not bear out: it is a plain linear
    layer. For other images and classes the first and the linear layers change their sizes.
    """
    left = ((side - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * left * left, 500),
        nn.ReLU(),
        nn.Linear(500, classes),
    )
