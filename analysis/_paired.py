"""Arms against a baseline, paired by seed: differences, tests, labels saved, and what may be said of them.

`compare` is the way in; `Comparison` is what it finds, in the metric's own unit. Imports neither torch nor Ray.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from _arms import Arm, Pairing, differing, find, named, pairing
from _inference import (
    LEVEL,
    Interval,
    holm,
    intervals,
    labels_to_reach,
    least_p,
    mean_intervals,
    permutation_p,
    resamples,
    seeds_needed,
    wilcoxon_p,
)

from alss_ray.config import UsageError
from alss_ray.metrics import display_unit

NOT_SHOWN = "no difference shown"


@dataclass(frozen=True)
class Difference:
    """Arm minus baseline in one figure: its mean over pairs, and how sure that is."""

    baseline: float
    """Mean of the baseline over the paired seeds."""
    arm: float
    """Mean of the arm over the same seeds."""
    mean: float
    """arm - baseline; whether more is better is the comparison's `higher_is_better`."""
    interval: Interval | None
    """95 % bootstrap interval of the mean difference; None with one pair."""
    p: float
    """Two-sided permutation test of the pairs, not adjusted; NaN with one pair."""
    wilcoxon_p: float
    """Wilcoxon's signed-rank test, two-sided, not adjusted; NaN with one pair."""
    adjusted_p: float
    """`p` adjusted by Holm: an AULC's for the arms, a round's for the rounds of its arm."""


@dataclass(frozen=True)
class AtRound(Difference):
    """The difference at the end of one of the baseline's rounds."""

    t: int | None
    """The baseline's round; None where its runs have rounds of different sizes."""
    labels: int
    """Training labels bought by then; an arm with other round sizes is interpolated."""


@dataclass(frozen=True)
class Saving:
    """Labels that the arm saves in reaching a level that the baseline reaches."""

    level: float
    """The baseline's mean at the end of a round that is better than all before."""
    baseline_labels: float
    """Labels at which the baseline's mean curve first reaches the level."""
    arm_labels: float | None
    """The same of the arm; None where it does not get there within the labels compared."""
    saved: float | None
    """baseline_labels - arm_labels, below 0 where the arm needs more; None where it does not get there."""
    interval: Interval | None
    """95 % bootstrap interval over the seeds of `saved`, the level moving with the baseline's resampled mean; its
    low end is minus infinity where too many resampled arms do not get there. None with one pair."""
    reached: float
    """Share of the resampled arms that get there; 0 or 1 with one pair."""


@dataclass(frozen=True)
class ArmResult:
    """One arm against the baseline."""

    name: str
    configurations: tuple[str, ...]
    """Hashes of the configurations behind it."""
    seeds: tuple[int, ...]
    """The paired seeds."""
    budget: int
    """Labels up to which the two are compared."""
    aulc: Difference
    """Of the area under the learning curve up to `budget`: what the verdict is about."""
    by_seed: dict[int, float]
    """Seed -> difference of the AULC."""
    rounds: tuple[AtRound, ...]
    savings: tuple[Saving, ...]
    verdict: str
    """'better', 'worse' or 'no difference shown' (NOT_SHOWN): whether the AULC's adjusted p is at most LEVEL."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found."""

    column: str
    """'test_metric' or 'val_metric'."""
    metric: str
    """The metric's name."""
    higher_is_better: bool
    tasks: tuple[str, ...]
    baseline: str
    """Name of the baseline."""
    arms: tuple[ArmResult, ...]
    wins: dict[str, dict[str, tuple[int, ...]]]
    """Arm -> other arm -> the seeds with which its AULC is strictly better; the baseline is one of them."""
    pairs: dict[str, dict[str, tuple[int, ...]]]
    """Arm -> other arm -> all seeds that the two have in common."""
    verdict: str
    """One sentence."""
    notes: tuple[str, ...]
    """A sentence for each thing that is missing, was left out or limits what can be said."""


