"""The networks against the paper's appendix tables and torchvision's: sizes, order of the layers, what they compute."""

import math

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from alss_ray.networks.lenet import lenet
from alss_ray.networks.normalise import CropAndFlip, Normalise
from alss_ray.networks.resnet import resnet18
from alss_ray.networks.vae import Decoder, Encoder
from alss_ray.networks.vgg import vgg16


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


def test_table_s8_is_torchvisions_vgg16_with_one_linear_layer() -> None:
    """Its convolutional part with the same weights gives the same features; the paper's 512 to 10 stand behind."""
    ours, theirs = vgg16(), torchvision.models.vgg16_bn()
    assert count(ours) == count(theirs.features) + 512 * 10 + 10 == 14_728_266
    assert "14,728,266" in (vgg16.__doc__ or "")
    assert linear_sizes(ours) == [(512, 10)]
    kinds = [type(layer) for layer in theirs.features]
    assert [type(layer) for layer in ours][: len(kinds)] == kinds
    ours[: len(kinds)].load_state_dict(theirs.features.state_dict())
    images = torch.rand(2, 3, 32, 32)
    features = theirs.features(images)
    assert features.shape == (2, 512, 1, 1)
    torch.testing.assert_close(ours(images), ours[-1](features.flatten(1)))


def test_resnet18_is_torchvisions_but_for_the_first_layer() -> None:
    ours, theirs = resnet18(), torchvision.models.resnet18(num_classes=10)
    assert count(ours) == count(theirs) - 64 * 3 * (7 * 7 - 3 * 3) == 11_173_962
    assert "11,173,962" in (resnet18.__doc__ or "")
    weights = {k: v for k, v in theirs.state_dict().items() if k != "conv1.weight"}
    assert ours.load_state_dict(weights, strict=False).missing_keys == ["conv1.weight"]
    images = torch.rand(2, 3, 32, 32)
    ours.eval(), theirs.eval()
    inside = functional.relu(theirs.bn1(ours.conv1(images)))
    assert inside.shape == (2, 64, 32, 32)
    for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        inside = layer(inside)
    assert inside.shape == (2, 512, 4, 4)
    torch.testing.assert_close(ours(images), theirs.fc(inside.mean((2, 3))))


def test_normalisation_passes_gradients_and_is_no_part_of_the_weights() -> None:
    layer = Normalise([0.5, 0.1], [0.25, 2.0])
    images = torch.rand(3, 2, 4, 4, requires_grad=True)
    wanted = torch.stack([(images[:, 0] - 0.5) / 0.25, (images[:, 1] - 0.1) / 2.0], 1)
    torch.testing.assert_close(layer(images), wanted)
    layer(images).sum().backward()
    assert images.grad is not None
    assert images.grad[:, 0].unique().tolist() == [4.0]
    assert not layer.state_dict()


def test_augmented_images_are_crops_of_the_padded_image_or_of_its_mirror() -> None:
    images = torch.rand(200, 3, 8, 6)
    torch.manual_seed(0)
    got = CropAndFlip(2)(images)

    def places(image: Tensor, crop: Tensor) -> list[tuple[int, int]]:
        padded = functional.pad(image, (2, 2, 2, 2))
        every = [(top, left) for top in range(5) for left in range(5)]
        return [(y, x) for y, x in every if torch.equal(padded[:, y : y + 8, x : x + 6], crop)]

    straight = [places(image, crop) for image, crop in zip(images, got, strict=True)]
    mirrored = [places(image, crop.flip(2)) for image, crop in zip(images, got, strict=True)]
    assert all(len(one) + len(other) == 1 for one, other in zip(straight, mirrored, strict=True))
    assert {place for found in straight + mirrored for place in found} == {
        (y, x) for y in range(5) for x in range(5)
    }
    assert 70 < sum(map(len, straight)) < 130
    assert torch.equal(CropAndFlip(2).eval()(images), images)
