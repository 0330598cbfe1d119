"""Write the records of sweeps as TensorBoard's event files: a run an experiment, scalars and hyperparameters.

Scalars of rounds stand at the labels bought, those inside rounds (tags `inside_rounds/`) at the training steps taken.
Writing again, while a sweep runs say, brings the files up to date. Needs `pip install -e ".[dashboard]"`.

python analysis/event_files.py RESULTS

tensorboard --logdir RESULTS/tensorboard
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from _report_source import Source
from _shared import guarded

from alss_ray.config import UsageError
from alss_ray.places import Place

ROUNDS = ("test_metric", "val_metric", "test_aulc", "val_aulc", "test_loss", "val_loss", "train_loss", "new_loss",
          "refusals", "oracle_calls", "label_seconds", "fit_seconds")  # fmt: skip
INSIDE = ("val_metric", "val_loss", "train_loss")
FILE = "events.out.tfevents.0.alss-ray"  # always the same, so that writing again replaces


@dataclass(frozen=True)
class EventOptions:
    """What to write, and where to."""

    results: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RESULTS", help_behavior_hint="")]
    """Results folder of a sweep or a single run."""
    out: str | None = None
    """Folder of the event files; tensorboard in the results folder unless given."""
    runs: int = 200
    """Experiments at most, the best by validation AULC: TensorBoard is slow with more."""


def convert(options: EventOptions) -> None:
    """Read the records, write a file a run, print their folder."""
    try:
        from tensorboard.plugins.hparams import summary_v2 as hp
    except ImportError as error:
        raise UsageError('TensorBoard is not installed; pip install -e ".[dashboard]" brings it.') from error
    if options.runs < 1:
        raise UsageError(f"--runs is {options.runs}; give 1 or more.")
    folder = Place(options.results)
    source = Source.of(folder)
    out = folder / "tensorboard" if options.out is None else Place(options.out)
    trials = source.ask(f"from trials order by val_aulc {source.best_first}, experiment limit {options.runs}")
    total = source.one("select count(*) as n from trials")["n"]
    fields = [*source.varied, "seed"]
    metrics = [hp.Metric(tag) for tag in ("val_aulc", "val_metric", "test_metric")]
    definition = hp.hparams_config_pb([hp.HParam(name) for name in fields], metrics, time_created_secs=0)
    try:
        (out / FILE).write(_file([(0, 0.0, definition)]))
        for trial in trials:
            values = {name: trial[name] for name in fields if trial[name] is not None}
            start = hp.hparams_pb(values, trial_id=trial["experiment"], start_time_secs=0)
            events = [(0, 0.0, start), *_scalars(source, trial["experiment"])]
            (out / _name(trial) / FILE).write(_file(events))
    except OSError as error:
        raise UsageError(f"{out} cannot be written to ({error}); choose another --out.") from error
    if total > len(trials):
        print(
            f"{total - len(trials):,} of {total:,} experiments were left out; --runs takes more.",
            file=sys.stderr,
        )
    print(out)


def _name(trial: Mapping[str, Any]) -> str:
    """'snn-seed0-0913db734c9b': a folder's name of what may be any text."""
    return re.sub(r"[^\w.-]+", "-", f"{trial['strategy']}-seed{trial['seed']}-{trial['experiment']}")


def _scalars(source: Source, experiment: str) -> Iterator[tuple[int, float, Any]]:
    """(step, seconds since 1970, summary) of everything that was measured in an experiment."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    def one(tag: str, value: float) -> Any:
        return Summary(value=[Summary.Value(tag=tag, simple_value=value)])

    when = {}
    for row in source.ask(f"from rounds where experiment = '{experiment}' order by t"):
        when[row["t"]] = row["recorded_at"].timestamp()
        for tag in ROUNDS:
            if row[tag] is not None:
                yield row["n_labels"], when[row["t"]], one(tag, row[tag])
    for row in source.ask(f"from curves where experiment = '{experiment}' order by t, iteration"):
        step = (row["t"] - 1) * row["iterations"] + row["iteration"]
        for tag in INSIDE:
            if row[tag] is not None and row["t"] in when:
                yield step, when[row["t"]], one(f"inside_rounds/{tag}", row[tag])


def _file(events: Sequence[tuple[int, float, Any]]) -> bytes:
    """An event file."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    content = io.BytesIO()
    writer = RecordWriter(content)
    writer.write(Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
    for step, seconds, summary in events:
        writer.write(Event(wall_time=seconds, step=step, summary=summary).SerializeToString())
    return content.getvalue()


if __name__ == "__main__":
    given = tyro.cli(EventOptions, description=__doc__)
    sys.exit(guarded(lambda: convert(given)))
