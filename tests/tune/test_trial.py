"""The trial's own functions, called without Tune."""

from __future__ import annotations

import threading
from pathlib import Path

from helpers import tiny

from alss_ray import reading, results
from alss_ray.files import locked
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import materials
from alss_ray.places import Place
from alss_ray.strategies import Random
from alss_ray.tune.trial import reference


def test_the_reference_waits_for_whoever_is_at_the_same_experiment(tmp_path: Path) -> None:
    experiment, source = tiny(strategy=Random()), GeneratorStore(tmp_path / "generators")
    told = []
    work = threading.Thread(
        target=lambda: told.append(
            reference(experiment, materials(experiment.task), Place(tmp_path), source, 1)  # type: ignore[arg-type]
        )
    )
    with locked(tmp_path / results.STATE / f"{experiment.identity}.lock"):
        work.start()
        work.join(1.0)
        assert work.is_alive()
        assert not list(tmp_path.glob("records/*"))
    work.join(60)
    assert told == [None]
    assert reading.read("rounds", [tmp_path]).table["t"].to_pylist() == [1, 2, 3]
