"""The round loop (Mo et al. 2020, Algorithms 1 and 2), resumable between any two phases.

Round t: *propose* T(t) with the network of round t-1 (at random for t = 1), have it *labelled*, *append* it,
*fit* F on T(1) to T(t), *evaluate*, *record*. So a row's scores and the labels it counts belong together, and
the last round is like every other. The state is saved after each phase; a killed experiment goes on with the
phase that was not finished, and every random stream is derived from the seed, its name and the round, so the
records come out equal to the last bit on CPU. So does one whose labels people have yet to give: it stops in
`label`, by `Waiting`, and goes on when they are there.
"""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import faiss
import torch
from torch import Tensor, nn

from alss_ray import devices, provenance, records, rng, trajectories
from alss_ray.checkpoint import Checkpoint
from alss_ray.config import Experiment, ExperimentFailed, UsageError
from alss_ray.ending import last_records
from alss_ray.generators.base import Embedding
from alss_ray.generators.store import GeneratorSource, Request
from alss_ray.labelled import LabelledSet
from alss_ray.labelling import (
    FREE,
    LABELLED,
    REFUSED,
    VALIDATION,
    Labeller,
    first_draws,
    label_validation,
)
from alss_ray.materials import Materials, check
from alss_ray.metrics import aulc
from alss_ray.oracles.base import Why
from alss_ray.places import Place
from alss_ray.reasons import reasons
from alss_ray.state import Row, State
from alss_ray.strategies.base import Query, View, draw_free
from alss_ray.training import Scores, evaluate, fresh_learners, images_seen, train, training_set

PHASES = ("propose", "label", "append", "fit", "evaluate", "record")

Status = Callable[[str], None]
"""Called with a few words on what is going on."""


