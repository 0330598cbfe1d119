"""An experiment as data: what counts for its identity, and what it refuses."""

import dataclasses
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

import pytest

from alss_ray.config import (
    Experiment,
    UsageError,
    column_types,
    component_name,
    digest,
    flatten,
    local,
    scalar_type,
)
from alss_ray.generators import Vae
from alss_ray.strategies import Random, Snn
from alss_ray.tasks import Digits, Mnist

BASE = Experiment(task=Digits(), strategy=Snn(), generator=Vae())

OTHER_SETTINGS = {
    "round_size": 21,
    "label_budget": 301,
    "validation_share": 0.25,
    "iterations": 151,
    "batch_size": 65,
    "learning_rate": 2e-3,
    "retrain": True,
    "evaluate_every": 0,
    "score_limit": 100,
    "decoded_beside": True,
    "bfloat16": True,
    "task": Mnist(),
    "strategy": Random(),
    "generator": None,
}
OTHER_SNN = {
    "alpha": 0.5,
    "direction": "random",
    "normalise": False,
    "exclude_labelled": False,
    "decoded": True,
    "redraw_every": 2,
}
OTHER_VAE = {
    "latent_dim": 4,
    "generator_hidden": 401,
    "generator_iterations": 3001,
    "generator_batch_size": 129,
    "generator_learning_rate": 2e-3,
    "generator_seed": 1,
    "codes": "sample",
}


def names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_every_field_but_the_seed_makes_another_configuration() -> None:
    """Guards against a field that two different experiments could differ in unnoticed."""
    assert names(Experiment) == {*OTHER_SETTINGS, "seed"}
    assert (names(Snn), names(Vae)) == (set(OTHER_SNN), set(OTHER_VAE))
    variants = [dataclasses.replace(BASE, **{name: value}) for name, value in OTHER_SETTINGS.items()]
    variants += [dataclasses.replace(BASE, strategy=Snn(**{n: v})) for n, v in OTHER_SNN.items()]
    variants += [dataclasses.replace(BASE, generator=Vae(**{n: v})) for n, v in OTHER_VAE.items()]
    for hashes in ({e.identity for e in [BASE, *variants]}, {e.configuration for e in [BASE, *variants]}):
        assert len(hashes) == 1 + len(variants)


def test_replicates_share_the_configuration_and_not_the_identity() -> None:
    replicate = dataclasses.replace(BASE, seed=1)
    assert replicate.configuration == BASE.configuration
    assert replicate.identity != BASE.identity


def test_where_the_data_lie_is_not_what_they_are() -> None:
    here, there = (
        Experiment(task=Mnist(data_dir=Path(folder)), strategy=Random()) for folder in ("here", "there")
    )
    assert here.identity == there.identity
    assert "data_dir" not in flatten(here)
    assert flatten(here, identity_only=False)["data_dir"] == "here"


def test_local_fields_stay_out_of_a_components_digest() -> None:
    @dataclass(frozen=True)
    class Part:
        size: int = 1
        folder: str = local(default="a")

    assert digest(Part(folder="b")) == digest(Part())
    assert (
        len({digest(Part()), digest(Part(size=2)), digest(Part(), data="x"), digest(Part(), data="y")}) == 4
    )


def test_alpha_does_not_count_where_there_is_no_step() -> None:
    controls = [
        dataclasses.replace(BASE, strategy=Snn(alpha=alpha, direction="none")) for alpha in (0.0, 2, -1)
    ]
    assert len({control.identity for control in controls}) == 1


def test_a_whole_number_in_a_real_field_is_the_same_number() -> None:
    """A search over Choice((1, 2)) and a command line with --alpha 1 mean one experiment."""
    whole, real = (dataclasses.replace(BASE, strategy=Snn(alpha=alpha)) for alpha in (1, 1.0))
    assert whole.identity == real.identity


def test_identity_is_the_same_in_another_process_which_needs_no_torch() -> None:
    script = (
        "import sys; from dataclasses import dataclass; from alss_ray.config import Experiment\n"
        "@dataclass(frozen=True)\n"
        "class Part:\n    size: int = 3\n    name = 'part'\n"
        "e = Experiment(task=Part(), strategy=None, seed=4)\n"
        "print(e.identity, e.configuration, 'torch' in sys.modules, 'ray' in sys.modules)"
    )

    def told(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)

    first = told("1").split()
    assert first == told("2").split()
    assert first[2:] == ["False", "False"]


def test_two_parts_with_one_field_name_are_refused() -> None:
    @dataclass(frozen=True)
    class Clashing:
        latent_dim: int = 1

    with pytest.raises(UsageError, match=r"'latent_dim'.*rename"):
        _ = dataclasses.replace(BASE, strategy=Clashing()).identity


