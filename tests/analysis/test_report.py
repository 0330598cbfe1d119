"""analysis/report.py: its figures against numpy and against the commands it names, and what it says where little is."""

import functools
import json
import shlex
import subprocess
import sys

import numpy as np
import optuna
import pytest
import report
import synthetic
from _report_pareto import front_sql
from _report_source import Source
from _shared import guarded
from pages import Page
from synthetic import NOON, ROOT, metric, script, snn

from alss_ray import display, results
from alss_ray.config import flatten
from alss_ray.files import write_text
from alss_ray.places import Place
from alss_ray.records import FOLDER, RecordWriter

record = functools.partial(synthetic.write, higher_is_better=True, recorded_at=NOON)


def page(folder, **options):
    """The report of a folder, taken apart."""
    out = folder / "page.html"
    report.report(report.ReportOptions(str(folder), str(out), **options))
    return Page(out.read_text())


def claimed(folder, asked, command):
    """A manifest as results.claim writes it."""
    where = {
        "versions": {"python": "3.11.7"},
        "git_commit": "0123456789ab",
        "host": "crunch",
        "cpu": "A Processor",
    }
    about = {"asked": asked, "command": list(command), "started_at": "2026-01-02T03:04:05+00:00", **where}
    write_text(folder / results.MANIFEST, json.dumps(about))


def manifest(folder, experiments, command=("sweeps/table1.py", "--task", "digits", "--seeds", "3")):
    asked = {"kind": "sweep", "name": "table1", "experiments": {e.identity: flatten(e) for e in experiments}}
    claimed(folder, asked, command)


@pytest.fixture(scope="module")
def table1(tmp_path_factory):
    """Paired seeds of random, of snn and of its controls."""
    folder = tmp_path_factory.mktemp("table1")
    arms = [lambda seed: synthetic.random(seed)]
    arms += [lambda seed, d=d: snn(seed, direction=d) for d in ("gradient", "random", "none")]
    manifest(folder, [arm(seed) for seed in range(3) for arm in arms])
    for seed in range(3):
        for k, arm in enumerate(arms):
            record(
                folder, arm(seed), range(1, 5), lambda t, s=seed, k=k: metric(s, t) - 0.01 * k,
                refusal_reasons='{"broken wall": 2}' if k == 1 else "{}", oracle_bought=5,
                label_seconds=0.5, versions='{"python": "3.11.7", "torch": "2.15.0"}', git_commit="0123456789ab",
                host="crunch (8 CPUs)", cpu="A Processor", device="cpu", data_hash="d1g1t5", parameters=38282,
                val_aulc=0.5 + 0.1 * k + 0.01 * seed,
            )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def told(table1):
    return page(table1)


def test_it_says_what_was_run_and_on_what(told):
    rows = dict(told.tables["The work"][1:])
    assert rows["command"] == "python sweeps/table1.py --task digits --seeds 3"
    assert rows["started"] == "2026-01-02T03:04:05+00:00"
    assert rows["experiments"] == "12: 4 configurations, 3 seeds, 48 rounds"
    assert rows["machine"] == "crunch (8 CPUs)"
    assert rows["commit"] == "0123456789ab"
    assert rows["data (hash)"] == "d1g1t5"
    assert rows["versions"] == "python 3.11.7, torch 2.15.0"
    shared = dict(told.tables["Settings that all share"][1:])
    assert shared["label_budget"] == "40"
    assert "direction" not in shared


def test_the_best_are_numpys_means_in_order(told):
    heading, *rows = told.tables["AULC, and accuracy at the end (%); mean ± standard deviation over seeds"]
    at = {name: k for k, name in enumerate(heading)}
    final = np.array([metric(seed, 4) for seed in range(3)])
    expected = [("snn", "none", 3), ("snn", "random", 2), ("snn", "gradient", 1), ("random", "–", 0)]
    assert [(row[at["strategy"]], row[at["direction"]]) for row in rows] == [e[:2] for e in expected]
    for row, (_, _, k) in zip(rows, expected, strict=True):
        assert row[at["AULC"]] == f"{51 + 10 * k:.2f} ± 1.00"
        mean, deviation = 100 * (final.mean() - 0.01 * k), 100 * final.std(ddof=1)
        assert row[at["test"]] == f"{mean:.2f} ± {deviation:.2f}"
        assert row[at["seeds"]] == "3"