def compare(
    table: pa.Table,
    metric: str = "test_metric",
    by: Sequence[str] | None = None,
    baseline: str | None = None,
    allow: Collection[str] = (),
) -> Comparison:
    """Compare arms with a baseline, paired by seed.

    Args:
        table: the records of rounds, of one task.
        metric: 'test_metric' or 'val_metric'.
        by: columns of the configuration whose values make an arm; without them each configuration is one.
        baseline: an arm's name, a part of it that no other has, or a configuration's hash; the arm whose
            strategy is random unless given.
        allow: 'data', 'network', 'hardware', 'validation': what may differ within a pair.

    Raises:
        UsageError: there is nothing to compare, or runs that must not be paired; the sentence says what differs.
    """
    names, directions = (set(pc.unique(table[name]).to_pylist()) for name in ("metric", "higher_is_better"))
    if len(names) > 1 or len(directions) > 1:
        raise UsageError(
            f"The records hold several metrics ({', '.join(sorted(map(str, names)))}); compare one task at a time."
        )
    higher_is_better = bool(directions.pop())
    arms, notes = find(table, metric, by)
    if len(arms) < 2:
        only = f"only one arm, '{arms[0].name}'" if arms else "no arm"
        raise UsageError(
            f"The records hold {only}; a comparison takes two (--by makes arms of other columns)."
        )
    base = named(arms, baseline)
    pairings = {}
    for arm in arms:
        if arm is base:
            continue
        paired = pairing(base, arm)
        notes.extend(paired.notes)
        if paired.seeds:
            _check(base, arm, paired, metric, allow, notes)
            pairings[arm.name] = paired
    if not pairings:
        raise UsageError(f"No arm has a seed in common with {base.name}; run the arms with the same seeds.")
    sign = 1 if higher_is_better else -1
    compared = [arm for arm in arms if arm.name in pairings]
    results = _results(base, compared, [pairings[arm.name] for arm in compared], sign)
    notes.extend(_limits(results, base, compared))
    wins, pairs = _wins([base, *compared], sign)
    return Comparison(
        metric, names.pop(), higher_is_better, tuple(sorted(pc.unique(table["task"]).to_pylist())), base.name, results,
        wins, pairs, verdict_sentence(base.name, results, metric, display_unit(table["metric"][0].as_py())),
        tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _check(
    base: Arm, arm: Arm, paired: Pairing, metric: str, allow: Collection[str], notes: list[str]
) -> None:
    """Raise UsageError for pairs that differ in what was not allowed; note what was."""
    kinds = ["data", "network", "hardware", *(["validation"] if metric == "val_metric" else [])]
    differences = differing(base, arm, paired.seeds, kinds)
    if refused := {kind: text for kind, text in differences.items() if kind not in allow}:
        raise UsageError(
            f"{arm.name} and {base.name} cannot be paired: {'; '.join(refused.values())}. "
            f"Compare runs that share them, or add --allow {' '.join(refused)}."
        )
    notes.extend(f"{arm.name} and {base.name} differ, as allowed: {text}." for text in differences.values())


def _results(base: Arm, arms: Sequence[Arm], pairings: Sequence[Pairing], sign: int) -> tuple[ArmResult, ...]:
    """Every arm against the baseline, the tests of their AULCs adjusted for one another."""
    aulcs = [
        (base.aulcs(paired.seeds, paired.budget), arm.aulcs(paired.seeds, paired.budget))
        for arm, paired in zip(arms, pairings, strict=True)
    ]
    raw = [permutation_p((theirs - ours)[:, None])[0] for ours, theirs in aulcs]
    adjusted = holm(np.array(raw))
    results = []
    for arm, paired, (ours, theirs), p in zip(arms, pairings, aulcs, adjusted, strict=True):
        (aulc,) = _differences(ours[:, None], theirs[:, None], np.array([p]))
        shown = np.isfinite(p) and p <= LEVEL
        verdict = ("better" if sign * aulc.mean > 0 else "worse") if shown else NOT_SHOWN
        by_seed = {seed: float(gap) for seed, gap in zip(paired.seeds, theirs - ours, strict=True)}
        results.append(
            ArmResult(
                arm.name, arm.configurations, paired.seeds, paired.budget, aulc, by_seed,
                _rounds(base, arm, paired), savings(base, arm, paired.seeds, paired.budget, sign), verdict,
            )
        )  # fmt: skip
    return tuple(results)


def _differences(
    ours: np.ndarray, theirs: np.ndarray, adjusted: np.ndarray | None = None
) -> list[Difference]:
    """A Difference a column of two seeds x columns arrays; adjusted for the columns unless that was done."""
    gaps = theirs - ours
    p, ranked = permutation_p(gaps), wilcoxon_p(gaps)
    adjusted = holm(p) if adjusted is None else adjusted
    return [
        Difference(float(a), float(b), float(m), interval, float(q), float(w), float(h))
        for a, b, m, interval, q, w, h in zip(
            ours.mean(axis=0), theirs.mean(axis=0), gaps.mean(axis=0), mean_intervals(gaps), p, ranked, adjusted,
            strict=True,
        )
    ]  # fmt: skip


def _rounds(base: Arm, arm: Arm, paired: Pairing) -> tuple[AtRound, ...]:
    """The difference at the end of each of the baseline's rounds that all runs have an answer for."""
    ours, theirs = base.all_runs(paired.seeds), arm.all_runs(paired.seeds)
    first = max(run.labels[0] for run in ours + theirs)
    labels = np.unique(np.concatenate([run.labels for run in ours]))
    labels = labels[(labels >= first) & (labels <= paired.budget)]
    if not len(labels):
        return ()
    rounds = {(int(n), int(t)) for run in ours for n, t in zip(run.labels, run.t, strict=True)}
    known = dict(rounds) if len(dict(rounds)) == len(rounds) else {}
    found = _differences(base.curves(paired.seeds, labels), arm.curves(paired.seeds, labels))
    return tuple(
        AtRound(**vars(d), t=known.get(int(n)), labels=int(n)) for d, n in zip(found, labels, strict=True)
    )


def savings(base: Arm, arm: Arm, seeds: Sequence[int], budget: int, sign: int) -> tuple[Saving, ...]:
    """Labels saved at each level that the baseline's mean curve newly reaches at the end of a round after its first.

    Args:
        sign: 1 where higher is better, else -1.
    """
    runs = base.all_runs(seeds) + arm.all_runs(seeds)
    first = max(run.labels[0] for run in runs)
    labels = np.unique(np.concatenate([run.labels for run in runs]))
    labels = labels[(labels >= first) & (labels <= budget)]
    ends = np.isin(labels, np.concatenate([run.labels for run in base.all_runs(seeds)]))
    ours, theirs = (sign * side.curves(seeds, labels) for side in (base, arm))
    mean = ours.mean(axis=0)
    best = np.maximum.accumulate(mean)
    levels = [k for k in range(1, len(labels)) if ends[k] and mean[k] > best[k - 1]]
    shares = resamples(len(seeds)) if len(seeds) > 1 else np.empty((0, 1))
    # The observed means stand in the first row, their resamples below.
    us, them = (np.vstack([side.mean(axis=0), shares @ side]) for side in (ours, theirs))
    found = []
    for k in levels:
        needed = labels_to_reach(us[:, k], labels, us)
        needs = labels_to_reach(us[:, k], labels, them)
        there = np.isfinite(needs)
        saved = needed - needs
        found.append(
            Saving(
                float(sign * mean[k]), float(needed[0]), float(needs[0]) if there[0] else None,
                float(saved[0]) if there[0] else None,
                intervals(saved[1:, None], len(seeds))[0] if len(seeds) > 1 else None,
                float(there[1:].mean()) if len(seeds) > 1 else float(there[0]),
            )
        )  # fmt: skip
    return tuple(found)


def _wins(
    arms: Sequence[Arm], sign: int
) -> tuple[dict[str, dict[str, tuple[int, ...]]], dict[str, dict[str, tuple[int, ...]]]]:
    """Which seeds each arm wins against each other, and which they share."""
    wins: dict[str, dict[str, tuple[int, ...]]] = {arm.name: {} for arm in arms}
    pairs: dict[str, dict[str, tuple[int, ...]]] = {arm.name: {} for arm in arms}
    for one in arms:
        for other in arms:
            if one is other:
                continue
            paired = pairing(one, other)
            gaps = one.aulcs(paired.seeds, paired.budget) - other.aulcs(paired.seeds, paired.budget)
            won = tuple(s for s, gap in zip(paired.seeds, gaps, strict=True) if sign * gap > 0)
            wins[one.name][other.name], pairs[one.name][other.name] = won, paired.seeds
    return wins, pairs


def _limits(results: Sequence[ArmResult], base: Arm, arms: Sequence[Arm]) -> list[str]:
    """What so few seeds, or arms that are groups, cannot show."""
    notes = []
    for seeds in sorted({len(result.seeds) for result in results}):
        if seeds == 1:
            notes.append(
                "With one paired seed there is no spread to judge by: no interval and no test is given."
            )
        elif seeds < 6:
            notes.append(
                f"No test of {seeds} pairs gives a p below {least_p(seeds):.3g}, and an interval can be no wider than "
                f"their range, which holds the true median difference in {1 - least_p(seeds):.0%} of cases, not 95 %."
            )
    for arm in (base, *arms):
        if len(arm.configurations) > 1:
            notes.append(
                f"{arm.name} holds {len(arm.configurations)} configurations; a seed counts as their mean."
            )
    return notes


def verdict_sentence(
    baseline: str, results: Sequence[ArmResult], column: str, unit: tuple[float, str]
) -> str:
    """What may be said of the arms, in one sentence: those that differ first.

    Args:
        unit: what figures are read in, as `metrics.display_unit` gives it.
    """
    family = len(results)
    parts = [
        f"{result.name} is {result.verdict} ({_gap(result, unit)}, p = {result.aulc.adjusted_p:.2g})"
        for result in results
        if result.verdict != NOT_SHOWN
    ]
    unshown = [result for result in results if result.verdict == NOT_SHOWN]
    for seeds in sorted({len(result.seeds) for result in unshown}):
        arms = [result for result in unshown if len(result.seeds) == seeds]
        able = least_p(seeds, family) <= LEVEL
        named = [
            f"{result.name} ({_gap(result, unit)}{f', p = {result.aulc.adjusted_p:.2g}' if able else ''})"
            for result in arms
        ]
        why = ""
        if seeds == 1:
            why = ": one paired seed shows no spread to judge by"
        elif not able:
            why = (
                f": with {seeds} paired seeds{f' and {family} arms' if family > 1 else ''} no p can come below "
                f"{least_p(seeds, family):.2g}, {seeds_needed(family)} seeds are the fewest that can show one"
            )
        parts.append(f"{NOT_SHOWN} for {', '.join(named)}{why}")
    counts = sorted({len(result.seeds) for result in results})
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    which = "validation" if column == "val_metric" else "test"
    plural = "" if counts == [1] else "s"
    basis = f"by the AULC of the {which} metric over {seeds} paired seed{plural}"
    return f"Against {baseline}, {basis}: {'; '.join(parts)}."


def _gap(result: ArmResult, unit: tuple[float, str]) -> str:
    """The mean difference of the AULC with its interval, if it has one."""
    scale, sign = unit
    interval = result.aulc.interval
    ends = f" [{scale * interval.low:+.2f}, {scale * interval.high:+.2f}]" if interval else ""
    return f"{scale * result.aulc.mean:+.2f}{sign}{ends}"
