"""The α-GAN: the tables' layers, losses against those written with probabilities, training that goes on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from alss_ray.config import UsageError
from alss_ray.generators import AlphaGan, Embedding, Vae, loop
from alss_ray.generators.store import GeneratorStore, Request
from alss_ray.networks.alpha_gan import CodeDiscriminator, Encoder, Generator, ResidualBlock
from alss_ray.tasks import Digits
from alss_ray.testing import check_generator

CPU = torch.device("cpu")
DIGITS = Digits().load()
SMALL = AlphaGan(generator_width=4, generator_iterations=5, generator_batch_size=16)


def silent(done: int, total: int) -> None:
    pass


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- the tables ------------------------------------------------------------------------------------------

BLOCK = 2 * (
    64 * 64 * 9 + 64 + 2 * 64
)  # Table S1: two 3 x 3 convolutions with biases, each with batch normalisation


@pytest.mark.parametrize(("side", "features"), [(256, 65_536), (32, 1024), (8, 64), (28, 1024)])
def test_tables_s1_to_s4_by_their_parameters(side: int, features: int) -> None:
    """65,536 features, as the tables have it, are those of 256 x 256 pixels."""
    shape = (3, side, side)
    encoder, generator, judge = Encoder(shape, 3), Generator(shape, 3), Encoder(shape, 1)
    first, last = 64 * 3 * 25 + 64, 3 * 64 + 3
    assert count(encoder) == first + 3 * BLOCK + features * 3 + 3
    assert count(judge) == first + 3 * BLOCK + features + 1
    assert count(generator) == (3 + 1) * features + 4 * BLOCK + last


def test_table_s5_by_its_parameters() -> None:
    assert count(CodeDiscriminator(3)) == (3 + 1) * 700 + 701 * 700 + 701


def test_the_residual_block_adds_table_s1_to_what_comes_in() -> None:
    block, given = ResidualBlock(4).eval(), torch.randn(2, 4, 6, 6)
    w1, b1, g1, s1, w2, b2, g2, s2 = block.parameters()

    def layer(x: Tensor, w: Tensor, b: Tensor, g: Tensor, s: Tensor) -> Tensor:
        scaled = (
            functional.conv2d(x, w, b, padding=1) / math.sqrt(1 + 1e-5) * g[:, None, None] + s[:, None, None]
        )
        return torch.where(scaled > 0, scaled, 0.2 * scaled)

    wanted = given + layer(layer(given, w1, b1, g1, s1), w2, b2, g2, s2)
    torch.testing.assert_close(block(given), wanted)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 12, 20)])
@pytest.mark.parametrize("latent_dim", [1, 16])
def test_images_of_any_shape_and_points_of_any_dimension(shape: tuple[int, ...], latent_dim: int) -> None:
    encoder, generator = AlphaGan(latent_dim, generator_width=4).modules(shape)
    points = encoder(torch.rand(5, *shape))
    images = generator(points)
    assert points.shape == (5, latent_dim)
    assert images.shape == (5, *shape)
    assert 0 <= images.min() <= images.max() <= 1


def test_borders_are_black() -> None:
    encoder = Encoder((1, 12, 20), 3, 4).eval()
    whole = Encoder((1, 16, 24), 3, 4).eval()
    whole.load_state_dict(encoder.state_dict())
    images = torch.rand(2, 1, 12, 20)
    torch.testing.assert_close(encoder(images), whole(functional.pad(images, (0, 4, 0, 4))))


# --- the losses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["ratio", "non_saturating"])
def test_the_losses_are_those_of_algorithm_1(form: Literal["ratio", "non_saturating"]) -> None:
    """Written with the discriminators' probabilities, as in the paper; a step lies between one loss and the next."""
    gan = AlphaGan(generator_width=4, reconstruction_weight=7.0, adversarial_loss=form)
    encoder, generator = gan.modules((1, 8, 8))
    judge, code_judge = Encoder((1, 8, 8), 1, 4), CodeDiscriminator(3)
    images, prior = torch.rand(6, 1, 8, 8), torch.randn(6, 3)
    for network in (encoder, generator, judge, code_judge):
        network.double()
    images, prior = images.double(), prior.double()

    def ratio(probability: Tensor) -> Tensor:
        away = (1 - probability).log() if form == "ratio" else 0
        return (-probability.log() + away).mean()

    def real(given: Tensor) -> Tensor:
        return judge(given).sigmoid()

    def likely(codes: Tensor) -> Tensor:
        return code_judge(codes).sigmoid()

    def distance(rebuilt: Tensor) -> Tensor:
        return 7.0 * ((2 * images - 1) - (2 * rebuilt - 1)).abs().mean()

    codes = encoder(images)
    rebuilt, made = generator(codes), generator(prior)
    wanted = [
        distance(rebuilt) + ratio(likely(codes)),
        distance(rebuilt) + ratio(real(rebuilt)) + ratio(real(made)),
        -(2 * real(images).log() + (1 - real(rebuilt)).log() + (1 - real(made)).log()).mean(),
        -(likely(prior).log() + (1 - likely(codes)).log()).mean(),
    ]
    got = list(gan.losses(encoder, generator, judge, code_judge, images, prior))
    torch.testing.assert_close(torch.stack(got).double(), torch.stack(wanted), rtol=1e-5, atol=1e-6)


