"""Stage 1: the objective against torch.distributions, the codes and reconstructions it gives, determinism."""

from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional

from alss_ray import rng
from alss_ray.generators import Embedding, Vae
from alss_ray.generators.store import GeneratorStore, Request
from alss_ray.tasks import Digits

CPU = torch.device("cpu")
DIGITS = Digits().load()
SMALL = Vae(generator_hidden=32, generator_iterations=30, generator_batch_size=32)


def silent(done: int, total: int) -> None:
    pass


def weights(pair: tuple[nn.Module, nn.Module]) -> Tensor:
    return torch.cat([p.detach().flatten() for part in pair for p in part.parameters()])


@pytest.fixture(scope="module")
def trained() -> Embedding:
    vae = Vae(generator_hidden=128, generator_iterations=1500)
    return Embedding.of(*vae.train(DIGITS.images, CPU, silent), DIGITS.images, CPU)


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_training_ascends_the_evidence_lower_bound(latent_dim: int) -> None:
    """The same steps with the bound written in torch.distributions: E[log p(x|z)] - KL(q(z|x) | N(0, I))."""
    vae = Vae(latent_dim, generator_hidden=16, generator_iterations=10, generator_batch_size=32)
    with rng.scope(0, "generator", "init"):
        encoder, decoder = vae.modules((1, 8, 8))
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    draws, noise = (rng.stream(0, "generator", name) for name in ("batches", "noise"))
    for _ in range(10):
        images = DIGITS.images[torch.randint(len(DIGITS.images), (32,), generator=draws)] / 255
        mean, log_variance = encoder.posterior(images)
        posterior = Normal(mean, (log_variance / 2).exp())
        points = posterior.loc + posterior.scale * torch.randn(mean.shape, generator=noise)
        pixels = Bernoulli(logits=decoder.logits(points), validate_args=False)  # grey values between 0 and 1
        bound = pixels.log_prob(images).sum((1, 2, 3)) - kl_divergence(posterior, Normal(0, 1)).sum(1)
        optimiser.zero_grad()
        (-bound.mean()).backward()
        optimiser.step()
    ours = vae.train(DIGITS.images, CPU, silent)
    torch.testing.assert_close(weights(ours), weights((encoder, decoder)), rtol=1e-3, atol=1e-5)


def test_unseen_images_are_reconstructed_far_better_than_by_the_mean_image(trained: Embedding) -> None:
    unseen = DIGITS.test_images / 255

    def cost(guess: Tensor) -> float:
        return functional.binary_cross_entropy(guess.expand_as(unseen), unseen, reduction="sum").item() / 450

    with torch.no_grad():
        rebuilt = cost(trained.decoder(trained.encoder(unseen)))
    floor = cost(unseen)  # the entropy of grey values, which no model can go below
    by_mean = cost((DIGITS.images / 255).mean(0, keepdim=True))
    assert rebuilt - floor < 0.6 * (by_mean - floor)


def test_codes_fill_the_prior_and_keep_the_classes_apart(trained: Embedding) -> None:
    with torch.no_grad():
        _, log_variance = trained.encoder.posterior(DIGITS.images / 255)  # type: ignore[operator]
    spread = trained.codes.square().mean(0) + log_variance.exp().mean(0)
    assert spread.min() > 0.4
    assert spread.max() < 2.5
    targets = DIGITS.oracle.targets  # type: ignore[attr-defined]
    distances = torch.cdist(trained.codes, trained.codes).fill_diagonal_(torch.inf)
    same = (targets[distances.argmin(1)] == targets).double().mean()
    assert same > 0.6  # 0.1 for codes that say nothing


def test_the_embedding_holds_the_posterior_means_of_the_pool(trained: Embedding) -> None:
    with torch.no_grad():
        mean, _ = trained.encoder.posterior(DIGITS.images / 255)  # type: ignore[operator]
    torch.testing.assert_close(trained.codes, mean)
    assert trained.codes.shape == (1347, 3)
    assert trained.codes.dtype == torch.float32


def test_sampled_codes_are_one_draw_of_each_posterior(tmp_path: Path) -> None:
    vae = Vae(generator_hidden=32, generator_iterations=60, codes="sample")
    data = DIGITS
    request = Request(vae, data, data.fingerprint(), CPU, silent)
    sampled = GeneratorStore(tmp_path).obtain(request).embedding
    with torch.no_grad():
        mean, log_variance = sampled.encoder.posterior(data.images / 255)  # type: ignore[operator]
    drawn = ((sampled.codes - mean) / (0.5 * log_variance).exp()).flatten()
    assert stats.kstest(drawn.numpy(), "norm").pvalue > 0.01
    assert torch.equal(GeneratorStore(tmp_path).obtain(request).embedding.codes, sampled.codes)
    again = Embedding.of(*vae.train(data.images, CPU, silent), data.images, CPU)
    assert torch.equal(again.codes, sampled.codes), "the draw has a stream of its own"
    means = Vae(generator_hidden=32, generator_iterations=60)
    assert Request(means, data, data.fingerprint(), CPU, silent).key != request.key
    plain = Embedding.of(*means.train(data.images, CPU, silent), data.images, CPU)
    torch.testing.assert_close(plain.codes, mean)


def test_the_embedding_is_frozen(trained: Embedding) -> None:
    for part in (trained.encoder, trained.decoder):
        assert not part.training
        assert not any(p.requires_grad for p in part.parameters())
    points = trained.codes[:5].clone().requires_grad_()
    trained.decoder(points).sum().backward()
    assert points.grad.abs().sum() > 0


def test_one_seed_gives_one_model_to_the_last_bit() -> None:
    torch.manual_seed(1)
    first = weights(SMALL.train(DIGITS.images, CPU, silent))
    torch.manual_seed(2)
    undisturbed = torch.rand(3)
    torch.manual_seed(2)
    again = weights(SMALL.train(DIGITS.images, CPU, silent))
    assert torch.equal(first, again)
    assert torch.equal(torch.rand(3), undisturbed)


@pytest.mark.parametrize(
    "other",
    [
        {"generator_seed": 1},
        {"generator_iterations": 31},
        {"generator_batch_size": 33},
        {"generator_learning_rate": 2e-3},
    ],
)
def test_another_setting_gives_another_model(other: dict[str, float]) -> None:
    settings = {"generator_hidden": 32, "generator_iterations": 30, "generator_batch_size": 32}
    one, two = (
        weights(v.train(DIGITS.images, CPU, silent)) for v in (Vae(**settings), Vae(**{**settings, **other}))
    )
    assert not torch.equal(one, two)


@pytest.mark.parametrize("steps", [1, 100, 250])
def test_progress_is_told_up_to_the_end(steps: int) -> None:
    heard = []
    vae = Vae(generator_hidden=8, generator_iterations=steps, generator_batch_size=8)
    vae.train(DIGITS.images, CPU, lambda done, total: heard.append((done, total)))
    assert heard[-1] == (steps, steps)
    assert heard == sorted(set(heard))
