"""analysis/compare.py: arms whose truth is known, what must not be paired, and honesty where seeds are few."""

import json

import compare
import numpy as np
import pytest
import synthetic
from _arms import find, named
from _inference import LEVEL
from _paired import NOT_SHOWN
from _paired import compare as compared
from _shared import guarded, read
from synthetic import script, snn, write

from alss_ray.config import UsageError
from alss_ray.metrics import aulc

GUESS = 0.1


def rounds(*folders):
    return read(folders, ("rounds",))["rounds"]


def arm(folder, make, curve, seeds=range(3), till=4, **row):
    """One run a seed whose metric after n labels is curve(n, seed)."""
    for seed in seeds:
        experiment = make(seed)
        size = experiment.round_size
        write(folder, experiment, range(1, till + 1), lambda t, s=seed, j=size: curve(t * j, s), **row)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Ten seeds: random rises by 1 % a label, gradient steps by 1.5 %, its control as random but for noise."""
    folder = tmp_path_factory.mktemp("sweep")
    noise = np.random.default_rng(0).normal(0, 0.02, 10)
    shared = np.random.default_rng(1).normal(0, 0.03, 10)
    arm(folder, synthetic.random, lambda n, s: 0.01 * n + shared[s], range(10))
    arm(folder, snn, lambda n, s: 0.015 * n + shared[s], range(10))
    arm(folder, lambda s: snn(s, direction="random"), lambda n, s: 0.01 * n + shared[s] + noise[s], range(10))
    return folder


def test_differences_are_numpys_and_the_verdict_says_what_is_true(sweep):
    found = compared(rounds(sweep))
    assert (found.baseline, found.metric, found.higher_is_better) == (
        "random, iterations=150",
        "accuracy",
        True,
    )
    gradient, control = found.arms
    assert gradient.name.endswith("direction=gradient")
    for at, n in zip(gradient.rounds, (10, 20, 30, 40), strict=True):
        assert (at.t, at.labels) == (n // 10, n)
        assert at.mean == pytest.approx(0.005 * n)
        assert at.interval.low == pytest.approx(at.interval.high) == pytest.approx(0.005 * n)
        assert at.p == 2**-9
        assert at.adjusted_p == pytest.approx(4 * 2**-9)
    values = {}
    for row in rounds(sweep).to_pylist():
        values.setdefault((row["seed"], row["direction"]), []).append(row["test_metric"])
    for result, direction in ((gradient, "gradient"), (control, "random")):
        for seed, gap in result.by_seed.items():
            ours, theirs = (aulc(GUESS, (10, 20, 30, 40), values[seed, d]) for d in (None, direction))
            assert gap == pytest.approx(theirs - ours)
        gaps = list(result.by_seed.values())
        assert result.aulc.mean == pytest.approx(np.mean(gaps))
        assert result.aulc.interval.low <= np.mean(gaps) <= result.aulc.interval.high
    assert (gradient.verdict, control.verdict) == ("better", NOT_SHOWN)
    assert gradient.aulc.adjusted_p == 2 * 2**-9
    assert found.verdict.startswith(
        "Against random, iterations=150, by the AULC of the test metric over 10 paired seeds: "
    )
    assert found.verdict.index("gradient is better (+") < found.verdict.index("no difference shown for snn")


def test_labels_saved_of_straight_lines(sweep):
    """0.015 n reaches 0.01 m at n = 2 m / 3: a third is saved, whatever the seeds have in common."""
    found = compared(rounds(sweep))
    saving = found.arms[0].savings
    assert [s.baseline_labels for s in saving] == pytest.approx([20, 30, 40])
    assert [s.arm_labels for s in saving] == pytest.approx([40 / 3, 20, 80 / 3])
    assert [s.saved for s in saving] == pytest.approx([20 / 3, 10, 40 / 3])
    for s in saving:
        assert (s.interval.low, s.interval.high) == pytest.approx((s.saved, s.saved))
        assert s.reached == 1


def test_where_lower_is_better_every_direction_turns(sweep, tmp_path):
    mirrored = {"higher_is_better": False, "metric": "MSE", "test_guess": 1 - GUESS}
    shared = np.random.default_rng(1).normal(0, 0.03, 10)
    arm(tmp_path, synthetic.random, lambda n, s: 1 - 0.01 * n - shared[s], range(10), **mirrored)
    arm(tmp_path, snn, lambda n, s: 1 - 0.015 * n - shared[s], range(10), **mirrored)
    found, other = compared(rounds(tmp_path)), compared(rounds(sweep))
    (result,) = found.arms
    assert result.verdict == "better"
    assert result.aulc.mean == pytest.approx(-other.arms[0].aulc.mean)
    assert [s.saved for s in result.savings] == pytest.approx([20 / 3, 10, 40 / 3])
    assert [s.level for s in result.savings] == pytest.approx([1 - s.level for s in other.arms[0].savings])
    assert found.wins["snn, iterations=100"]["random, iterations=150"] == tuple(range(10))
    assert found.wins["random, iterations=150"]["snn, iterations=100"] == ()
    worse = compared(rounds(tmp_path), baseline="snn").arms[0]
    assert (worse.verdict, worse.savings[-1].saved, worse.savings[-1].arm_labels) == ("worse", None, None)
    assert "is worse" in compared(rounds(tmp_path), baseline="snn").verdict


def test_a_level_that_is_not_reached_gets_no_value(tmp_path, capsys):
    arm(tmp_path, synthetic.random, lambda n, s: 0.01 * n)
    arm(tmp_path, snn, lambda n, s: 0.005 * n if s else 0.011 * n)
    (result,) = compared(rounds(tmp_path)).arms
    first, *_, last = result.savings
    assert first.arm_labels == pytest.approx(20 * 0.01 / 0.007)
    assert (last.level, last.saved, last.arm_labels) == (pytest.approx(0.4), None, None)
    # Only a resample of seed 0 alone gets there: one in 27.
    assert last.reached == pytest.approx(1 / 27, abs=0.01)
    assert last.interval.low == -np.inf
    done = script("compare.py", tmp_path, "--format", "json")
    assert json.loads(done.stdout)["arms"][0]["savings"][-1]["interval"]["low"] is None
    assert "not reached (by" in script("compare.py", tmp_path).stdout


def test_few_seeds_are_told_what_they_cannot_show(tmp_path):
    arm(tmp_path, synthetic.random, lambda n, s: 0.01 * n, range(5))
    arm(tmp_path, snn, lambda n, s: 0.012 * n + 0.001 * s, range(5))
    found = compared(rounds(tmp_path))
    (result,) = found.arms
    assert (result.aulc.p, result.verdict) == (2**-4, NOT_SHOWN)
    assert "no p can come below 0.062, 6 seeds are the fewest that can show one." in found.verdict
    assert any("94% of cases" in note for note in found.notes)
    arm(tmp_path, synthetic.random, lambda n, s: 0.01 * n, [5])
    arm(tmp_path, snn, lambda n, s: 0.012 * n + 0.001 * s, [5])
    (result,) = compared(rounds(tmp_path)).arms
    assert (result.aulc.p, result.verdict) == (2**-5, "better")


def test_one_seed_has_no_interval_and_no_test(tmp_path):
    arm(tmp_path, synthetic.random, lambda n, s: 0.01 * n, [0])
    arm(tmp_path, snn, lambda n, s: 0.02 * n, [0])
    found = compared(rounds(tmp_path))
    (result,) = found.arms
    assert result.aulc.interval is None
    assert all(row.interval is None and np.isnan(row.p) for row in result.rounds)
    assert all(saving.interval is None for saving in result.savings)
    assert result.savings[-1].saved == pytest.approx(20)
    assert "one paired seed shows no spread" in found.verdict
    assert any("no interval and no test" in note for note in found.notes)
    shown = script("compare.py", tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "nan" not in shown.stdout


def test_unequal_budgets_and_round_sizes_meet_on_the_smaller_budget(tmp_path):
    arm(tmp_path, lambda s: synthetic.random(s, label_budget=40), lambda n, s: 0.01 * n)
    arm(tmp_path, lambda s: snn(s, round_size=15, label_budget=30), lambda n, s: 0.01 * n + 0.05, till=2)
    found = compared(rounds(tmp_path))
    (result,) = found.arms
    assert result.budget == 30
    assert any("unequal budgets; they are compared up to 30 labels" in note for note in found.notes)
    # 15 is the arm's first evaluation, so the difference begins at the baseline's 20.
    assert [(row.labels, row.mean) for row in result.rounds] == [
        (20, pytest.approx(0.05)),
        (30, pytest.approx(0.05)),
    ]
    ours = aulc(GUESS, (10, 20, 30), (0.1, 0.2, 0.3))
    assert result.aulc.baseline == pytest.approx(ours)
    assert result.aulc.arm == pytest.approx(aulc(GUESS, (15, 30), (0.2, 0.35)))


def test_an_unfinished_sweep_is_answered_and_what_is_missing_is_said(tmp_path):
    arm(tmp_path, synthetic.random, lambda n, s: 0.01 * n, range(4))
    arm(tmp_path, snn, lambda n, s: 0.012 * n, range(2))
    arm(tmp_path, snn, lambda n, s: 0.012 * n, [2], till=2)
    found = compared(rounds(tmp_path))
    assert found.arms[0].seeds == (0, 1)
    assert any("seed 2, has 20 of 40 labels; left out" in note for note in found.notes)
    assert any("has no run with seed 3" in note for note in found.notes)


def test_where_no_pair_has_finished_all_are_compared_as_far_as_they_go(tmp_path):
    arm(tmp_path, synthetic.random, lambda n, s: 0.01 * n, range(3), till=3)
    arm(tmp_path, snn, lambda n, s: 0.012 * n, range(3), till=2)
    found = compared(rounds(tmp_path))
    assert (found.arms[0].budget, found.arms[0].seeds) == (20, (0, 1, 2))
    assert any("No pair" in note and "up to 20 labels" in note for note in found.notes)


def test_a_diverged_run_is_left_out_and_named(tmp_path):
    arm(tmp_path, synthetic.random, lambda n, s: 0.01 * n)
    arm(tmp_path, snn, lambda n, s: np.nan if (n, s) == (30, 1) else 0.012 * n)
    found = compared(rounds(tmp_path))
    assert found.arms[0].seeds == (0, 2)
    assert any(snn(1).identity in note and "not finite" in note for note in found.notes)


def test_groups_are_averaged_within_a_seed(tmp_path):
    for alpha, rise in ((1.0, 0.01), (2.0, 0.02)):
        arm(tmp_path, lambda s, a=alpha: snn(s, alpha=a), lambda n, s, r=rise: r * n)
    arm(tmp_path, synthetic.random, lambda n, s: 0.01 * n)
    found = compared(rounds(tmp_path), by=["strategy"])
    (result,) = found.arms
    assert result.rounds[-1].arm == pytest.approx(0.6)
    assert len(result.configurations) == 2
    assert any("snn holds 2 configurations" in note for note in found.notes)


def test_whole_pool_runs_and_doubled_experiments_do_not_count(tmp_path):
    for name in ("a", "b"):
        arm(tmp_path / name, synthetic.random, lambda n, s: 0.01 * n)
        arm(tmp_path / name, snn, lambda n, s: 0.012 * n)
    arm(tmp_path / "a", lambda s: synthetic.random(s, 100, 100), lambda n, s: 0.9, till=1)
    arms, _ = find(rounds(tmp_path / "a", tmp_path / "b"), "test_metric")
    assert [(a.name, {seed: len(runs) for seed, runs in a.runs.items()}) for a in arms] == [
        ("random, iterations=150", {0: 1, 1: 1, 2: 1}),
        ("snn, iterations=100", {0: 1, 1: 1, 2: 1}),
    ]


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("data", {"data_hash": "other"}),
        ("network", {"parameters": 7}),
        ("hardware", {"device": "NVIDIA H100"}),
        ("hardware", {"cpu": "other"}),
    ],
)
def test_runs_that_differ_in_what_matters_are_not_paired_unless_allowed(tmp_path, kind, row):
    same = {"data_hash": "d", "parameters": 5, "device": "cpu", "cpu": "c"}
    arm(tmp_path, synthetic.random, lambda n, s: 0.01 * n, **same)
    arm(tmp_path, snn, lambda n, s: 0.012 * n, **same | row)
    table = rounds(tmp_path)
    ((name, value),) = row.items()
    with pytest.raises(UsageError, match=rf"{name} {same[name]} against {value} .*--allow {kind}"):
        compared(table)
    others = [k for k in ("data", "network", "hardware") if k != kind]
    with pytest.raises(UsageError, match=f"--allow {kind}"):
        compared(table, allow=others)
    found = compared(table, allow=[kind])
    assert any("differ, as allowed" in note and str(value) in note for note in found.notes)


def test_validation_labels_must_be_equal_where_their_metric_counts(tmp_path):
    arm(tmp_path, synthetic.random, lambda n, s: 0.01 * n, n_val_labels=20)
    arm(tmp_path, snn, lambda n, s: 0.012 * n, n_val_labels=40)
    assert compared(rounds(tmp_path)).arms
    with pytest.raises(UsageError, match="n_val_labels 20 against 40"):
        compared(rounds(tmp_path), metric="val_metric")


def test_the_baseline_is_named_in_any_unambiguous_way(sweep):
    arms, _ = find(rounds(sweep), "test_metric")
    control = next(a for a in arms if "direction=random" in a.name)
    for name in (control.name, "direction=random", control.configurations[0]):
        assert named(arms, name) is control
    assert named(arms, None).name.startswith("random")
    assert named(arms, "random") is named(arms, None)
    with pytest.raises(UsageError, match="Several arms"):
        named(arms, "snn")
    with pytest.raises(UsageError, match=r"no arm 'margin'; the arms are 'random, iterations=150'; "):
        named(arms, "margin")
    with pytest.raises(UsageError, match="No arm has the strategy random"):
        named([a for a in arms if not a.name.startswith("random")], None)


def test_text_and_json_say_the_same(sweep):
    done = script("compare.py", sweep, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    text = script("compare.py", sweep).stdout
    assert text.splitlines()[0] == told["verdict"]
    gradient = told["arms"][0]
    at = gradient["aulc"]
    ends = f"[{100 * at['interval']['low']:+.2f}, {100 * at['interval']['high']:+.2f}]"
    assert f"{100 * at['mean']:+.2f} {ends}" in text
    assert "10/10" in text
    assert len(told["wins"][gradient["name"]][told["baseline"]]) == 10
    assert all(at["adjusted_p"] <= LEVEL for at in gradient["rounds"])


def test_bad_input_ends_with_status_2_and_one_line(sweep, tmp_path, capsys):
    for k in range(30):
        write(tmp_path / "many", snn(alpha=1.0 + k), (1,))
    write(tmp_path / "one", snn(), (1, 2))
    arm(tmp_path / "apart", synthetic.random, lambda n, s: 0.1, [0])
    arm(tmp_path / "apart", snn, lambda n, s: 0.1, [1])
    write(tmp_path / "mse", snn(), (1,), metric="MSE")
    (tmp_path / "empty").mkdir()
    asked = [
        ((), {}, "at least one results folder"),
        ((tmp_path / "none",), {}, "There is no results folder"),
        ((tmp_path / "empty",), {}, "holds no records"),
        ((sweep,), {"by": "stratgy"}, "no column stratgy to group by; nearest: strategy"),
        ((sweep,), {"by": "t"}, "no column t to group by"),
        ((sweep,), {"baseline": "margin"}, "no arm 'margin'"),
        ((tmp_path / "one",), {}, "only one arm"),
        ((tmp_path / "many",), {}, "30 configurations, too many"),
        ((tmp_path / "many",), {"by": "alpha"}, "makes 30 arms"),
        ((tmp_path / "apart",), {}, "No arm has a seed in common with random"),
        ((sweep, tmp_path / "mse"), {}, "several metrics (MSE, accuracy)"),
    ]
    for folders, more, said in asked:
        options = compare.CompareOptions(tuple(map(str, folders)), **more)
        assert guarded(lambda options=options: compare.work(options)) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1), err
        assert said in err


def test_long_tables_are_thinned_from_the_end():
    assert compare.thinned(list(range(1, 101)), 30)[-1] == 100
    assert len(compare.thinned(list(range(100)), 30)) <= 30
    assert compare.thinned([1, 2], 30) == [1, 2]
    assert compare.thinned([], 30) == []