def test_the_curves_in_numbers_are_numpys(told):
    heading, *rows = told.tables["The curves in numbers, test accuracy (%)"]
    assert heading[:2] == ["labels", "random, iterations=150"]
    values = np.array([[metric(seed, t) for t in range(1, 5)] for seed in range(3)])
    for k, row in enumerate(rows):
        mean, deviation = 100 * values.mean(axis=0)[k], 100 * values.std(axis=0, ddof=1)[k]
        assert row[:2] == [str(10 * (k + 1)), f"{mean:.2f} ± {deviation:.2f}"]


def test_its_commands_give_its_figures_again(told, tmp_path):
    """Each is run as it stands in the page, from the checkout's folder."""
    answers = {}
    for name, commands in told.commands.items():
        for command in commands:
            words = shlex.split(command)
            assert words[0] == "python"
            if words[1] == "analysis/query.py":
                words += ["--format", "json"]
            if words[1] == "analysis/curves.py":
                words += ["--out", str(tmp_path)]
            if not words[1].startswith("analysis/"):
                continue  # a sweep takes minutes
            done = subprocess.run(
                [sys.executable, *words[1:]], capture_output=True, text=True, cwd=ROOT, timeout=120
            )
            assert (done.returncode, done.stderr) == (0, ""), command
            answers.setdefault(name, []).append(done.stdout)
    _, *rows = told.tables["AULC, and accuracy at the end (%); mean ± standard deviation over seeds"]
    again = json.loads(answers["best"][0])
    assert [row[-1] for row in rows] == [row["configuration"] for row in again]
    assert [row[-3] for row in rows] == [
        f"{100 * row['test_metric']:.2f} ± {100 * row['test_metric_sd']:.2f}" for row in again
    ]
    assert {"best", "curves", "pareto", "oracle", "failures", "run"} <= answers.keys()


def test_the_oracle_is_accounted_for(told):
    heading, *rows = told.tables["Training labels"]
    at = {name: k for k, name in enumerate(heading)}
    # 3 seeds of four rounds: 10 + t calls and t refusals in each, 5 bought.
    assert all(row[at["calls"]] == "150" for row in rows)
    assert all(row[at["cache hits"]] == str(150 - 60) for row in rows)
    assert all(row[at["refused"]] == "30" for row in rows)
    assert told.tables["Refusals by reason"][1:] == [["broken wall", "24", "3"]]
    assert "240 validation labels" in told.texts["oracle"]
    time = {row[0]: row[1] for row in told.tables["Where the time of all experiments went"][1:]}
    assert time["label"] == "24"
    assert time["fit"] == "96"


@pytest.mark.parametrize("higher", [True, False])
def test_the_front_is_that_of_a_search_through_all_points(tmp_path, higher):
    random = np.random.default_rng(0)
    for k in range(6):
        values = random.random(4)
        record(
            tmp_path, snn(alpha=1.0 + k, round_size=5 + 2 * k), range(1, 5), lambda t, v=values: v[t - 1],
            higher_is_better=higher, oracle_bought=0, oracle_calls=int(random.integers(5, 9)),
        )  # fmt: skip
    points = Source.of(Place(tmp_path)).ask(front_sql(Source.of(Place(tmp_path))))
    assert len(points) == 24
    better = (lambda a, b: a >= b) if higher else (lambda a, b: a <= b)
    for one in points:
        beaten = any(
            other is not one
            and other["cost"] <= one["cost"]
            and better(other["val_metric"], one["val_metric"])
            for other in points
        )
        assert one["front"] == (not beaten)


def test_what_is_missing_is_said(tmp_path):
    experiments = [synthetic.random(seed) for seed in range(4)]
    manifest(tmp_path, experiments)
    record(tmp_path, experiments[0], range(1, 5))
    record(tmp_path, experiments[1], range(1, 3))
    record(tmp_path, experiments[1], range(3, 4))
    record(tmp_path, experiments[2], range(1, 2))
    cut = next((tmp_path / FOLDER).glob(f"{experiments[2].identity}*.rounds.arrow"))
    cut.write_bytes(cut.read_bytes()[:300])
    for experiment, t in ((experiments[1], 4), (experiments[3], 1)):
        with RecordWriter(tmp_path / FOLDER, experiment) as writer:
            writer.write("failures", [{"t": t, "failure": f"It broke in round {t}.", "recorded_at": NOON}])
    told = page(tmp_path)
    assert "3 of 4 experiments have not spent their label budgets" in told.texts["summary"]
    unfinished = told.tables["Unfinished experiments"]
    assert [row[0] for row in unfinished[1:]] == [experiments[1].identity]
    assert unfinished[1][-1] == "It broke in round 4."
    missing = told.tables["Experiments without a finished round: 2 of 2"][1:]
    why = {row[0]: row[-1] for row in missing}
    assert set(why) == {experiments[2].identity, experiments[3].identity}
    assert why[experiments[3].identity] == "It broke in round 1."
    assert why[experiments[2].identity] != why[experiments[3].identity]
    assert "1 experiment had more than one attempt" in told.texts["failures"]
    assert str(cut) in told.texts["failures"]
    again = f"python sweeps/table1.py --task digits --seeds 3 --results {tmp_path} --resume"
    assert again in told.commands["summary"]