class Run:
    """One go at an experiment in a results folder; a state that the folder holds is continued.

    Raises:
        UsageError: the data are missing, cannot carry the experiment, or are not those it was started on.
    """

    def __init__(
        self,
        experiment: Experiment,
        shared: Materials,
        folder: Path | Place,
        source: GeneratorSource,
        status: Status = lambda text: None,
        followed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        """Load or begin the state.

        Args:
            followed: how many evolving points leave their paths in the records (alss_ray/trajectories.py).
            device: what computes; the GPU where there is one unless given.

        Raises:
            Waiting: people have yet to label the validation set.
        """
        self.experiment, self.task, self.status = experiment, experiment.task, status
        self.folder = Place(folder)
        self.device = device or devices.chosen()
        devices.prepare(self.device)
        self.data, self.fingerprint = shared.data, shared.fingerprint
        check(experiment, self.data)
        self.followed = followed
        if followed:
            trajectories.check(experiment, self.data)
        # faiss and torch share the experiment's cores, so they take the same number of threads.
        faiss.omp_set_num_threads(torch.get_num_threads())
        self.images = self.data.images.to(self.device)
        self.test = (self.data.test_images.to(self.device), self.data.test_targets.to(self.device))
        self.labeller = Labeller(
            shared.oracle, self.data.images, self.task.encode, experiment.identity, self._explain
        )
        self.learners = fresh_learners(experiment, self.device)
        self.checkpoint = Checkpoint(self.folder / "state" / experiment.identity)
        self.checkpoint_seconds = 0.0
        self.curve: list[Row] = []
        self.writer = records.RecordWriter(self.folder / records.FOLDER, experiment)
        # Before the generator is trained: people need not wait for it to be asked.
        self.state = self._restore() or self._begin()
        self.embedding, self.provenance = self._stage_one(source)
        validation = self.state.validation
        self.guess = self.task.guess(validation.images, validation.targets), self.task.guess(*self.test)

    def rounds(self) -> Iterator[Row]:
        """Yield the record of each round that was still to be done, until the label budget is spent.

        Raises:
            ExperimentFailed: the training diverged or a round could not be filled.
            Waiting: people have yet to label a round; its proposals are saved.
        """
        state = self.state
        with self.writer:
            while state.t <= self.experiment.rounds:
                try:
                    self._round()
                except (ExperimentFailed, UsageError) as error:
                    about = {"t": state.t, "n_labels": len(state.labelled), "recorded_at": _now()}
                    self.writer.write("failures", [{**about, "failure": str(error)}])
                    raise
                yield state.row
                state.t, state.phase, state.row = state.t + 1, 0, {}
                self._save()

    def _round(self) -> None:
        """Do what is left of the round, phase by phase."""
        state = self.state
        for phase in PHASES[state.phase :]:
            self.status(f"round {state.t} of {self.experiment.rounds}: {phase}")
            started = time.perf_counter()
            getattr(self, f"_{phase}")()
            state.row[f"{phase}_seconds"] = time.perf_counter() - started
            state.phase += 1
            if phase != PHASES[-1]:
                self._save()

    @property
    def result(self) -> Row:
        """The experiment's figure of merit and its cost so far."""
        labels, values, _ = zip(*self.state.history, strict=True)
        return {"val_aulc": aulc(self.guess[0], labels, values), "n_labels": labels[-1], "t": len(labels)}

    # --- the phases of a round ---------------------------------------------------------------------------

    def _propose(self) -> None:
        state = self.state
        count = min(self.experiment.round_size, self.experiment.label_budget - len(state.labelled))
        state.query = self._ask_strategy(count, 0)
        if not len(state.query.indices):
            raise ExperimentFailed(
                f"Round {state.t} found no image to ask for: the pool is used up; lower --label-budget."
            )
        state.row |= state.query.counts
        if "already_labelled" in state.query.counts:
            state.row["already_labelled_share"] = state.query.counts["already_labelled"] / count

    def _label(self) -> None:
        state = self.state
        assert state.query is not None
        answer = self.labeller.fill(
            state.query, self._ask_strategy, state.labelled, state.taken, LABELLED, state.t
        )
        self.writer.write("labels", answer.errands)
        state.query, state.targets = answer.query, answer.targets
        state.row |= {
            "oracle_calls": answer.calls,
            "oracle_bought": answer.bought,
            "refusals": sum(answer.refusals.values()),
            "refusal_reasons": json.dumps(answer.refusals),
        }

    def _append(self) -> None:
        state = self.state
        assert state.query is not None
        assert state.targets is not None
        indices, made = state.query.indices.to(self.device), state.query.images
        images = self.images[indices] if made is None else made.to(self.device)
        targets = state.targets.to(self.device)
        # Their hardness, before F has learnt from them.
        fresh = evaluate(self.network, images, targets, self.task)
        if self.followed:
            self._follow(state.query, state.targets)
        points = state.query.points
        if points is None and self.embedding is not None:
            points = self.embedding.codes[state.query.indices]
        state.labelled = state.labelled.append(
            images,
            targets,
            indices,
            state.t,
            made=made is not None,
            points=None if points is None else points.to(self.device),
        )
        state.query = state.targets = None
        state.row |= {
            "n_new": len(targets),
            "n_labels": len(state.labelled),
            "n_distinct": state.labelled.distinct,
            "class_balance": state.labelled.balance(int(self.test[1].max()) + 1),
            "n_val_labels": len(state.validation),
            "new_loss": fresh.loss,
            "new_error": 1 - fresh.metric if self.task.higher_is_better else fresh.metric,
        }

    def _fit(self) -> None:
        state, experiment = self.state, self.experiment
        if experiment.retrain:
            self.learners = fresh_learners(experiment, self.device)

        def evaluated(iteration: int, train_loss: float) -> None:
            self._add_to_curve(iteration, self._validate(), train_loss)

        images = training_set(experiment, state.labelled, self.embedding)
        loss, *_ = [
            train(experiment, state.t, member, learner, images, None if member else evaluated)
            for member, learner in enumerate(self.learners)
        ]
        if not math.isfinite(loss):
            raise ExperimentFailed(
                f"Training diverged in round {state.t}: the loss is {loss}; lower --learning-rate "
                f"(now {experiment.learning_rate})."
            )
        state.row["train_loss"] = loss
        self._write_curve()
        state.network_file = self.checkpoint.save_networks(f"{state.t:03d}", self.learners)

    def _evaluate(self) -> None:
        state = self.state
        validation = self._validate()
        test = evaluate(self.network, *self.test, self.task)
        state.history.append((len(state.labelled), validation.metric, test.metric))
        labels, validated, tested = zip(*state.history, strict=True)
        state.row |= {
            "val_metric": validation.metric,
            "val_loss": validation.loss,
            "test_metric": test.metric,
            "test_loss": test.loss,
            **{f"test_{name}": value for name, value in test.extras.items()},
            "val_guess": self.guess[0],
            "test_guess": self.guess[1],
            "val_aulc": aulc(self.guess[0], labels, validated),
            "test_aulc": aulc(self.guess[1], labels, tested),
        }
        self._add_to_curve(self.experiment.iterations, validation, state.row["train_loss"])
        self._write_curve()

    def _record(self) -> None:
        self.state.row |= self.provenance | {
            "t": self.state.t,
            "checkpoint_seconds": self.checkpoint_seconds,
            "recorded_at": _now(),
        }
        self.checkpoint_seconds = 0.0
        self.writer.write("rounds", [self.state.row])
        if self.state.t == self.experiment.rounds:
            about = {"t": self.state.t, "n_labels": len(self.state.labelled)}
            written = last_records(
                self.experiment, self.network.eval(), self.embedding, self.provenance.get("generator_key"),
                self.state.labelled, self.state.validation, self.images, self.test, self.followed > 0,
            )  # fmt: skip
            for kind, rows in written:
                self.writer.write(kind, [about | row for row in rows])

    def _follow(self, query: Query, targets: Tensor) -> None:
        """Write down where the followed points have come to, before F learns from them."""
        assert self.embedding is not None
        rows = trajectories.path_rows(
            self.network, self.embedding, self.task.loss, self.images, self.state.labelled, query, targets,
            self.state.t, self.followed,
        )  # fmt: skip
        self.writer.write("paths", rows)

    # --- what the phases share ---------------------------------------------------------------------------

    def _ask_strategy(self, count: int, refill: int) -> Query:
        """`count` proposals; the first round is a random draw, so that arms start alike, unless they make images."""
        state, experiment = self.state, self.experiment
        free = state.taken == FREE
        draws = rng.stream(experiment.seed, "proposal", state.t, refill)
        state.row.setdefault("scored", 0)
        if state.t == 1 and not experiment.strategy.fills_first_round:
            _, first = first_draws(experiment, len(free))
            return Query(draw_free(free, count, draws) if refill else first[free[first]])
        members = [network.eval() for network, _ in self.learners]
        view = View(
            t=state.t,
            network=self.network,
            images=self.images,
            free=free,
            barred=(state.taken == VALIDATION) | (state.taken == REFUSED),
            labelled=state.labelled,
            loss=self.task.loss,
            embedding=self.embedding,
            members=members,
            offered=self._offered(free, refill),
            refill=refill,
        )
        with images_seen(members) as seen:
            query = experiment.strategy.propose(view, count, draws)
        state.row["scored"] += seen.images
        return query

    def _offered(self, free: Tensor, refill: int) -> Tensor | None:
        """What networks may look at, the same for all arms that have labelled the same."""
        if not self.experiment.score_limit:
            return None
        draws = rng.stream(self.experiment.seed, "offered", self.state.t, refill)
        return draw_free(free, self.experiment.score_limit, draws).sort().values

    def _explain(self, query: Query, images: Tensor) -> Sequence[Why]:
        """Why the strategy proposes what it does."""
        shown = images.to(self.device)
        return reasons(self.task, self.network, self.embedding, self.state.labelled, query, shown)

    def _validate(self) -> Scores:
        return evaluate(self.network, self.state.validation.images, self.state.validation.targets, self.task)

    def _add_to_curve(self, iteration: int, scores: Scores, train_loss: float) -> None:
        about = {"t": self.state.t, "n_labels": len(self.state.labelled), "iteration": iteration}
        found = {"val_metric": scores.metric, "val_loss": scores.loss, "train_loss": train_loss}
        self.curve.append(about | found)

    def _write_curve(self) -> None:
        self.writer.write("curves", self.curve)
        self.curve = []

    @property
    def network(self) -> nn.Module:
        """F; the committee's other members are trained beside it and only asked by the strategy."""
        return self.learners[0][0]

    def _stage_one(self, source: GeneratorSource) -> tuple[Embedding | None, Row]:
        """The embedding, where the strategy wants one, and the columns that say where results come from."""
        about: Row = {
            "metric": self.task.metric,
            "higher_is_better": self.task.higher_is_better,
            "data_hash": self.fingerprint,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            **provenance.columns(),
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
        }
        if not self.experiment.strategy.needs_embedding:
            return None, about

        def progress(done: int, total: int) -> None:
            self.status(f"generator: {done} of {total} steps")

        self.status("generator")
        request = Request(self.experiment.generator, self.data, self.fingerprint, self.device, progress)
        got = source.obtain(request)
        about |= {
            "generator_key": got.key,
            "generator_trained": got.trained,
            "generator_seconds": got.seconds,
        }
        return got.embedding, about

    # --- state -------------------------------------------------------------------------------------------

    def _begin(self) -> State:
        """A state before the first round: the validation set is labelled, nothing else."""
        taken = torch.full((len(self.images),), FREE, dtype=torch.int8)
        empty = LabelledSet.empty(self.images)
        answer = label_validation(self.experiment, self.labeller, empty, taken)
        self.writer.write("labels", answer.errands)
        rows = answer.query.indices.to(self.device)
        validation = empty.append(self.images[rows], answer.targets.to(self.device), rows, 0, made=False)
        network_file = self.checkpoint.save_networks("000", self.learners)
        state = State(1, 0, taken, validation, empty, network_file)
        state.save(self.checkpoint, data=self.fingerprint)
        return state

    def _restore(self) -> State | None:
        """The state that the folder holds, with the network put in place."""
        saved = self.checkpoint.load()
        if saved is None:
            return None
        tensors, about = saved
        if about["data"] != self.fingerprint:
            raise UsageError(
                f"{self.checkpoint.folder} was started on other data (hash {about['data']}, now "
                f"{self.fingerprint}); give the same data, or start in a new folder."
            )
        self.checkpoint.load_networks(about["network"], self.learners)
        return State.restore(tensors, about, self.images)

    def _save(self) -> None:
        started = time.perf_counter()
        self.state.save(self.checkpoint, data=self.fingerprint)
        self.checkpoint_seconds += time.perf_counter() - started


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
