"""python -m alss_ray suggest ...: what to annotate next in a folder of images."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alss_ray import cli
from alss_ray.config import UsageError, at_least, component_name
from alss_ray.places import Place

IDLE = (
    "task", "round_size", "label_budget", "validation_share", "retrain", "evaluate_every", "score_limit",
)  # fmt: skip
"""What only experiments of several rounds have."""


@dataclass(frozen=True)
class SuggestOptions:
    """How many suggestions, and where they go."""

    count: int = 50
    """Images to suggest."""
    out: Path = Path("suggestions")
    """Folder of the suggestions. Labels that people have left in it are known, beside those in --labels."""
    ask: str = "Which class is it?"
    """What people are to tell of every image."""
    threads: int | None = None
    """CPU threads; as many as torch chooses unless given."""
    cache: Place | None = None
    """Folder of trained generators, shared with all runs; ~/.cache/alss_ray/generators unless given."""


def suggest(argv: Sequence[str]) -> int:
    """Write the next images to annotate, and say where."""
    parsed = cli.parse(
        SuggestOptions(),
        "Say which images of a folder to annotate next, and why.",
        argv,
        "python -m alss_ray suggest",
        cli.Components(task="alss_ray.tasks.annotations:Annotations"),
        idle=IDLE,
    )
    options, experiment = parsed.options, parsed.experiment
    strategy = experiment.strategy
    at_least("suggest", 1, count=options.count, threads=options.threads or 1)
    if strategy.makes_images or strategy.learns == "maps":
        raise UsageError(
            f"The strategy {component_name(strategy)} does not choose among images that have classes; give another "
            "--strategy."
        )
    # Heavy imports wait until the command line is known to be good.
    import torch
    from rich.console import Console

    from alss_ray.adviser import Adviser, known
    from alss_ray.generators.store import GeneratorStore, default_folder
    from alss_ray.oracles.folder import FolderAnnotators
    from alss_ray.oracles.people import Classes
    from alss_ray.tasks.annotations import Annotations

    if not isinstance(experiment.task, Annotations):
        raise UsageError(f"suggest reads --images and --labels; leave --task {experiment.task.name} out.")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    classes = experiment.task.class_names()
    people = FolderAnnotators(
        options.out.expanduser().absolute(), Classes(classes), options.ask, growing=True
    )
    found, complaints = known(experiment.task, people)
    print(
        f"{len(found.targets)} images, {len(found.labelled)} of them labelled with {len(classes)} classes; "
        f"{int(found.free.sum())} can be suggested."
    )
    print("\n".join(complaints), end="\n" if complaints else "", file=sys.stderr)
    if not found.free.any():
        print(f"Nothing is left to suggest; what was suggested: {people.where}.")
        return 0
    with Console(stderr=True).status("starting") as status:
        adviser = Adviser(experiment, found, GeneratorStore(options.cache or default_folder()), status.update)
        accuracy = adviser.accuracy()
        people.ask(adviser.suggestions(options.count))
    if accuracy is not None:
        share, of = accuracy
        error = math.sqrt(share * (1 - share) / of)
        print(
            f"The network gets {share:.0%} ± {error:.0%} of labels right: {of} were kept from it to measure that."
        )
    print(f"To be labelled: {people.where}; index.html there shows the images.")
    print("Give the same command again when some are: labels in that folder are taken in.")
    return 0
