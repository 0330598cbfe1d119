"""The round loop: what it buys, what it pairs, and that no kill can change its records."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import LedgerDigits, lasting, sold, tiny

from alss_ray import reading
from alss_ray.checkpoint import Checkpoint
from alss_ray.config import Experiment, ExperimentFailed, UsageError
from alss_ray.experiment import PHASES, Run
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import Materials, materials
from alss_ray.metrics import aulc
from alss_ray.strategies import Entropy, Margin, Random, Snn
from alss_ray.strategies.base import Query, View
from alss_ray.tasks import Digits

EVOLVING = Snn(redraw_every=0)
"""With the paths of its points in the records, so that what they take stands in the tests of kills, too."""


def at(experiment: Experiment, folder: Path) -> Run:
    followed = 4 if experiment.strategy == EVOLVING else 0
    source = GeneratorStore(folder / "generators")
    return Run(experiment, materials(experiment.task), folder, source, followed=followed)


def run(experiment: Experiment, folder: Path) -> list[dict]:
    return list(at(experiment, folder).rounds())


def test_buys_the_budget_in_rounds_the_last_one_incomplete(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    rows = run(tiny(LedgerDigits(ledger), label_budget=25), tmp_path)
    assert [row["t"] for row in rows] == [1, 2, 3]
    assert [row["n_labels"] for row in rows] == [10, 20, 25]
    assert [row["n_new"] for row in rows] == [10, 10, 5]
    assert all(row["n_distinct"] == row["n_labels"] and row["n_val_labels"] == 25 for row in rows)
    assert sum(row["oracle_calls"] for row in rows) == 25
    assert len(sold(ledger)) == len(set(sold(ledger))) == 50  # 25 to train on, 25 to validate on


def test_arms_of_a_comparison_are_paired_by_seed(tmp_path: Path) -> None:
    arms = [tiny(strategy=Random()), tiny(), tiny(strategy=Snn(direction="random"))]
    first, *others = [run(arm, tmp_path / arm.identity)[0] for arm in arms]
    same = ("val_metric", "val_loss", "test_metric", "test_loss", "train_loss", "new_loss", "val_guess")
    for other in others:
        assert {name: other[name] for name in same} == {name: first[name] for name in same}
    other_seed = run(tiny(seed=1), tmp_path / "other")[0]
    assert other_seed["test_loss"] != first["test_loss"]


def test_a_limit_to_scoring_holds_and_offers_all_arms_the_same(tmp_path: Path) -> None:
    seen: dict[type, list] = {Margin: [], Entropy: []}
    for kind, offers in seen.items():

        class Watched(kind):  # type: ignore[misc, valid-type]
            def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
                query = super().propose(view, count, rng)
                offers.append(view.offered)  # noqa: B023
                assert view.offered is not None
                assert set(query.indices.tolist()) <= set(view.offered.tolist())
                assert view.free[view.offered].all()
                return query

        rows = run(tiny(strategy=Watched(), score_limit=60), tmp_path / kind.__name__)
        assert [row["scored"] for row in rows] == [0, 60, 60]
    offers = list(zip(*seen.values(), strict=True))
    assert torch.equal(*offers[0])  # later ones lack what was labelled
    unlimited = run(tiny(strategy=Margin()), tmp_path / "all")
    assert [row["scored"] for row in unlimited] == [0, 1347 - 30 - 10, 1347 - 30 - 20]
    with pytest.raises(UsageError, match="score-limit is 9, fewer than the 10"):
        tiny(score_limit=9)


def test_scores_are_those_of_the_saved_network(tmp_path: Path) -> None:
    """The last row's test metric against the stored weights, put into a plain network."""
    experiment = tiny(strategy=Random())
    rows = run(experiment, tmp_path)
    state, about = Checkpoint(tmp_path / "state" / experiment.identity).load()
    network = Digits().network()
    Checkpoint(tmp_path / "state" / experiment.identity).load_networks(
        about["network"], [(network, torch.optim.Adam(network.parameters()))]
    )
    data = Digits().load()
    with torch.inference_mode():
        right = network(data.test_images / 255).argmax(1) == data.test_targets
    assert rows[-1]["test_metric"] == pytest.approx(right.double().mean().item())
    bought = state["labelled.indices"]
    assert torch.equal(state["labelled.targets"], data.oracle.targets[bought])


def test_aulc_in_the_records_is_that_of_their_own_curve(tmp_path: Path) -> None:
    rows = run(tiny(), tmp_path)
    labels, values = [row["n_labels"] for row in rows], [row["val_metric"] for row in rows]
    assert rows[-1]["val_aulc"] == aulc(rows[0]["val_guess"], labels, values)
    area = np.trapezoid([rows[0]["val_guess"], *values], [0, *labels]) / labels[-1]
    assert rows[-1]["val_aulc"] == pytest.approx(area)


def test_warm_start_keeps_the_weights_and_retraining_does_not(tmp_path: Path) -> None:
    warm, fresh = (
        run(tiny(strategy=Random(), retrain=retrain, iterations=40), tmp_path / str(retrain))
        for retrain in (False, True)
    )
    assert warm[0]["test_loss"] == fresh[0]["test_loss"]
    assert warm[-1]["train_loss"] < fresh[-1]["train_loss"]  # it starts from what it knows


def test_decoded_images_are_trained_on_and_not_bought(tmp_path: Path) -> None:
    with_them, without = (
        run(tiny(LedgerDigits(tmp_path / f"ledger {beside}"), decoded_beside=beside), tmp_path / str(beside))
        for beside in (True, False)
    )
    assert [row["n_labels"] for row in with_them] == [row["n_labels"] for row in without]
    assert len(sold(tmp_path / "ledger True")) == len(sold(tmp_path / "ledger False"))
    assert with_them[0]["new_loss"] == without[0]["new_loss"]
    assert with_them[0]["test_loss"] != without[0]["test_loss"]