@pytest.mark.parametrize("name", ["bfloat16", "decoded_beside"])
def test_what_came_late_joins_the_identity_only_where_it_is_asked_for(name: str) -> None:
    """Experiments from before there was such a field keep their identities and columns."""
    asked = dataclasses.replace(BASE, **{name: True})
    assert name not in flatten(BASE)
    assert flatten(asked) == {**flatten(BASE), name: True}
    assert column_types(asked)[name] is bool
    assert dataclasses.replace(BASE, **{name: False}).identity == BASE.identity != asked.identity


def test_decoded_images_need_a_generator() -> None:
    with pytest.raises(
        UsageError, match=r"--decoded-beside needs a generator, and the strategy random has none"
    ):
        Experiment(task=Digits(), strategy=Random(), decoded_beside=True)


def test_flat_fields_have_the_types_of_their_columns() -> None:
    types, values = column_types(BASE), flatten(BASE)
    assert list(types) == list(values)
    assert {
        "task": "digits",
        "strategy": "snn",
        "generator": "vae",
        "latent_dim": 3,
    }.items() <= values.items()
    assert all(type(value) is types[name] for name, value in values.items())
    without = dataclasses.replace(BASE, strategy=Random(), generator=None)
    assert flatten(without)["generator"] is None
    assert column_types(without)["generator"] is str


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        (int, int),
        (bool, bool),
        (float | None, float),
        (None | int, int),
        (Optional[str], str),  # noqa: UP045
        (Literal["a", "b"], str),
        (Literal[1, 2] | None, int),
        (Path, str),
        (Path | None, str),
    ],
)
def test_scalar_type_looks_through_annotations(hint: object, kind: type) -> None:
    assert scalar_type(hint) is kind


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"round_size": 0}, "round_size is 0; give 1 or more"),
        ({"label_budget": -3}, "label_budget is -3; give 1 or more"),
        ({"iterations": 0}, "iterations is 0; give 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; give 1 or more"),
        ({"evaluate_every": -1}, "evaluate_every is -1; give 0 or more"),
        ({"seed": -1}, "seed is -1; give 0 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; give a finite number above 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan; give a finite number above 0"),
        ({"validation_share": math.inf}, "validation_share is inf; give a finite number above 0"),
        ({"validation_share": -0.5}, "validation_share is -0.5; give a finite number above 0"),
        ({"round_size": 30, "label_budget": 29}, "label budget of 29 is below one round of 30; raise"),
    ],
)
def test_bad_settings_are_named_with_the_remedy(values: dict[str, float], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        dataclasses.replace(BASE, **values)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        (Snn, {"alpha": 0.0}, "alpha is 0.0"),
        (Snn, {"alpha": -0.5}, "alpha is -0.5"),
        (Snn, {"alpha": math.nan}, "alpha is nan"),
        (Snn, {"alpha": math.inf, "direction": "random"}, "alpha is inf"),
        (Snn, {"redraw_every": -1}, "redraw_every is -1"),
        (Vae, {"latent_dim": 0}, "latent_dim is 0"),
        (Vae, {"generator_hidden": 0}, "generator_hidden is 0"),
        (Vae, {"generator_iterations": 0}, "generator_iterations is 0"),
        (Vae, {"generator_batch_size": -2}, "generator_batch_size is -2"),
        (Vae, {"generator_seed": -1}, "generator_seed is -1"),
        (Vae, {"generator_learning_rate": math.nan}, "generator_learning_rate is nan"),
    ],
)
def test_bad_options_of_components_are_named(kind: type, values: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=rf"{told}; give "):
        kind(**values)


@pytest.mark.parametrize("size", [1, 7, 20, 299, 300])
def test_rounds_are_those_it_takes_to_spend_the_budget(size: int) -> None:
    experiment = dataclasses.replace(BASE, round_size=size)
    left, rounds = experiment.label_budget, 0
    while left > 0:
        left, rounds = left - min(size, left), rounds + 1
    assert experiment.rounds == rounds


@pytest.mark.parametrize(("share", "size"), [(0.5, 150), (0.2, 60), (1.5, 450), (1e-9, 1)])
def test_validation_size_is_tied_to_the_budget_and_never_zero(share: float, size: int) -> None:
    assert dataclasses.replace(BASE, validation_share=share).validation_size == size


def test_a_users_own_class_is_named_by_where_it_stands() -> None:
    @dataclass(frozen=True)
    class Own:
        pass

    assert component_name(Own()) == component_name(Own) == f"{__name__}:{Own.__qualname__}"
    assert component_name(Snn()) == "snn"
