"""The networks against the paper's appendix tables: sizes, order of the layers, and what they compute."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from alss_ray.networks.lenet import lenet
from alss_ray.networks.vae import Decoder, Encoder


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def linear_sizes(module: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


def test_table_s7_has_431080_parameters() -> None:
    assert count(lenet()) == 431_080


def test_table_s7_layer_by_layer() -> None:
    network, images = lenet(), torch.rand(5, 1, 28, 28)
    w1, b1, w2, b2, w3, b3, w4, b4 = network.parameters()
    features = functional.max_pool2d(functional.conv2d(images, w1, b1, stride=1, padding=0).relu(), 2, 2)
    assert features.shape == (5, 20, 12, 12)
    features = functional.max_pool2d(functional.conv2d(features, w2, b2, stride=1, padding=0).relu(), 2, 2)
    assert features.shape == (5, 50, 4, 4)
    logits = (features.reshape(5, 800) @ w3.T + b3).relu() @ w4.T + b4
    assert w3.shape == (500, 800)
    assert w4.shape == (10, 500)
    torch.testing.assert_close(network(images), logits)


@pytest.mark.parametrize(
    ("image_shape", "tables"), [((1, 28, 28), "S9-S10"), ((1, 64, 64), "S11-S12")], ids=["mnist", "ivus"]
)
def test_vae_has_the_layers_of_the_tables(image_shape: tuple[int, ...], tables: str) -> None:
    pixels = {"S9-S10": 784, "S11-S12": 4096}[tables]
    encoder, decoder = Encoder(image_shape, 3, 400), Decoder(image_shape, 3, 400)
    assert linear_sizes(encoder) == [(pixels, 400), (400, 400), (400, 3), (400, 3)]
    assert linear_sizes(decoder) == [(3, 400), (400, 400), (400, pixels)]
    assert count(encoder) == pixels * 400 + 400 + 400 * 400 + 400 + 2 * (400 * 3 + 3)
    assert count(decoder) == 3 * 400 + 400 + 400 * 400 + 400 + 400 * pixels + pixels


def test_encoder_computes_the_posterior_and_gives_its_mean() -> None:
    encoder, images = Encoder((2, 4, 4), 3, 8), torch.rand(6, 2, 4, 4)
    w1, b1, w2, b2, wm, bm, wv, bv = encoder.parameters()
    features = ((images.reshape(6, 32) @ w1.T + b1).relu() @ w2.T + b2).relu()
    mean, log_variance = encoder.posterior(images)
    torch.testing.assert_close(mean, features @ wm.T + bm)
    torch.testing.assert_close(log_variance, features @ wv.T + bv)
    assert torch.equal(encoder(images), mean)


def test_decoder_computes_pixel_probabilities() -> None:
    decoder, points = Decoder((2, 4, 4), 3, 8), 5 * torch.randn(6, 3)
    w1, b1, w2, b2, w3, b3 = decoder.parameters()
    logits = (((points @ w1.T + b1).relu() @ w2.T + b2).relu() @ w3.T + b3).reshape(6, 2, 4, 4)
    torch.testing.assert_close(decoder.logits(points), logits)
    torch.testing.assert_close(decoder(points), 1 / (1 + (-logits).exp()))


@pytest.mark.parametrize("latent_dim", [1, 16])
def test_vae_takes_any_latent_dimension(latent_dim: int) -> None:
    shape = (3, 6, 5)
    encoder, decoder = Encoder(shape, latent_dim, 7), Decoder(shape, latent_dim, 7)
    codes = encoder(torch.rand(4, *shape))
    assert codes.shape == (4, latent_dim)
    assert decoder(codes).shape == (4, *shape)
    assert math.prod(shape) == linear_sizes(decoder)[-1][1]
