"""Named random streams: reproducible, independent of each other and of what was drawn before."""

import itertools

import pytest
import torch
from scipy import stats

from alss_ray import rng


def first(seed: int, *names: str | int, count: int = 8) -> torch.Tensor:
    return torch.rand(count, generator=rng.stream(seed, *names), dtype=torch.float64)


@pytest.mark.parametrize(
    ("parts", "sha256"),
    [  # printf '0/init' | sha256sum
        ((0, "init"), "2a29a3e290b9715c235677a5b760058dce65707e75709c0a1d4cff2bc3e2471d"),
        ((7, "proposal", 3, 0), "0075dee082487992293d4a2f5f960aaeb5f49fedba10288c9aa3617ee742567e"),
    ],
)
def test_seeds_are_those_of_sha256(parts: tuple[int | str, ...], sha256: str) -> None:
    """The value is fixed: results folders of older versions must resume with the same streams."""
    seed, *names = parts
    assert rng.stream_seed(int(seed), *names) == int(sha256[:16], 16) // 2


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    before = first(3, "batches", 2)
    torch.rand(100)
    first(3, "batches", 1)
    assert torch.equal(first(3, "batches", 2), before)


def test_every_part_of_the_name_counts() -> None:
    asked = [(0,), (1,), (0, "a"), (0, "b"), (1, "a"), (0, "a", 1), (0, "a", 2), (0, "a", 1, 2), (0, "a", 12)]
    for one, other in itertools.combinations(asked, 2):
        assert not torch.equal(first(*one), first(*other)), (one, other)


def test_streams_of_neighbouring_rounds_and_seeds_are_independent() -> None:
    draws = torch.stack([first(seed, "proposal", t, count=2) for seed in range(50) for t in range(40)])
    assert len(draws[:, 0].unique()) == len(draws)
    assert stats.kstest(draws[:, 0].numpy(), "uniform").pvalue > 1e-3
    assert abs(stats.pearsonr(draws[:-1, 0].numpy(), draws[1:, 0].numpy()).statistic) < 0.08
    assert abs(stats.pearsonr(draws[:, 0].numpy(), draws[:, 1].numpy()).statistic) < 0.08


def test_scope_seeds_the_global_stream_and_gives_it_back() -> None:
    torch.manual_seed(1)
    undisturbed = torch.rand(4)
    torch.manual_seed(1)
    with rng.scope(0, "init"):
        inside = torch.rand(4)
    assert torch.equal(torch.rand(4), undisturbed)
    torch.rand(9)
    with rng.scope(0, "init"):
        assert torch.equal(torch.rand(4), inside)
    with rng.scope(0, "fit"):
        assert not torch.equal(torch.rand(4), inside)


def test_scope_gives_the_global_stream_back_after_an_error() -> None:
    torch.manual_seed(2)
    undisturbed = torch.rand(4)
    torch.manual_seed(2)
    with pytest.raises(ZeroDivisionError), rng.scope(0, "init"):
        torch.rand(1).item() / 0
    assert torch.equal(torch.rand(4), undisturbed)
