"""python -m alss_ray label ...: stress maps and pictures of mask files, by the finite-element solver."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from alss_ray.config import UsageError, at_least, positive
from alss_ray.files import replacing

if TYPE_CHECKING:
    from alss_ray.oracles.vessel import Solution

Job = TypeVar("Job")
Result = TypeVar("Result")

PICTURE_DPI = 100
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
NAMES = {
    "principal": "Largest principal stress",
    "von_mises": "Von Mises stress",
    "tensor": "Cauchy stress",
}


@dataclass(frozen=True)
class LabelOptions:
    """Masks in, stress maps out."""

    masks: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="MASKS...", help_behavior_hint="")
    ]
    """Mask files (PNG, TIFF, NPY, NPZ) or folders of them: binary, grey, or label maps with --wall-label."""
    spacing: float
    """Side of a pixel, mm."""
    out: Path
    """Folder for the stress maps in kPa (NAME.npy, float32) and their pictures (NAME.png)."""
    pressure: float = 16.0
    """Blood pressure on the lumen border, kPa (16 kPa = 120 mmHg)."""
    quantity: Literal["principal", "von_mises", "tensor"] = "principal"
    """Largest principal stress, von Mises stress, or the tensor's xx, yy, xy (a map 3 x height x width)."""
    wall_label: int | None = None
    """Value of the wall in label maps; none where the files are binary or grey."""
    workers: int | None = None
    """Masks that are solved at the same time; as many as there are CPUs unless given."""


@dataclass(frozen=True)
class Task:
    """One mask file, and what is wanted of it."""

    path: Path
    options: LabelOptions

    @property
    def map(self) -> Path:
        return self.options.out / f"{self.path.stem}.npy"

    @property
    def picture(self) -> Path:
        return self.options.out / f"{self.path.stem}.png"


@dataclass(frozen=True)
class Outcome:
    """What became of a mask file."""

    repairs: tuple[str, ...] = ()
    refused: str | None = None
    """Why there is no map, in one sentence; None where there is one."""


def label(argv: Sequence[str]) -> int:
    """Solve every mask; exit status 1 if some were refused."""
    options = tyro.cli(
        LabelOptions,
        args=list(argv),
        prog="python -m alss_ray label",
        description="Solve vessel-wall masks: a stress map in kPa and a picture for each.",
        config=(tyro.conf.HelptextFromCommentsOff,),
    )
    positive("label", spacing=options.spacing, pressure=options.pressure)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = cpus if options.workers is None else options.workers
    at_least("label", 1, workers=workers)
    tasks = planned(options)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--out {options.out} cannot be made a folder ({error.strerror}); give another one."
        ) from error

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    refused: dict[Path, str] = {}
    done = 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with _CtrlC() as stop, Progress(*columns, console=console) as progress:
        bar = progress.add_task("masks", total=len(tasks))
        for task, outcome in each(solved, tasks, workers, stop):
            if outcome is None:
                outcome = Outcome(refused="The process that solved it died; memory may have run out.")
            if outcome.refused is None:
                done += 1
                if outcome.repairs:
                    console.print(f"{task.path}: repaired: {'; '.join(outcome.repairs)}.", soft_wrap=True)
            else:
                refused[task.path] = outcome.refused
                if task.map.exists():
                    refused[task.path] += f" {task.map} is from an earlier run."
            progress.advance(bar)
    masks = "1 mask is" if len(tasks) == 1 else f"{len(tasks)} masks are"
    if not stop():
        print(f"{done} of {masks} labelled; maps (kPa) and pictures are in {options.out}.", flush=True)
    if refused:
        print(f"{len(refused)} of {masks} refused:", file=sys.stderr)
        for path in sorted(refused):
            print(f"  {path}: {refused[path]}", file=sys.stderr)
    if stop():
        print(
            f"Interrupted: {done} of {masks} labelled, and their files stay in {options.out}. "
            "The same command does all of them again.",
            file=sys.stderr,
        )
        raise KeyboardInterrupt
    return 1 if refused else 0


class _CtrlC:
    """Within it the first Ctrl-C only makes it true, so that what is under way is finished; the second interrupts."""

    def __init__(self) -> None:
        self._pressed = False
        self._before: Any = None

    def __call__(self) -> bool:
        return self._pressed

    def __enter__(self) -> _CtrlC:
        self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self._pressed:
            raise KeyboardInterrupt
        self._pressed = True


def planned(options: LabelOptions) -> list[Task]:
    """The mask files that are meant, each once.

    Raises:
        UsageError: no files, a file that is missing or of another kind, or results that would overwrite each
            other or a mask.
    """
    from alss_ray.array_files import SUFFIXES

    kinds = ", ".join(SUFFIXES)
    out = options.out.resolve()
    paths: dict[Path, Path] = {}  # as named, by where they really lie
    for named in options.masks:
        if named.is_dir():
            if named.resolve() == out:
                raise UsageError(
                    f"--out {options.out} is a folder of masks, which the results might overwrite; "
                    "give another folder."
                )
            inside = sorted(
                path
                for path in named.rglob("*")
                if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
            )
            # Results of an earlier run that lie inside a folder of masks are no masks.
            found = [
                path
                for path in inside
                if named.resolve() not in out.parents or out not in path.resolve().parents
            ]
            if not found:
                raise UsageError(f"{named} holds no masks; looked for files ending in {kinds}.")
        elif not named.exists():
            raise UsageError(f"{named} does not exist; give mask files or folders of them.")
        elif named.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{named} is no mask file; give files ending in {kinds}.")
        else:
            found = [named]
        for path in found:
            paths.setdefault(path.resolve(), path)
    if not paths:
        raise UsageError("No masks are given; name mask files or folders of them.")
    tasks = [Task(path, options) for path in paths.values()]
    first: dict[str, Path] = {}
    for task in tasks:
        other = first.setdefault(task.path.stem, task.path)
        if other != task.path:
            raise UsageError(
                f"{other} and {task.path} would both become {task.map.name}; rename one or label them apart."
            )
        for result in (task.map, task.picture):
            if result.resolve() in paths:
                raise UsageError(
                    f"{result} is one of the masks and would be overwritten; give another --out folder."
                )
    return tasks


