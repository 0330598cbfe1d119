"""The device by name, and what a GPU is given; what needs one skips elsewhere."""

from __future__ import annotations

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
from alss_ray.strategies import Snn
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
