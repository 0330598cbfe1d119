"""Components by name: shipped, a user's own, and every way in which a name can be wrong."""

import sys
from pathlib import Path

import pytest

from alss_ray.catalogue import SHIPPED, experiment_from, find
from alss_ray.config import Experiment, UsageError, flatten
from alss_ray.generators import Vae
from alss_ray.strategies import Random, Snn
from alss_ray.tasks import Digits, Mnist

OWN = """
from dataclasses import dataclass
from pathlib import Path
from alss_ray.strategies import Random

@dataclass(frozen=True)
class Derived(Random):
    depth: int = 3

@dataclass(frozen=True)
class Nearest(Random):
    name = "nearest"
    depth: int = 3
    table: Path = Path("table.csv")

class Plain:
    pass
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module in the folder they work in."""
    (tmp_path / "own_components.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    monkeypatch.delitem(sys.modules, "own_components", raising=False)
    return "own_components"


@pytest.mark.parametrize(("role", "name"), [(r, name) for r, known in SHIPPED.items() for name in known])
def test_shipped_components_are_found_and_work_without_options(role: str, name: str) -> None:
    kind = find(role, name)
    assert kind is SHIPPED[role][name]
    assert kind().name == name


@pytest.mark.parametrize("name", ["Nearest", "Derived"])
def test_a_users_own_class_is_found_beside_their_work_and_found_again(own_module: str, name: str) -> None:
    """Trials of a sweep get their experiment as plain values: the class must be found from those."""
    kind = find("strategy", f"{own_module}:{name}")
    assert kind().depth == 3
    experiment = Experiment(task=Digits(), strategy=kind(depth=5))
    again = experiment_from(flatten(experiment, identity_only=False))
    assert type(again.strategy) is kind
    assert again == experiment


def test_paths_are_paths_again(own_module: str) -> None:
    kind = find("strategy", f"{own_module}:Nearest")
    flat = flatten(Experiment(task=Digits(), strategy=kind()), identity_only=False)
    again = experiment_from({**flat, "strategy": f"{own_module}:Nearest", "table": "other.csv"})
    assert again.strategy.table == Path("other.csv")


@pytest.mark.parametrize(
    "experiment",
    [
        Experiment(task=Digits(), strategy=Random()),
        Experiment(
            task=Mnist(data_dir=Path("/data/of mine"), download=True),
            strategy=Snn(alpha=0.3, direction="random", redraw_every=0),
            generator=Vae(latent_dim=7),
            seed=5,
            retrain=True,
            round_size=500,
            label_budget=5000,
        ),
        Experiment(task=Digits(), strategy=Snn(direction="none"), generator=Vae(), evaluate_every=0),
    ],
    ids=["random", "mnist", "control"],
)
def test_an_experiment_survives_being_written_as_plain_values(experiment: Experiment) -> None:
    again = experiment_from(flatten(experiment, identity_only=False))
    assert again == experiment
    assert again.identity == experiment.identity


@pytest.mark.parametrize(
    ("role", "name", "told"),
    [
        (
            "task",
            "digts",
            r"no task 'digts'; did you mean 'digits'\? .* cifar10, digits, folder, ivus, mnist.* package\.module:Name",
        ),
        ("strategy", "qqq", r"no strategy 'qqq'; The strategy can be .*snn"),
        ("generator", "", r"no generator ''; The generator can be alpha_gan, vae"),
        ("task", "no_such_module:Task", r"'no_such_module:Task' cannot be imported .*give it as package"),
        ("task", "alss_ray.config:Nothing", r"'alss_ray.config:Nothing' cannot be imported .*give it as"),
        ("task", "alss_ray.config:", r"'alss_ray.config:' cannot be imported .*give it as package"),
        ("task", ":Digits", r"':Digits' cannot be imported .*give it as package"),
        ("task", ".digits:Digits", r"'.digits:Digits' cannot be imported .*give it as package"),
        ("task", "alss_ray.config:flatten", r"'alss_ray.config:flatten' is not a dataclass"),
        ("strategy", "own_components:Plain", r"'own_components:Plain' is not a dataclass"),
    ],
)
@pytest.mark.usefixtures("own_module")
def test_wrong_names_are_refused_in_one_sentence(role: str, name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        find(role, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("strategy", "alss_ray.tasks.digits:Digits"),
        ("task", "alss_ray.strategies.snn:Snn"),
        ("generator", "alss_ray.config:Settings"),
    ],
)
def test_a_component_of_another_role_is_refused(role: str, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        find(role, name)


def test_a_field_that_no_part_has_is_named_with_those_there_are() -> None:
    flat = flatten(Experiment(task=Digits(), strategy=Random()), identity_only=False)
    with pytest.raises(UsageError, match=r"'alpha'; it has .*round_size"):
        experiment_from({**flat, "alpha": 1.0})


def test_values_are_checked_on_the_way_back() -> None:
    flat = flatten(Experiment(task=Digits(), strategy=Snn(), generator=Vae()), identity_only=False)
    with pytest.raises(UsageError, match="alpha is -1"):
        experiment_from({**flat, "alpha": -1.0})
