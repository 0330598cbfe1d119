"""python -m alss_ray run ...: one experiment in this process, without Ray; label ...: stress maps of mask files;
suggest ...: what to annotate next in a folder of images."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from alss_ray import cli, results
from alss_ray.config import Settings, UsageError, Waiting, flatten
from alss_ray.label import label
from alss_ray.places import Place
from alss_ray.suggest import suggest


@dataclass(frozen=True)
class RunOptions:
    """One experiment: where its results go."""

    out: Place | None = None
    """Results folder, here or on an object store (s3://bucket/path); results/run-<date>-<time> unless given."""
    resume: bool = False
    """Go on with the experiment that --out holds, from the phase that was not finished."""
    rounds: int | None = None
    """Number of rounds: sets the label budget to this many times the round size."""
    threads: int | None = None
    """CPU threads; as many as torch chooses unless given."""
    device: str | None = None
    """What computes, as torch names it: cpu, cuda, cuda:1; the GPU where there is one unless given."""
    deterministic: bool = False
    """Have a GPU give the same bits every time, as a CPU does anyway; it is slower then."""
    cache: Place | None = None
    """Folder of trained generators, shared by all runs; ~/.cache/alss_ray/generators unless given."""
    trajectories: int = 0
    """Points whose paths through latent space are recorded, for analysis/trajectories.py (Figure 4); with
    --redraw-every 0, and --latent-dim 2 for a map of the whole space."""
    wait: bool = False
    """Where people label, stay until their labels are there, and go on at once; otherwise stop, to be resumed."""
    reference: bool = True
    """At the end, train on every label of the pool as well, where the task's own oracle gives them in a minute."""


def _with_rounds(options: RunOptions, settings: Settings) -> Settings:
    if options.rounds is None:
        return settings
    if options.rounds < 1:
        raise UsageError(f"--rounds is {options.rounds}; give 1 or more.")
    return dataclasses.replace(settings, label_budget=options.rounds * settings.round_size)


def run(argv: Sequence[str]) -> int:
    """Run one experiment and print a line a round."""
    parsed = cli.parse(
        RunOptions(),
        "Run one progressive-training experiment.",
        argv,
        "python -m alss_ray run",
        adjust=_with_rounds,
    )
    options, experiment = parsed.options, parsed.experiment
    # Heavy imports wait until the command line is known to be good.
    import torch
    from rich.console import Console

    from alss_ray import devices
    from alss_ray.display import print_next_steps
    from alss_ray.experiment import Run
    from alss_ray.generators.store import GeneratorStore, default_folder
    from alss_ray.generators.verdicts import print_generators
    from alss_ray.materials import check, materials
    from alss_ray.reference import whole_pool
    from alss_ray.trajectories import check as check_trajectories
    from alss_ray.waiting import patiently

    if options.threads is not None:
        if options.threads < 1:
            raise UsageError(f"--threads is {options.threads}; give 1 or more.")
        torch.set_num_threads(options.threads)
    device = devices.chosen(options.device)
    if options.deterministic:
        devices.make_deterministic()
    console = Console(stderr=True)
    shared = patiently(lambda: materials(experiment.task), options.wait, console).cached()
    check(experiment, shared.data)
    if options.trajectories < 0:
        raise UsageError(f"--trajectories is {options.trajectories}; give a number of points, or 0 for none.")
    if options.trajectories:
        check_trajectories(experiment, shared.data)
    folder = options.out or Place(results.default_folder("run"))
    asked = {"kind": "run", "name": experiment.identity, "experiment": flatten(experiment)}
    results.claim(folder, asked, options.resume)

    def work() -> tuple[Run, Run | None]:
        with console.status("starting") as status:
            source = GeneratorStore(options.cache or default_folder())
            rounds = Run(experiment, shared, folder, source, status.update, options.trajectories, device)
            if rounds.state.t > experiment.rounds:
                print(f"{folder} holds all {experiment.rounds} rounds already; nothing is left to do.")
            for row in rounds.rounds():
                print(
                    f"round {row['t']:>3}  labels {row['n_labels']:>6}  "
                    f"validation {row['val_metric']:.4f}  test {row['test_metric']:.4f}  "
                    f"loss before training {row['new_loss']:.3f}  {row['fit_seconds']:.1f} s",
                    flush=True,
                )
            known = whole_pool(experiment, shared.data) if options.reference else None
            if known is None:
                return rounds, None
            status.update(
                f"reference: buying all {known.label_budget} labels of the pool, and training on them"
            )
            reference = Run(known, shared, folder, source, device=device)
            for _ in reference.rounds():
                pass
            return rounds, reference

    try:
        rounds, reference = patiently(work, options.wait, console)
    except Waiting as waiting:
        waiting.then = f"add --out {folder} --resume to the same command"
        raise
    except KeyboardInterrupt:
        print(f"\nInterrupted; nothing is lost. Add --out {folder} --resume to go on.", file=sys.stderr)
        raise
    print(f"AULC {rounds.result['val_aulc']:.4f} ({experiment.task.metric}, validation)")
    if reference is not None:
        labels, _, tested = reference.state.history[-1]
        print(
            f"For reference, test: {tested:.4f} with all {labels} labels, {reference.guess[1]:.4f} without learning"
        )
    print_generators(folder)
    print_next_steps(folder)
    return 0


COMMANDS = {"run": run, "label": label, "suggest": suggest}


def main() -> int:
    """Hand over to the command that is named first."""
    words = sys.argv[1:]
    if words and words[0] in COMMANDS:
        return cli.guarded(lambda: COMMANDS[words[0]](words[1:]))
    known = ", ".join(COMMANDS)
    if words and words[0] in ("-h", "--help"):
        print(f"{__doc__}\n\nCommands: {known}. Add --help behind one for its options.")
        return 0
    wrong = f"there is no command {words[0]!r}; " if words else ""
    print(
        f"python -m alss_ray: {wrong}give one of {known}, and --help behind it for its options.",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