def test_each_network_descends_its_own_loss_only() -> None:
    """With the learning rate of one step, the networks' updates are Adam's along their own gradients."""
    gan = AlphaGan(
        generator_width=4, generator_iterations=1, generator_batch_size=8, generator_learning_rate=1e-3
    )
    before = gan.train(DIGITS.images, CPU, silent)
    after = AlphaGan(
        generator_width=4, generator_iterations=1, generator_batch_size=8, generator_learning_rate=2e-3
    )
    moved = after.train(DIGITS.images, CPU, silent)
    for one, other in zip(before, moved, strict=True):
        steps = torch.cat(
            [(p - q).abs().flatten() for p, q in zip(one.parameters(), other.parameters(), strict=True)]
        )
        # Adam's first step has the learning rate's length along every weight that has a gradient.
        assert (steps < 1e-3 + 1e-6).all()
        assert (steps > 0.9e-3).double().mean() > 0.5


# --- training --------------------------------------------------------------------------------------------


def test_it_conforms() -> None:
    check_generator(
        AlphaGan(generator_width=4, generator_iterations=3, generator_batch_size=8), DIGITS.images[:64]
    )
    check_generator(
        Vae(generator_hidden=8, generator_iterations=3), torch.randint(0, 256, (40, 3, 32, 32)).byte()
    )


@pytest.mark.parametrize(
    "options",
    [{"generator_batch_size": 1}, {"reconstruction_weight": 0.0}, {"generator_width": 0}, {"latent_dim": 0}],
)
def test_settings_that_cannot_train_are_told(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        AlphaGan(**options)  # type: ignore[arg-type]


class Stopped(Exception):
    """The worker is gone."""


@pytest.mark.parametrize(
    "generator", [SMALL, Vae(generator_hidden=8, generator_iterations=5)], ids=["alpha_gan", "vae"]
)
def test_a_training_that_was_broken_off_goes_on_to_the_same_bits(
    generator: AlphaGan | Vae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "REPORT_EVERY", 2)
    steps: list[int] = []

    def lost(done: int, total: int) -> None:
        steps.append(done)
        if len(steps) == 2:
            raise Stopped

    data = DIGITS
    key = data.fingerprint()
    whole = GeneratorStore(tmp_path / "whole").obtain(Request(generator, data, key, CPU, silent))
    store = GeneratorStore(tmp_path / "broken", snapshot_every=0.0)
    shared: list[bytes] = []
    with pytest.raises(Stopped):
        store.obtain(Request(generator, data, key, CPU, lost), shared.append)
    assert store.snapshot(whole.key).exists()
    # Another worker, on another machine, that got the last snapshot.
    heir = GeneratorStore(tmp_path / "heir", snapshot_every=0.0)
    heir.snapshot(whole.key).write(shared[-1])
    got = heir.obtain(Request(generator, data, key, CPU, lambda done, total: steps.append(done)))
    assert steps == [2, 4, 5]
    assert not heir.snapshot(whole.key).exists()
    for one, other in ((got, whole), (heir.obtain(Request(generator, data, key, CPU, silent)), whole)):
        assert torch.equal(one.embedding.codes, other.embedding.codes)
        for part in ("encoder", "decoder"):
            ours, theirs = (getattr(e.embedding, part).state_dict() for e in (one, other))
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_damaged_snapshot_is_passed_over(tmp_path: Path) -> None:
    store = GeneratorStore(tmp_path)
    vae = Vae(generator_hidden=8, generator_iterations=120)
    request = Request(vae, DIGITS, DIGITS.fingerprint(), CPU, silent)
    store.snapshot(request.key).write(b"half a file")
    alone = Embedding.of(*vae.train(DIGITS.images, CPU, silent), DIGITS.images, CPU)
    assert torch.equal(store.obtain(request).embedding.codes, alone.codes)
