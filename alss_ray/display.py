"""What a person sees while an experiment or a sweep runs, and what they are told at its end."""

from __future__ import annotations

import datetime
import shlex
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from alss_ray.config import Scalar
from alss_ray.places import Place

QUIET_INTERVAL = 30.0  # seconds between lines where there is no terminal to redraw


def brief(values: Mapping[str, Scalar]) -> str:
    """`alpha 0.714, latent_dim 4`: parameters in a line."""
    return ", ".join(f"{name} {shown(value)}" for name, value in values.items())


def shown(value: Any) -> str:
    """A value for a table's cell."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """`0:01:05`."""
    return str(datetime.timedelta(seconds=round(seconds)))


@dataclass
class _Trial:
    values: Mapping[str, Scalar]
    rounds: int = 0
    labels: int = 0
    aulc: float | None = None
    done: bool = False
    early: bool = False


@dataclass
class SweepDisplay:
    """One calm live display of a sweep. Where there is no terminal, a line now and then."""

    title: str
    trials: int
    """Trials that this sweep is to have in all."""
    labels: int
    """Labels that the trials which are left will buy."""
    higher_is_better: bool
    finished_before: int = 0
    """Trials that an interrupted run of the sweep had finished."""
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def __post_init__(self) -> None:
        self._trials: dict[str, _Trial] = {}
        self.failures = 0
        self.waiting: dict[str, frozenset[str]] = {}
        """Trial -> the images for whose labels it waits."""
        self._started = self._last_line = time.monotonic()
        self._live = Live(
            console=self.console, get_renderable=self._render, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> SweepDisplay:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def started(self, trial: str, values: Mapping[str, Scalar]) -> None:
        """A trial begins, or begins again after a fault."""
        self._trials.setdefault(trial, _Trial(values))

    def reported(self, trial: str, rounds: int, labels: int, aulc: float) -> None:
        """A trial has done so many rounds and bought so many labels."""
        at = self._trials[trial]
        at.rounds, at.labels, at.aulc = rounds, labels, aulc
        if not self.console.is_terminal and time.monotonic() - self._last_line > QUIET_INTERVAL:
            self._last_line = time.monotonic()
            self.console.print(f"{self._counts()}; {self._work()}", highlight=False, soft_wrap=True)

    def completed(self, trial: str, early: bool = False) -> None:
        """A trial has come to its end, or is stopped before it."""
        if trial in self._trials:
            at = self._trials[trial]
            at.done, at.early = True, early

    def failed(self, trial: str, why: str) -> None:
        """A trial is given up."""
        at = self._trials.pop(trial)
        self.failures += 1
        self.console.print(f"Trial {brief(at.values)} failed: {why}", highlight=False, soft_wrap=True)

    def waits(self, trial: str, keys: Collection[str]) -> None:
        """A trial has to wait for people."""
        self._trials.pop(trial)
        self.waiting[trial] = frozenset(keys)

    def _counts(self) -> str:
        done = self.finished_before + sum(trial.done for trial in self._trials.values())
        running = sum(not trial.done for trial in self._trials.values())
        failed = f", {self.failures} failed" if self.failures else ""
        stopped = sum(trial.early for trial in self._trials.values())
        early = f" ({stopped} stopped early)" if stopped else ""
        waiting = f", {len(self.waiting)} waiting for people" if self.waiting else ""
        return f"{done} of {self.trials} trials done{early}, {running} running{waiting}{failed}"

    def _work(self) -> str:
        rounds = sum(trial.rounds for trial in self._trials.values())
        labels = sum(trial.labels for trial in self._trials.values())
        elapsed, share = time.monotonic() - self._started, self._share()
        left = (
            f"about {duration(elapsed * (1 - share) / share)} left"
            if share > 0.02
            else "time left not known yet"
        )
        return f"{rounds} rounds, {labels:,} labels bought; {duration(elapsed)} gone, {left}"

    def _share(self) -> float:
        """How much of the work that was left at the start is done, by labels."""
        each = self.labels / max(1, self.trials - self.finished_before)
        labels = sum(each if trial.early else trial.labels for trial in self._trials.values())
        return min(1.0, (labels + self.failures * each) / self.labels) if self.labels else 1.0

    def _best(self) -> str:
        values = [
            (trial.aulc, trial)
            for trial in self._trials.values()
            if trial.done and not trial.early and trial.aulc is not None
        ]
        if not values:
            return "best so far: no trial is done yet"
        pick = max if self.higher_is_better else min
        best, trial = pick(values, key=lambda pair: pair[0])
        return f"best so far: AULC {best:.4f} with {brief(trial.values)}"

    def _render(self) -> Group:
        bar = Table.grid()
        bar.add_row(ProgressBar(total=1.0, completed=self._share(), width=60))
        lines = (
            Text(line, no_wrap=True, overflow="ellipsis")
            for line in (self._counts(), self._work(), self._best())
        )
        return Group(Text(self.title, style="bold"), bar, *lines)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> None:
    """A small table on standard output."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    wide = console
    if not console.is_terminal:  # a file or a pipe has no width to keep to
        console = Console(width=200)
        wide = Console(width=max(200, Console(width=100_000).measure(table).maximum))
    console.print()
    wide.print(table, highlight=False)
    console.print(caption, style="dim", highlight=False)


def print_report(folder: Path | Place) -> None:
    """The path of the report of a sweep, which `analysis/report.py` writes now; its command where that fails.

    Prints nothing where the package was installed without the analysis scripts.
    """
    script = Path(__file__).parents[1] / "analysis" / "report.py"
    if not script.exists():
        return
    # A process of its own: the package imports nothing of the analysis.
    done = subprocess.run(
        [sys.executable, str(script), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    again = f"python analysis/report.py {shlex.quote(str(folder))}"
    print(f"Report: {done.stdout.strip()}" if done.returncode == 0 else f"Report it:  {again}")


def print_next_steps(folder: Path | Place) -> None:
    """Where the records lie and the two commands to look further."""
    words = shlex.quote(str(folder))
    query = "select strategy, t, avg(test_metric) from rounds group by all order by all"
    print(f"\nRecords: {folder}")
    print(f'Ask them:  python analysis/query.py {words} "{query}"')
    print(f"Draw them: python analysis/curves.py {words}")
