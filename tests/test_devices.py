"""The device by name, and what a GPU is given; what needs one skips elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers import lasting, tiny
from torch import nn

from alss_ray import devices
from alss_ray.config import UsageError
from alss_ray.experiment import Run
from alss_ray.generators import AlphaGan
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import materials
from alss_ray.strategies import LatentMargin, Snn
from alss_ray.tasks import Digits

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_the_gpu_is_taken_where_there_is_one() -> None:
    assert devices.chosen().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert devices.chosen("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cuda9"])
def test_a_device_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(UsageError, match=f"--device {name} cannot be used") as caught:
        devices.chosen(name)
    assert "\n" not in str(caught.value)


def test_on_a_cpu_precision_stays_as_it_is() -> None:
    layer, given = devices.placed(nn.Conv2d(3, 4, 3), torch.device("cpu")), torch.randn(2, 3, 8, 8)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    with devices.mixed_precision(torch.device("cpu")):
        assert layer(given).dtype == torch.float32


def test_f_in_bfloat16_is_near_f_in_float32_and_keeps_float32_weights() -> None:
    draws = torch.Generator().manual_seed(0)
    exact = Digits().network().eval()
    images = torch.rand(50, 1, 8, 8, generator=draws)
    given = images.clone().requires_grad_()
    outputs = devices.InBfloat16(exact)(given)
    outputs.square().sum().backward()
    assert {outputs.dtype, given.grad.dtype, *(p.grad.dtype for p in exact.parameters())} == {torch.float32}
    with torch.inference_mode():
        error = (outputs - exact(images)).norm() / exact(images).norm()
    assert 1e-5 < error < 0.02  # bfloat16 rounds to 2^-9


def test_an_experiment_in_bfloat16_resumes_to_the_last_bit_and_differs_from_float32(tmp_path: Path) -> None:
    shared, stock = materials(Digits()), GeneratorStore(tmp_path / "stock")
    coarse, exact = (dataclasses.replace(tiny(strategy=LatentMargin()), bfloat16=on) for on in (True, False))
    list(Run(coarse, shared, tmp_path / "whole", stock).rounds())
    next(Run(coarse, shared, tmp_path / "broken", stock).rounds())
    list(Run(coarse, shared, tmp_path / "broken", stock).rounds())
    list(Run(exact, shared, tmp_path / "exact", stock).rounds())
    whole = lasting("rounds", tmp_path / "whole")
    assert whole.equals(lasting("rounds", tmp_path / "broken"))
    others = lasting("rounds", tmp_path / "exact")
    assert (whole["n_labels"], whole["bfloat16"].unique().to_pylist()) == (others["n_labels"], [True])
    assert whole["train_loss"] != others["train_loss"]


@gpu
def test_an_experiment_on_a_gpu_repeats_itself_and_resumes(tmp_path: Path) -> None:
    """In deterministic mode to the last bit, with stage 1 by an α-GAN, broken off after the first round."""
    devices.make_deterministic()
    try:
        going = tiny(strategy=Snn())
        going = type(going)(
            **{**vars(going), "generator": AlphaGan(generator_width=8, generator_iterations=20)}
        )
        shared = materials(Digits())
        for name in ("one", "other"):
            list(Run(going, shared, tmp_path / name, GeneratorStore(tmp_path / name / "stock")).rounds())
        next(Run(going, shared, tmp_path / "broken", GeneratorStore(tmp_path / "broken" / "stock")).rounds())
        list(Run(going, shared, tmp_path / "broken", GeneratorStore(tmp_path / "broken" / "stock")).rounds())
        whole = lasting("rounds", tmp_path / "one")
        assert whole.equals(lasting("rounds", tmp_path / "other"))
        assert whole.equals(lasting("rounds", tmp_path / "broken"))
    finally:
        torch.use_deterministic_algorithms(False)


@gpu
def test_training_on_a_gpu_runs_in_bfloat16_and_keeps_float32_weights() -> None:
    on = torch.device("cuda")
    layer = devices.placed(nn.Conv2d(3, 4, 3), on)
    with devices.mixed_precision(on):
        assert layer(torch.randn(2, 3, 8, 8, device=on)).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32