def each(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Job, Result | None]]:
    """Do the jobs in processes and yield each with its result as it comes; None if its process died.

    A pool breaks as a whole: the jobs that were under way are then done one at a time, so that only the one that
    kills its process is lost. A single job is done in this process. Once `stop()` is true, none is begun any more.
    """
    if len(jobs) == 1:
        yield jobs[0], work(jobs[0])
        return
    waiting, suspects = deque(jobs), deque[Job]()
    while (waiting or suspects) and not stop():
        alone = bool(suspects)
        source, at_once = (suspects, 1) if alone else (waiting, min(workers, len(waiting)))
        running: dict[Future[Result], Job] = {}
        broken = False
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(at_once, context, initializer=_end_with_parent) as pool:
            while running or (source and not broken and not stop()):
                while source and len(running) < at_once and not broken and not stop():
                    try:
                        with _for_workers():
                            running[pool.submit(work, source[0])] = source[0]
                        source.popleft()
                    except BrokenProcessPool:
                        broken = True
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        broken = True
                        if alone:
                            yield job, None
                        else:
                            suspects.append(job)
                    else:
                        yield job, result


@contextlib.contextmanager
def _for_workers() -> Iterator[None]:
    """What processes that start meanwhile inherit: one thread each, and Ctrl-C is left to their parent."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _end_with_parent() -> None:
    """A pool's processes would outlive a parent that is killed, and wait for work for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def solved(task: Task) -> Outcome:
    """Solve one mask and write its map and its picture."""
    import numpy as np

    from alss_ray.array_files import read_array
    from alss_ray.oracles.vessel import Refused, Settings, solve
    from alss_ray.tasks.masks import wall_share

    options = task.options
    settings = Settings(pressure=options.pressure, quantity=options.quantity)
    try:
        mask = wall_share(read_array(task.path), options.wall_label)
        solution = solve(mask, options.spacing, settings)
        with replacing(task.map) as part, open(part, "wb") as file:
            np.save(file, solution.stress)
        with replacing(task.picture) as part:
            draw(solution, task, part)
    except (UsageError, Refused) as error:
        return Outcome(refused=" ".join(str(error).split()))
    except OSError as error:
        return Outcome(refused=f"Its results cannot be written ({error.strerror or error}).")
    except Exception as error:  # one file's fault does not take the others down
        return Outcome(
            refused=f"It cannot be solved ({type(error).__name__}: {' '.join(str(error).split())})."
        )
    return Outcome(solution.repairs)


def draw(solution: Solution, task: Task, path: Path) -> None:
    """The map as a PNG picture with a colour bar in kPa; axes in mm."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    signed = solution.stress.ndim == 3
    maps = solution.stress if signed else solution.stress[None]
    inside = solution.wall.inside
    values = maps[:, inside]
    # A few pixels at a sharp corner shall not pale the rest; the colour bar's arrow and the title tell of them.
    high = float(np.percentile(np.abs(values), 99.5)) or 1.0
    low = -high if signed else 0.0
    above, below = bool(values.max() > high), bool(values.min() < low)
    extend = {(True, True): "both", (True, False): "max", (False, True): "min"}.get((above, below), "neither")
    figure = Figure((13.0 if signed else 6.4, 4.8 if signed else 5.2), dpi=PICTURE_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(maps), squeeze=False, sharey=True)[0]
    height, width = (side * task.options.spacing for side in inside.shape)
    for panel, values_of, component in zip(panels, maps, ("xx", "yy", "xy"), strict=False):
        image = panel.imshow(
            np.ma.masked_where(~inside, values_of),
            cmap="RdBu_r" if signed else "viridis",
            vmin=low,
            vmax=high,
            extent=(0, width, height, 0),
            interpolation="nearest",
        )
        panel.set_facecolor("#e4e4e4" if signed else "#f4f4f4")
        panel.set_xlabel("mm")
        panel.spines[:].set_visible(False)
        panel.tick_params(color="#888888", labelcolor="#444444")
        if signed:
            panel.set_title(component, fontsize=10)
    panels[0].set_ylabel("mm")
    name = task.path.stem if len(task.path.stem) <= 44 else f"{task.path.stem[:43]}…"
    peak = f"{values.min():.0f} to {values.max():.0f} kPa" if signed else f"peak {values.max():.0f} kPa"
    figure.suptitle(f"{name}: {peak}", fontsize=11, parse_math=False)
    bar = figure.colorbar(image, ax=list(panels), extend=extend, shrink=0.9)
    bar.set_label(f"{NAMES[task.options.quantity]} (kPa)")
    bar.outline.set_visible(False)
    with open(path, "wb") as file:
        canvas.print_png(file)