@pytest.mark.parametrize(
    "strategy",
    [
        Snn(exclude_labelled=False, direction="none"),
        Snn(decoded=True),
        Snn(redraw_every=0),
        Snn(redraw_every=2, normalise=False),
    ],
    ids=["as written", "decoded", "evolving", "raw"],
)
def test_options_of_algorithm_1(strategy: Snn, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    rows = run(tiny(LedgerDigits(ledger), strategy), tmp_path)
    assert [row["n_labels"] for row in rows] == [10, 20, 30]
    assert len(sold(ledger)) == len(set(sold(ledger)))
    if not strategy.exclude_labelled:
        # Without a step, the nearest sample of a labelled one is itself: nothing new is ever bought.
        assert [row["n_distinct"] for row in rows] == [10, 10, 10]
        assert [row["oracle_calls"] for row in rows] == [10, 0, 0]
        assert rows[-1]["already_labelled_share"] == 1.0


def test_diverging_training_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ExperimentFailed, match=r"diverged in round 1.*--learning-rate"):
        run(tiny(strategy=Random(), learning_rate=1e30), tmp_path)
    (row,) = reading.read("failures", [tmp_path]).table.to_pylist()
    assert (row["t"], row["n_labels"]) == (1, 10)
    assert row["failure"].startswith("Training diverged in round 1")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"round_size": 1400, "label_budget": 1400}, "1400 is larger than the pool of 1347"),
        ({"label_budget": 800}, "800 and 800 validation labels exceed the pool of 1347"),
    ],
)
def test_a_pool_too_small_is_told_before_any_work(change: dict, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        run(tiny(**change), tmp_path)
    assert not list(tmp_path.iterdir())


# --- kill -9 ---------------------------------------------------------------------------------------------

spawner = multiprocessing.get_context("forkserver")
spawner.set_forkserver_preload(["torch", "sklearn.datasets", "alss_ray.experiment"])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def work(experiment: Experiment, folder: Path, where: str, t: int) -> None:
    """Run an experiment in this process and kill it at a point of round t; no `where`, no kill."""
    torch.set_num_threads(1)
    phase, _, moment = where.partition(":")
    method = getattr(Run, f"_{phase}", None)
    save = Checkpoint.save

    def killed(self: Run) -> None:
        if self.state.t != t:
            return method(self)
        if moment == "before":
            die()
        if moment == "within":
            steps = iter(range(7))
            loss = type(self.task).loss
            type(self.task).loss = lambda *args: loss(*args) if next(steps, None) is not None else die()
        method(self)
        if moment == "after":
            die()
        if moment == "saving":  # the network's file is written, the state that names it is not
            Checkpoint.save = lambda *args, **kwargs: die()

    if method:
        setattr(Run, f"_{phase}", killed)
    try:
        for row in at(experiment, folder).rounds():
            if where == "yield" and row["t"] == t:
                die()
    finally:
        Checkpoint.save = save


def in_process(*args: object) -> int:
    process = spawner.Process(target=work, args=args)
    process.start()
    process.join(120)
    assert process.exitcode is not None, "the experiment hangs"
    return process.exitcode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert in_process(tiny(LedgerDigits(folder / "ledger"), EVOLVING), folder, "", 0) == 0
    return folder


POINTS = [f"{phase}:{moment}" for phase in PHASES for moment in ("before", "after")]


@pytest.mark.parametrize("where", [*POINTS, "fit:within", "fit:saving", "append:saving", "yield"])
def test_a_killed_experiment_ends_with_the_same_records(
    where: str, undisturbed: Path, tmp_path: Path
) -> None:
    experiment = tiny(LedgerDigits(tmp_path / "ledger"), EVOLVING)
    assert in_process(experiment, tmp_path, where, 2) == -signal.SIGKILL
    assert in_process(experiment, tmp_path, "", 0) == 0
    for kind in ("rounds", "curves", "paths", "planes"):
        assert len(lasting(kind, undisturbed))
        assert lasting(kind, tmp_path).equals(lasting(kind, undisturbed)), f"{kind} differ"
    if where != "label:after":
        # Only a kill between the oracle's answer and its saving can make one batch be asked for again.
        assert sorted(sold(tmp_path / "ledger")) == sorted(set(sold(undisturbed / "ledger")))


def test_a_finished_experiment_does_nothing_when_it_is_run_again(undisturbed: Path) -> None:
    before, files = sold(undisturbed / "ledger"), sorted((undisturbed / "records").iterdir())
    experiment = tiny(LedgerDigits(undisturbed / "ledger"), EVOLVING)
    again = at(experiment, undisturbed)
    assert list(again.rounds()) == []
    assert again.result["n_labels"] == 30
    assert sorted((undisturbed / "records").iterdir()) == files
    assert sold(undisturbed / "ledger") == before


def test_other_data_than_before_are_refused(undisturbed: Path) -> None:
    experiment = tiny(LedgerDigits(undisturbed / "ledger"), EVOLVING)
    data = Digits().load()
    changed = dataclasses.replace(data, images=data.images.flip(0))
    shared = Materials(changed, changed.fingerprint(), changed.oracle)
    with pytest.raises(UsageError, match="was started on other data"):
        Run(experiment, shared, undisturbed, GeneratorStore(undisturbed / "generators"))


def test_checkpoints_stay_small_and_old_ones_go(undisturbed: Path) -> None:
    files = list((undisturbed / "state").glob("*/*"))
    assert sorted(file.name.split("-")[0] for file in files) == ["network", "state.safetensors"]
    network = 4 * sum(p.numel() for p in Digits().network().parameters())
    assert sum(file.stat().st_size for file in files) < 4 * network
