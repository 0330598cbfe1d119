"""The records of experiments: Arrow IPC stream files for each attempt, one row a round, or an evaluation, or a sample,
or a point in latent space.

An attempt is one process's go at an experiment; a resumed experiment adds attempts. A row is written out when
its round is done, so a file that was cut off still gives its whole rows. An object store cannot append: there the
whole stream is put again with every row. `alss_ray.reading` reads them back.
Imports neither torch nor Ray.

The column names here are what people type in queries; `COLUMNS` and `CURVE_COLUMNS` describe them, and the
fields of the experiment's configuration stand beside them under their own names.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alss_ray.config import Experiment, UsageError, column_types, flatten
from alss_ray.files import StoreError, told
from alss_ray.places import Place

SCHEMA_VERSION = 1
FOLDER = "records"
SUFFIX = ".arrow"
COMPACTED = ".parquet"

PROPOSAL_COUNTS = {
    "already_labelled": "proposals whose plain nearest neighbour was labelled already",
    "zero_gradients": "points whose loss gradient vanished (stepped at random, or not at all where it is raw)",
    "invalid_gradients": "points whose loss gradient was NaN or infinite (the same)",
    "neighbour_shortfall": "points for which D had no unlabelled sample left",
}

Column = tuple[str, pa.DataType, str]

RECORDED_AT: Column = ("recorded_at", pa.timestamp("us", tz="UTC"), "when the row was written")
IDENTITY: tuple[Column, ...] = (
    ("experiment", pa.string(), "identity: hash of the whole configuration, seed included"),
    ("configuration", pa.string(), "hash of the configuration without the seed; replicates share it"),
    ("attempt", pa.int32(), "which go at this experiment wrote the row, from 0"),
    ("t", pa.int32(), "round, from 1; the network of row t was trained on T(1) to T(t)"),
    ("n_labels", pa.int64(), "training labels bought so far: the size of T(1) to T(t)"),
)
ROUND_ONLY: tuple[Column, ...] = (
    ("n_new", pa.int32(), "samples added in this round"),
    ("n_distinct", pa.int64(), "distinct samples among n_labels"),
    (
        "class_balance",
        pa.float64(),
        "entropy of the classes among n_labels, 1 for equal shares; null for maps",
    ),
    ("n_val_labels", pa.int64(), "validation labels bought beside n_labels"),
    ("val_metric", pa.float64(), "the task's metric on the validation set (accuracy as a share of 1)"),
    ("val_loss", pa.float64(), "mean loss on the validation set"),
    ("test_metric", pa.float64(), "the metric on the test set: recorded, never optimised"),
    ("test_loss", pa.float64(), "mean loss on the test set"),
    ("train_loss", pa.float64(), "mean training loss over this round's steps"),
    ("val_aulc", pa.float64(), "AULC of the validation metric so far (metrics.aulc); searches optimise it"),
    ("test_aulc", pa.float64(), "AULC of the test metric so far: recorded, never optimised"),
    (
        "val_guess",
        pa.float64(),
        "validation metric of the best guess that looks at no image: the AULC's start",
    ),
    ("test_guess", pa.float64(), "the same on the test set"),
    ("new_loss", pa.float64(), "mean loss on the new samples before they were trained on: their hardness"),
    ("new_error", pa.float64(), "their mean error then (1 - metric where higher is better, else the metric)"),
    *((name, pa.int64(), text) for name, text in PROPOSAL_COUNTS.items()),
    ("already_labelled_share", pa.float64(), "already_labelled / proposals"),
    ("scored", pa.int64(), "images that F and its committee were run on to find this round's proposals"),
    ("oracle_calls", pa.int64(), "images sent to the oracle in this round"),
    ("oracle_bought", pa.int64(), "those that no cache had: what the tool itself looked at"),
    ("refusals", pa.int64(), "images it refused, each replaced by a fresh proposal"),
    ("refusal_reasons", pa.string(), "JSON object: reason -> count"),
    ("propose_seconds", pa.float64(), "seconds of the phase"),
    ("label_seconds", pa.float64(), "seconds of the phase, the oracle's included"),
    ("append_seconds", pa.float64(), "seconds of the phase"),
    ("fit_seconds", pa.float64(), "seconds of the phase, its validations included"),
    ("evaluate_seconds", pa.float64(), "seconds of the phase"),
    ("checkpoint_seconds", pa.float64(), "seconds spent on saving state since the last row"),
    ("generator_key", pa.string(), "which trained generator was used; null for none"),
    ("generator_trained", pa.bool_(), "this attempt trained it (else it was shared or stored)"),
    ("generator_seconds", pa.float64(), "seconds this attempt spent on getting it"),
    ("metric", pa.string(), "name of the metric"),
    ("higher_is_better", pa.bool_(), "direction of the metric"),
    ("data_hash", pa.string(), "hash of the task's images and test set"),
    ("parameters", pa.int64(), "number of the network's parameters"),
    ("versions", pa.string(), "JSON object: package -> version"),
    ("git_commit", pa.string(), "commit of the source tree, '+' where files differ from it"),
    ("host", pa.string(), "machine"),
    ("cpu", pa.string(), "processor"),
    ("device", pa.string(), "device that trained"),
    ("threads", pa.int32(), "CPU threads that torch used"),
    RECORDED_AT,
)
CURVE_ONLY: tuple[Column, ...] = (
    ("iteration", pa.int32(), "training steps taken in this round"),
    ("val_metric", pa.float64(), "the metric on the validation set"),
    ("val_loss", pa.float64(), "mean loss on the validation set"),
    ("train_loss", pa.float64(), "mean training loss since the last evaluation"),
)
SAMPLE_ONLY: tuple[Column, ...] = (
    ("sample", pa.int32(), "position in the test set"),
    ("height", pa.int32(), "pixels"),
    ("width", pa.int32(), "pixels"),
    ("unit", pa.string(), "unit of target and output"),
    ("image", pa.binary(), "uint8, height x width: what the network was given"),
    ("target", pa.binary(), "little-endian float32, height x width: the oracle's map"),
    ("output", pa.binary(), "little-endian float32, height x width: the network's map"),
)
PATH_ONLY: tuple[Column, ...] = (
    ("point", pa.int32(), "position of the point in T(t), from 0"),
    (
        "origin",
        pa.int32(),
        "position in T(t-1) of the point that it was stepped from; null where a path begins",
    ),
    ("sample", pa.int64(), "position in D of the real sample that it was moved to"),
    ("label", pa.int32(), "that sample's class"),
    ("predicted", pa.int32(), "class that F gives G(p), before it learns from the sample (for t = 1: after)"),
    ("point_margin", pa.float64(), "probability of that class less that of the next; 0 on a boundary"),
    ("point_loss", pa.float64(), "L(F(G(p)), y) of Equation 1"),
    ("position", pa.list_(pa.float32()), "p: the sample's code, n numbers"),
    (
        "stepped",
        pa.list_(pa.float32()),
        "p': where the step led, beside the sample; null where a path begins",
    ),
    ("gap", pa.float64(), "distance from p' to the nearest sample of D, labelled or not"),
    ("image_shape", pa.list_(pa.int32()), "channels, height, width"),
    ("image", pa.binary(), "uint8, channels x height x width: the sample"),
    ("generated", pa.binary(), "uint8, channels x height x width: G(p)"),
)
PLANE_ONLY: tuple[Column, ...] = (
    ("plane_centre", pa.list_(pa.float32()), "where the plane's origin lies in latent space, n numbers"),
    ("plane_axes", pa.list_(pa.float32()), "2 x n: the plane's axes, of length 1"),
    ("plane_shares", pa.list_(pa.float32()), "shares of the variance of E(D) along the two axes"),
    ("grid_extent", pa.list_(pa.float64()), "left, right, bottom, top of a grid of places on the plane"),
    ("grid_side", pa.int32(), "places along either side, row after row from the bottom"),
    ("grid_predicted", pa.binary(), "int32, side x side: class that F gives G(p) at the end"),
    ("grid_margins", pa.binary(), "float32, side x side: probability of that class less that of the next"),
    ("grid_losses", pa.binary(), "float32, side x side: loss with the label of the nearest training sample"),
    ("grid_gradients", pa.binary(), "float32, side x side x 2: that loss's gradient, along the plane"),
    ("grid_steepness", pa.binary(), "float32, side x side: the whole gradient's length"),
    ("grid_gaps", pa.binary(), "float32, side x side: distance to the nearest sample of D"),
    ("kept_codes", pa.binary(), "float32, m x n: codes of some samples of D, those with bought labels first"),
    ("kept_labels", pa.binary(), "int32, m: their classes, -1 where no label was bought"),
    ("kept_gaps", pa.binary(), "float32, m: distance to the nearest other sample of D"),
)
GENERATOR_ONLY: tuple[Column, ...] = (
    ("generator_key", pa.string(), "which trained generator it is"),
    ("reconstruction_rmse", pa.float64(), "root mean squared error of G(E(x)) on test images in [0, 1]"),
    ("mean_image_rmse", pa.float64(), "the same of the mean image of D"),
    ("decoded_agreement", pa.float64(), "the metric of F(G(E(x))) on test images with F(x) as the label"),
    ("code_mean", pa.list_(pa.float32()), "mean of E(D), n numbers"),
    ("code_covariance", pa.list_(pa.float32()), "covariance of E(D), n x n numbers"),
    ("code_mean_length", pa.float64(), "length of that mean: 0 for N(0, I)"),
    ("code_sd_least", pa.float64(), "least standard deviation of E(D) along any direction: 1 for N(0, I)"),
    ("code_sd_most", pa.float64(), "the largest one: 1 for N(0, I)"),
    ("energy_distance", pa.float64(), "energy distance from E(D) to N(0, I)"),
    ("energy_coefficient", pa.float64(), "its square in shares of 2E|X-Y|: from 0, no difference, to 1"),
    (
        "near_same_class",
        pa.float64(),
        "share of the nearest other validation samples in latent space that have a sample's class",
    ),
    ("near_by_chance", pa.float64(), "the same for neighbours drawn at random"),
    ("near_count", pa.int32(), "how many neighbours of each were looked at"),
    ("step_length", pa.float64(), "α of the steps from labelled samples; null for a strategy without one"),
    ("typical_gap", pa.float64(), "median distance from a code of D to the nearest other one"),
    ("gradient_gap", pa.float64(), "the same from where steps along the gradient end to the nearest code"),
    (
        "gradient_left_share",
        pa.float64(),
        "share of those steps that leave the data: no code is as near as to 99 % of the codes another one is",
    ),
    (
        "gradient_stuck_share",
        pa.float64(),
        "share of those steps that reach no other sample: no code is nearer than where they began",
    ),
    ("random_gap", pa.float64(), "as gradient_gap, for steps in random directions"),
    ("random_left_share", pa.float64(), "as gradient_left_share, for steps in random directions"),
    ("random_stuck_share", pa.float64(), "as gradient_stuck_share, for steps in random directions"),
)
PICTURE_ONLY: tuple[Column, ...] = (
    ("generator_key", pa.string(), "which trained generator made them"),
    ("image_shape", pa.list_(pa.int32()), "channels, height, width"),
    ("shown", pa.int32(), "images in a row of the pictures that follow"),
    ("originals", pa.binary(), "uint8, shown x channels x height x width: test images"),
    ("rebuilt", pa.binary(), "the same of G(E(x))"),
    ("walks", pa.binary(), "rows of G(p) for p on a straight line from one test image's code to another's"),
    ("fresh", pa.binary(), "G(z) for z from N(0, I)"),
)
FAILURE_ONLY: tuple[Column, ...] = (
    (
        "failure",
        pa.string(),
        "why the experiment could not go on in round t",
    ),
    RECORDED_AT,
)
LABEL_ONLY: tuple[Column, ...] = (
    ("ordinal", pa.int32(), "place among the images that people were asked for in round t, from 0"),
    ("sample", pa.int64(), "position of the image in D, -1 for a synthesised one"),
    ("label", pa.int32(), "the class that came back; null for a refusal, and where labels are maps"),
    ("refusal", pa.string(), "why there is no label; null where there is one"),
    (
        "predicted",
        pa.int32(),
        "class that F gave the image when it was suggested; null where there is no telling",
    ),
    ("margin", pa.float64(), "probability of that class less that of the next"),
    (
        "gradient_norm",
        pa.float64(),
        "length of dL/dp at the labelled sample that the suggestion was stepped from",
    ),
    (
        "asker",
        pa.string(),
        "experiment that laid the image before people; for others its label was there already",
    ),
    ("asked_at", pa.timestamp("us", tz="UTC"), "when that was"),
    ("came_at", pa.timestamp("us", tz="UTC"), "when the label came back"),
    ("person_seconds", pa.float64(), "time spent on the image, where the labelling tool measures it"),
    ("votes", pa.string(), "how people voted, where several labelled the image"),
)
COLUMNS = IDENTITY + ROUND_ONLY
CURVE_COLUMNS = IDENTITY + CURVE_ONLY
KINDS = {
    "rounds": COLUMNS,
    "curves": CURVE_COLUMNS,
    "samples": IDENTITY + SAMPLE_ONLY,
    "paths": IDENTITY + PATH_ONLY,
    "planes": IDENTITY + PLANE_ONLY,
    "generators": IDENTITY + GENERATOR_ONLY,
    "pictures": IDENTITY + PICTURE_ONLY,
    "failures": IDENTITY + FAILURE_ONLY,
    "labels": IDENTITY + LABEL_ONLY,
}
KEYS = {
    "rounds": ("experiment", "t"),
    "curves": ("experiment", "t", "iteration"),
    "samples": ("experiment", "t", "sample"),
    "paths": ("experiment", "t", "point"),
    "planes": ("experiment", "t"),
    "generators": ("experiment", "t"),
    "pictures": ("experiment", "t"),
    "failures": ("experiment", "t"),
    "labels": ("experiment", "t", "ordinal"),
}

_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def schema(kind: str, experiment: Experiment) -> pa.Schema:
    """The schema of one experiment's stream: its configuration's columns stand behind the identity."""
    configuration = [(name, _TYPES[type_]) for name, type_ in column_types(experiment).items()]
    extras = [(f"test_{name}", pa.float64()) for name in experiment.task.extras] if kind == "rounds" else []
    taken = {name for columns_of in KINDS.values() for name, _, _ in columns_of}
    if clash := [name for name, _ in configuration if name in taken]:
        raise UsageError(
            f"A component's field {clash[0]!r} has the name of a column of the records; rename it."
        )
    columns = [(name, type_) for name, type_, _ in KINDS[kind]]
    fixed = pa.schema(columns[: len(IDENTITY)] + configuration + columns[len(IDENTITY) :] + extras)
    return fixed.with_metadata({"alss_ray_schema": str(SCHEMA_VERSION)})


def compacted_attempts(folder: Place, identity: str) -> int:
    """How many attempts at an experiment were compacted, so that their streams are gone (analysis/compact.py).

    Raises:
        UsageError: the Parquet file is damaged.
    """
    place = folder / f"rounds{COMPACTED}"
    if not place.exists():
        return 0
    store, path = place.reached()
    try:
        rows = pq.read_table(
            path, columns=["attempt"], filesystem=store, filters=[("experiment", "=", identity)]
        )
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{place} is damaged ({reason}); put back a copy of it.") from error
    return max(rows["attempt"].to_pylist(), default=-1) + 1


class RecordWriter:
    """Appends one attempt's rows to its streams, one a kind; every row is in the file when `write` returns.

    Use as a context manager: leaving it ends the streams properly.
    """

    def __init__(self, folder: Path | Place, experiment: Experiment) -> None:
        self._constant = {
            "experiment": experiment.identity,
            "configuration": experiment.configuration,
            **flatten(experiment),
        }
        self._folder = Place(folder)
        if self._folder.local is not None:
            self._folder.local.mkdir(parents=True, exist_ok=True)
        self._schemas = {kind: schema(kind, experiment) for kind in KINDS}
        self._sinks: dict[str, pa.OSFile | io.BytesIO] = {}
        self._writers: dict[str, pa.ipc.RecordBatchStreamWriter] = {}
        compacted_attempts(self._folder, experiment.identity)  # what is damaged is told before any work

    @functools.cached_property
    def attempt(self) -> int:
        """Which go at the experiment this is. It begins with its first row, and belongs to whoever creates its first
        file: one that has nothing to say leaves none."""
        attempt = compacted_attempts(self._folder, str(self._constant["experiment"]))
        with told("The records", self._folder):
            while not self._file("rounds", attempt).create():
                attempt += 1
        return attempt

    def _file(self, kind: str, attempt: int) -> Place:
        return self._folder / f"{self._constant['experiment']}-{attempt:03d}.{kind}{SUFFIX}"

    def write(self, kind: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows; columns that a row lacks are null there.

        Raises:
            KeyError: a row has a column that the schema lacks.
        """
        if not rows:
            return
        full = [{**self._constant, "attempt": self.attempt, **row} for row in rows]
        if unknown := set().union(*full) - set(self._schemas[kind].names):
            raise KeyError(f"the {kind} records have no column {sorted(unknown)}")
        batch = pa.RecordBatch.from_pylist(full, schema=self._schemas[kind])
        file = self._file(kind, self.attempt)
        with told("The records", self._folder):
            if kind not in self._writers:
                self._sinks[kind] = io.BytesIO() if file.local is None else pa.OSFile(str(file.local), "wb")
                self._writers[kind] = pa.ipc.new_stream(self._sinks[kind], self._schemas[kind])
            self._writers[kind].write_batch(batch)
            self._put(kind)

    def _put(self, kind: str) -> None:
        if isinstance(sink := self._sinks[kind], io.BytesIO):
            self._file(kind, self.attempt).write(sink.getvalue())

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for kind, writer in self._writers.items():
            with contextlib.suppress(OSError):  # without its end a stream still gives its rows
                writer.close()
                if not isinstance(error, StoreError):
                    self._put(kind)
            self._sinks[kind].close()
