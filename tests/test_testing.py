"""The shipped conformance checks: our own components pass them, and components that break the contract do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from alss_ray.generators import Vae
from alss_ray.strategies import Query, Random, Si, Snn, View
from alss_ray.tasks import Digits, Mnist
from alss_ray.testing import check_generator, check_strategy, check_task


@pytest.mark.parametrize(
    "strategy",
    [
        Random(),
        Snn(),
        Snn(direction="random"),
        Snn(direction="none"),
        Snn(normalise=False),
        Snn(decoded=True),
        Snn(redraw_every=0),
        Si(),
        Si(direction="none", stepped_from="fresh", spread="data"),
        Si(stepped_from="fresh", fed="mask", first="real"),
    ],
    ids=repr,
)
def test_strategies_conform(strategy: object) -> None:
    check_strategy(strategy, Digits())


def test_snn_as_written_conforms_but_for_repeats() -> None:
    check_strategy(Snn(exclude_labelled=False), Digits(), distinct=False)


def test_digits_conforms() -> None:
    check_task(Digits())


def test_mnist_conforms(mnist_dir: Path) -> None:
    check_task(Mnist(mnist_dir))


def test_vae_conforms() -> None:
    check_generator(Vae(latent_dim=2, generator_iterations=20), Digits().load().images[:200])


@dataclass(frozen=True)
class Broken:
    """Breaks the contract in the way that is named."""

    how: str = ""
    name: ClassVar[str] = "test_testing:Broken"
    needs_embedding: ClassVar[bool] = False
    makes_images: ClassVar[bool] = False
    fills_first_round: ClassVar[bool] = False
    learns: ClassVar[str] = "anything"
    committee: ClassVar[int] = 1

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        free = view.free.nonzero()[:, 0]
        if self.how == "chance":
            return Query(free[torch.randperm(len(free))[:count]])
        if self.how == "short":
            return Query(free[: count - 1])
        if self.how == "labelled":
            return Query(torch.cat([view.labelled.indices[:1], free[: count - 1]]))
        if self.how == "twice":
            return Query(free[:1].repeat(count))
        if self.how == "validation":
            return Query(view.barred.nonzero()[:count, 0])
        if self.how == "meddles":
            view.labelled.targets[0] += 1
        if self.how == "trains":
            view.network.train()
        if self.how == "empty":
            return Query(torch.full((count,), -1))
        return Query(free[:count])


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("chance", "all chance must come from the stream"),
        ("short", "12 samples were asked for, 11 proposed"),
        ("labelled", "labelled samples must not be asked for again"),
        ("twice", "distinct samples"),
        ("validation", "validation samples and refused ones"),
        ("meddles", "the view must not be changed, but targets was"),
        ("trains", "left in evaluation mode"),
        ("empty", "must bring its image"),
    ],
)
def test_a_broken_strategy_is_caught(how: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_strategy(Broken(how), Digits())
