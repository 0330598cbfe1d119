"""Sampling by interpolation in an experiment whose oracle refuses images: counted, replaced, never used."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers import tiny
from torch import Tensor, nn

from alss_ray.config import UsageError, local
from alss_ray.experiment import Run
from alss_ray.generators import Embedding
from alss_ray.generators.store import GeneratorStore, Request, Stocked
from alss_ray.materials import materials
from alss_ray.oracles import ImageBatch, Labels
from alss_ray.strategies import Si
from alss_ray.tasks import Digits, TaskData


@dataclass(frozen=True)
class Brightness:
    """1 where an image is bright, else 0; dark ones are refused, and so are those whose bytes add up to 3 k."""

    dark: float = 60.0
    bright: float = 128.0
    fussy: bool = False
    seen: list[np.ndarray] = local(default_factory=list)

    def verdict(self, image: np.ndarray) -> int | str:
        if image.mean() < self.dark:
            return "too dark"
        if self.fussy and int(image.sum(dtype=np.int64)) % 3 == 0:
            return "divisible"
        return int(image.mean() > self.bright)

    def label(self, images: ImageBatch) -> Labels:
        verdicts = [self.verdict(image) for image in images]
        self.seen.extend(image.copy() for image in images)
        refusals = {k: verdict for k, verdict in enumerate(verdicts) if isinstance(verdict, str)}
        # What stands in a refused row must never be used: it is no class at all.
        return Labels(torch.tensor([-7 if k in refusals else v for k, v in enumerate(verdicts)]), refusals)


@dataclass(frozen=True)
class Bright(Digits):
    """Is it bright? On the digits' images, labelled on demand."""

    fussy: bool = False
    name: ClassVar[str] = "test_si_rounds:Bright"

    def load(self) -> TaskData:
        data, oracle = super().load(), Brightness(fussy=self.fussy)
        answer = Brightness().label(ImageBatch(data.test_images, torch.arange(len(data.test_images))))
        good = torch.tensor([k not in answer.refusals for k in range(len(data.test_images))])
        return TaskData(data.images, data.test_images[good], answer.values[good], oracle, Path("unused"))


class Glow(nn.Module):
    """G: the first coordinate is the brightness, the second a tilt from left to right."""

    def forward(self, points: Tensor) -> Tensor:
        ramp = torch.linspace(-1, 1, 8)
        level = points[:, :1, None, None] + 0.5 * points[:, 1:2, None, None] * ramp
        return level.expand(-1, 1, 8, 8).sigmoid()


class Sight(nn.Module):
    """E: brightness, and that of the right half beside the left one's."""

    def forward(self, images: Tensor) -> Tensor:
        left, right = (half.mean((1, 2, 3)) for half in images.split(4, 3))
        return torch.stack([left + right - 1, right - left], 1)


@dataclass
class Given:
    """A source that trains nothing."""

    decoder: nn.Module = field(default_factory=Glow)

    def obtain(self, request: Request) -> Stocked:
        codes = torch.randn(len(request.data.images), 2, generator=torch.Generator().manual_seed(2))
        return Stocked(Embedding(Sight(), self.decoder, codes), "0" * 16, False, 0.0)


def run(strategy: Si, folder: Path, **options: Any) -> tuple[list[dict[str, Any]], Run, Brightness]:
    materials.cache_clear()
    experiment = tiny(Bright(**options), strategy)
    going = Run(experiment, materials(experiment.task), folder, Given())
    oracle = materials(experiment.task).data.oracle
    assert isinstance(oracle, Brightness)
    oracle.seen.clear()  # the validation set's
    return list(going.rounds()), going, oracle


VARIANTS = [
    Si(),
    Si(fed="mask"),
    Si(stepped_from="fresh", spread="data"),
    Si(direction="random"),
    Si(first="real"),
]


@pytest.mark.parametrize(
    "strategy", VARIANTS, ids=lambda s: f"{s.first}-{s.stepped_from}-{s.direction}-{s.fed}"
)
def test_refused_images_are_counted_replaced_and_never_used(strategy: Si, tmp_path: Path) -> None:
    rows, going, oracle = run(strategy, tmp_path)
    assert [row["n_labels"] for row in rows] == [10, 20, 30]
    assert [row["n_new"] for row in rows] == [10, 10, 10]
    refused = [image for image in oracle.seen if isinstance(oracle.verdict(image), str)]
    counted = [json.loads(row["refusal_reasons"]) for row in rows]
    assert sum(sum(reasons.values()) for reasons in counted) == len(refused) > 0
    assert set().union(*counted) == {"too dark"}
    assert [row["refusals"] for row in rows] == [sum(reasons.values()) for reasons in counted]
    assert sum(row["oracle_calls"] for row in rows) == len(oracle.seen) == 30 + len(refused)

    known = going.state.labelled
    assert known.rounds.tolist() == [1] * 10 + [2] * 10 + [3] * 10
    real = 10 if strategy.first == "real" else 0
    assert (known.indices[:real] >= 0).all()
    assert (known.indices[real:] == -1).all()
    assert known.made.tolist() == [False] * real + [True] * (30 - real)
    with torch.inference_mode():
        decoded = Glow()(known.points[real:].cpu()).double().numpy()
    grey = np.rint(decoded * 255).astype(np.uint8)
    wanted = [oracle.verdict(image) for image in grey]
    assert known.targets[real:].tolist() == wanted
    assert set(known.targets.tolist()) <= {0, 1}
    fed = np.where(decoded >= 0.5, 255, 0) if strategy.fed == "mask" else grey
    assert np.array_equal(known.images[real:].cpu().numpy(), fed)


@pytest.mark.parametrize("redraw_every", [0, 1])
@pytest.mark.parametrize("direction", ["gradient", "random"])
def test_refused_images_are_replaced_by_others(direction: Any, redraw_every: int, tmp_path: Path) -> None:
    """A replacement that repeats a step of its round would be refused again, or be bought twice."""
    rows, going, _ = run(Si(direction=direction, redraw_every=redraw_every), tmp_path, fussy=True)
    assert [row["n_labels"] for row in rows] == [10, 20, 30]
    assert all(row["refusals"] > 0 for row in rows)
    distinct = [len(part.unique(dim=0)) for part in going.state.labelled.points.split(10)]
    assert distinct == [10, 10, 10], "no round may hold one point twice"


def test_a_task_of_stored_labels_is_refused_in_a_sentence(tmp_path: Path) -> None:
    experiment = tiny(Digits(), Si())
    with pytest.raises(UsageError) as told:
        Run(experiment, materials(experiment.task), tmp_path, GeneratorStore(tmp_path / "generators"))
    sentence = str(told.value)
    assert "strategy si synthesises images" in sentence
    assert "task digits has stored labels only" in sentence
    assert sentence.endswith("choose another --strategy or --task.")
    assert "\n" not in sentence
    assert not list(tmp_path.iterdir())