def test_a_single_run_says_what_it_cannot_show(tmp_path):
    record(tmp_path, snn(), range(1, 5), higher_is_better=True)
    told = page(tmp_path)
    assert "one seed, so its spread is not known" in told.texts["summary"]
    assert "single runs, which have no spread" in told.texts["curves"]
    assert "keeps no sample images" in told.texts["samples"]
    assert "no readable manifest.json" in told.texts["run"]


def test_samples_are_those_of_the_best(tmp_path):
    shape = {"t": 4, "n_labels": 40, "height": 8, "width": 8, "unit": "kPa", "image": bytes(64)}
    maps = {"target": np.ones(64, "<f4").tobytes(), "output": np.zeros(64, "<f4").tobytes()}
    for seed in range(2):
        record(tmp_path, snn(seed), range(1, 5), lambda t, s=seed: t / 10 + s / 100)
        with RecordWriter(tmp_path / FOLDER, snn(seed)) as writer:
            writer.write("samples", [{"sample": k, **shape, **maps} for k in range(3)])
    told = page(tmp_path)
    assert "3 test samples" in told.texts["samples"]
    assert f"experiment {snn(1).identity}" in told.texts["samples"]
    assert '<img src="data:image/png;base64,' in (tmp_path / "page.html").read_text()


def test_nothing_finished_yet(tmp_path):
    record(tmp_path, snn(), range(1, 2), lambda t: float("nan"))
    told = page(tmp_path)
    assert "none can be called the best" in told.texts["best"]
    assert "No record holds a finite test accuracy" in told.texts["curves"]
    assert "No record holds a finite validation accuracy" in told.texts["pareto"]


def search(folder, **more):
    """A search of twelve points, the seventh being the best."""
    asked = {
        "kind": "sweep", "name": "latent_dim", "space": {"alpha": ""}, "replicates": 1,
        "experiment": {"strategy": "snn", "seed": 0}, **more,
    }  # fmt: skip
    words = ["/where/sweeps/latent_dim.py", "--task", "digits", "--results=x y"]
    claimed(folder, asked, words)
    for k in range(12):
        record(folder, snn(alpha=1 + k / 7), range(1, 5), val_aulc=k * (12.5 - k))


def test_a_search_names_its_best_and_the_next_step(tmp_path):
    search(tmp_path)
    told = page(tmp_path)
    assert told.commands["summary"] == [
        f"python sweeps/latent_dim.py --task digits --results {tmp_path} --resume --confirm 3"
    ]
    assert "Best of 12 configurations by validation AULC: snn, alpha 1.857" in told.texts["summary"]
    assert "The best 5 of 12 configurations" in told.texts["curves"]
    labels = told.tables["The curves in numbers, test accuracy (%)"][0]
    assert labels == [
        "labels",
        *(f"snn, alpha {1 + k / 7:.4g}" for k in (6, 7, 5, 8, 4)),
        "snn, all configurations",
    ]
    assert "no experiment selects at random" in told.texts["comparison"]


def test_trials_that_were_stopped_early_are_not_unfinished(tmp_path):
    search(tmp_path, rungs=[20])
    record(tmp_path, snn(alpha=4.5), range(1, 3))
    record(tmp_path, snn(alpha=4.6), range(1, 2))
    told = page(tmp_path)
    assert [row[0] for row in told.tables["Unfinished experiments"][1:]] == [snn(alpha=4.6).identity]
    assert "1 experiment ended before the label budget" in told.texts["failures"]
    assert "1 of 14 experiments" in told.texts["summary"]


