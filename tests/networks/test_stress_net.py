"""The stress network against Table S6: sizes, order of the layers, and what they compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from alss_ray.networks.stress_net import StressNet

DOWN = ((1, 8), (8, 16), (16, 32), (32, 64), (64, 64))
UP = ((64, 64), (64, 32), (32, 16), (16, 8), (8, 1))
"""Channels of Table S6, top to bottom; every kernel is 2 x 2, stride 1, no padding."""
SIDES = [63, 31, 30, 15, 14, 7, 6, 3, 2, 3, 6, 7, 14, 15, 30, 31, 62, 63]
"""Side of the maps wherever it changes: a convolution takes one off, a pool halves, a transposed one adds one,
an up-sampling doubles."""


def network(seed: int = 0) -> StressNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = StressNet()
        # Statistics that leave a trace, so that a batch normalisation that is missing is seen.
        for norm in (m for m in made.modules() if isinstance(m, nn.BatchNorm2d)):
            for values in (norm.weight.data, norm.running_var):
                values.uniform_(0.5, 2.0)
            for values in (norm.bias.data, norm.running_mean):
                values.uniform_(-0.3, 0.3)
    return made.eval()


def images(count: int = 3, seed: int = 1) -> Tensor:
    return torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


def test_the_parameters_are_those_of_the_table() -> None:
    kernels = sum(2 * 2 * inward * outward + outward for inward, outward in DOWN + UP)
    norms = sum(2 * outward for _, outward in (DOWN + UP)[:-1])
    assert kernels + norms == sum(p.numel() for p in StressNet().parameters()) == 55_249


def test_the_sides_go_down_to_two_and_up_to_sixty_three() -> None:
    seen: list[int] = []

    def note(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        if made.shape[-1] != given[0].shape[-1]:
            seen.append(made.shape[-1])

    made = network()
    for module in made.modules():
        if not list(module.children()):
            module.register_forward_hook(note)
    made(images(1))
    assert seen == SIDES


def by_the_table(made: StressNet, batch: Tensor) -> Tensor:
    """Table S6 row by row on the network's own numbers, in the order in which they are stored."""
    numbers = iter([v for k, v in made.state_dict().items() if not k.endswith("num_batches_tracked")])

    def norm_relu(x: Tensor) -> Tensor:
        scale, shift, mean, variance = (next(numbers).view(1, -1, 1, 1) for _ in range(4))
        return ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).relu()

    x = batch
    for row, (inward, outward) in enumerate(DOWN):
        kernel = next(numbers)
        assert kernel.shape == (outward, inward, 2, 2)
        x = norm_relu(functional.conv2d(x, kernel, next(numbers)))
        x = functional.max_pool2d(x, 2, 2) if row < 4 else x
    for row, (inward, outward) in enumerate(UP):
        kernel = next(numbers)
        assert kernel.shape == (inward, outward, 2, 2)
        x = functional.conv_transpose2d(x, kernel, next(numbers))
        if row < 4:
            x = norm_relu(x).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert next(numbers, None) is None
    return x.sigmoid()


def test_the_layers_compute_what_the_table_says() -> None:
    made, batch = network(), images()
    maps = by_the_table(made, batch)
    assert maps.shape == (3, 1, 63, 63)
    wanted = functional.interpolate(maps, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(made(batch), wanted, rtol=1e-4, atol=1e-6)


def test_maps_have_the_images_size_and_lie_between_zero_and_one() -> None:
    made = network()
    for batch in (images(), torch.zeros(2, 1, 64, 64), torch.ones(2, 1, 64, 64)):
        maps = made(batch)
        assert maps.shape == batch.shape
        assert 0 < maps.min() <= maps.max() < 1


def test_a_fresh_network_starts_near_the_maps_mean() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        maps = StressNet().eval()(images())
    assert 0.005 < maps.mean() < 0.15


def test_the_memory_format_of_the_images_does_not_matter() -> None:
    made, batch = network(), images(4)
    last = batch.expand(4, 1, 64, 64).contiguous(memory_format=torch.channels_last)
    turned = batch.transpose(2, 3).contiguous().transpose(2, 3)  # not contiguous at all
    assert not turned.is_contiguous()
    for other in (last, turned):
        assert torch.equal(made(batch), made(other))


def test_samples_do_not_mix_in_evaluation_mode() -> None:
    made, batch = network(), images(4)
    alone = torch.cat([made(one[None]) for one in batch])
    torch.testing.assert_close(made(batch), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["torch", "safetensors"])
def test_a_saved_network_is_the_same_again(how: str, tmp_path: Path) -> None:
    made, other, batch = network(0), network(7), images()
    assert not torch.equal(made(batch), other(batch))
    if how == "torch":
        torch.save(made.state_dict(), tmp_path / "file")
        state = torch.load(tmp_path / "file", weights_only=True)
    else:
        save_file({name: part.contiguous() for name, part in made.state_dict().items()}, tmp_path / "file")
        state = load_file(tmp_path / "file")
    other.load_state_dict(state)
    assert torch.equal(made(batch), other.eval()(batch))


def test_it_learns_a_map_that_follows_from_the_mask() -> None:
    """A quarter of the mask, which no constant map gives: the error falls well below the best constant's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = StressNet().train()
    axis = torch.arange(64) - 31.5
    distance = (axis[:, None] ** 2 + axis**2).sqrt()
    masks = torch.stack([((distance > r) & (distance < r + 9)).float() for r in range(8, 20, 2)])[:, None]
    targets = masks / 4
    optimiser = torch.optim.Adam(made.parameters(), 5e-3)
    for _ in range(100):
        optimiser.zero_grad()
        error = (made(masks) - targets).square().mean()
        error.backward()
        optimiser.step()
    assert error < targets.var() / 3