def test_a_confirmed_search_is_compared_on_the_fresh_seeds_alone(tmp_path):
    search(tmp_path)
    for k in range(7):
        record(tmp_path, synthetic.random(10**6 + k), range(1, 5), lambda t, k=k: 0.5 + k / 100, test_guess=0.1,
               data_hash="d", parameters=1, device="cpu", cpu="p")  # fmt: skip
        record(tmp_path, snn(10**6 + k, alpha=1 + 6 / 7), range(1, 5), lambda t, k=k: 0.6 + k / 90, test_guess=0.1,
               data_hash="d", parameters=1, device="cpu", cpu="p", val_aulc=1000.0)  # fmt: skip
    told = page(tmp_path)
    assert "7 paired seeds" in told.texts["summary"]
    assert "fresh seeds alone" in told.texts["comparison"]
    assert told.commands["summary"] == []
    heading, first, *_ = told.tables["AULC, and accuracy at the end (%)"]
    best = dict(zip(heading, first, strict=True))
    # As the search saw it.
    assert (best["alpha"], best["seeds"], best["AULC"]) == ("1.857", "1", f"{100 * 6 * 6.5:.2f}")


def test_text_of_the_records_stays_text(tmp_path):
    hostile = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"
    record(tmp_path, snn(), range(1, 5), strategy=hostile, host=hostile, versions="{}",
          refusal_reasons=json.dumps({hostile: 1}))  # fmt: skip
    told = page(tmp_path)
    html = (tmp_path / "page.html").read_text()
    assert hostile not in html
    assert "<img src=x" not in html
    assert hostile in told.texts["best"]
    assert hostile in told.texts["oracle"]


def test_where_it_goes_and_that_it_says_so(table1):
    done = script("report.py", table1)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{table1 / 'report.html'}\n"
    first = (table1 / "report.html").read_bytes()
    assert len(first) < 1_500_000
    script("report.py", table1)
    assert (table1 / "report.html").read_bytes() == first  # the same records give the same page


def test_a_sweep_ends_by_telling_where_its_report_is(table1, tmp_path, capsys):
    (table1 / "report.html").unlink(missing_ok=True)
    display.print_report(table1)
    assert capsys.readouterr().out == f"Report: {table1 / 'report.html'}\n"
    assert (table1 / "report.html").exists()
    display.print_report(tmp_path / "no such")
    assert capsys.readouterr() == (f"Report it:  python analysis/report.py '{tmp_path}/no such'\n", "")


def test_the_importance_is_that_of_the_study(tmp_path):
    """Two parameters, of which one decides nothing: numbers as importance.py prints them."""
    search(tmp_path)
    study = optuna.create_study(study_name="latent_dim", storage=f"sqlite:///{tmp_path / results.STUDY}")
    drawn = np.random.default_rng(0)
    for _ in range(60):
        point = {"alpha": drawn.uniform(0.1, 5), "latent_dim": int(drawn.integers(2, 9))}
        study.add_trial(optuna.create_trial(params=point, value=point["alpha"] ** 2, distributions={
            "alpha": optuna.distributions.FloatDistribution(0.1, 5, log=True),
            "latent_dim": optuna.distributions.IntDistribution(2, 8)}))  # fmt: skip
    told = page(tmp_path)
    shares = {row[0]: float(row[1]) for row in told.tables["The shares"][1:]}
    done = script("importance.py", tmp_path, "--format", "json", "--out", tmp_path)
    printed = json.loads(done.stdout)["fANOVA"]
    assert shares == {name: pytest.approx(value, rel=1e-3) for name, value in printed.items()}
    assert list(shares) == ["alpha", "latent_dim"]
    assert shares["alpha"] > 0.9


def test_bad_input_ends_with_status_2_and_one_line(table1, tmp_path, capsys):
    record(tmp_path / "two", snn(0), (1,), metric="MSE", higher_is_better=False)
    record(tmp_path / "two", snn(1), (1,))
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    asked = {
        (tmp_path / "none", None): "There is no results folder",
        (tmp_path / "empty", None): "holds no records",
        (tmp_path / "two", None): "several metrics (MSE, accuracy)",
        (table1, tmp_path / "file" / "page.html"): "choose another --out",
    }
    for (folder, out), said in asked.items():
        options = report.ReportOptions(str(folder), None if out is None else str(out))
        assert guarded(lambda options=options: report.report(options)) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1), err
        assert said in err


def test_neither_torch_nor_ray_is_imported(table1, tmp_path):
    heavy = synthetic.heavy_modules("report.py", table1, "--out", tmp_path / "page.html")
    assert "torch" not in heavy
    assert "ray" not in heavy
