"""analysis/query.py: answers against numpy, and how they are printed."""

import csv
import datetime
import io
import json
import math
import re
import shlex
from decimal import Decimal

import _tables
import numpy as np
import pyarrow.parquet as pq
import pytest
import query
import synthetic
from _views import TRIALS, open_views
from asking import ask
from synthetic import metric, script, snn, write

from alss_ray import records
from alss_ray import results as _results
from alss_ray.config import UsageError, flatten


def test_the_documented_query_gives_numpys_means(results):
    sql = "select strategy, t, avg(test_metric) from rounds group by all order by all"
    done = script("query.py", results, sql, "--format", "json")
    missing = "1 of 6 experiments below the label budget (still at work, stopped early or failed)"
    assert (done.returncode, done.stderr) == (0, f"{results.name}: {missing}.\n")
    got = [tuple(row.values()) for row in json.loads(done.stdout)]
    expected = [("random", t, np.mean([metric(s, t) for s in range(3)])) for t in range(1, 5)]
    expected += [
        ("snn", t, np.mean([metric(s, t) ** 2 for s in range(3 if t < 4 else 2)])) for t in range(1, 5)
    ]
    assert [row[:2] for row in got] == [row[:2] for row in expected]
    np.testing.assert_allclose([row[2] for row in got], [row[2] for row in expected], rtol=1e-12)


def test_a_trial_is_the_last_round_with_the_sums_over_rounds(database, results):
    columns = (
        "sweep, experiment, alpha, t, n_labels, n_val_labels, val_metric, test_metric, val_aulc, "
        "test_aulc, oracle_calls, refusals, seconds, attempts, finished"
    )
    got = ask(database, f"select {columns} from trials where strategy = 'snn' order by seed")
    assert len(got) == 3
    for seed, last in ((0, 4), (2, 3)):
        value, t = metric(seed, last) ** 2, range(1, last + 1)
        expected = (
            results.name, snn(seed).identity, 1.0, last, 10 * last, 20, value / 2, value, 0.1 * last, 0.2 * last,
            sum(10 + i for i in t), sum(t), sum(0.25 * i + 2.5 for i in t), 1, last == 4,
        )  # fmt: skip
        assert got[seed][:6] == expected[:6]
        assert got[seed][6:] == pytest.approx(expected[6:])


def test_random_has_no_alpha(database):
    assert ask(database, "select distinct alpha, latent_dim from trials where strategy = 'random'") == [
        (None, None)
    ]


def test_curves_hold_the_evaluations_inside_rounds(database):
    (count, half), *_ = ask(
        database, "select count(*), max(val_metric) from curves where iteration < iterations"
    )
    assert count == 4 * 3 + 4 + 4 + 3
    assert half == pytest.approx(max(metric(s, 4) for s in range(3)) / 4)


def test_overlapping_attempts_are_seen_once(tmp_path):
    write(tmp_path, snn(), (1, 2, 3), lambda t: 0.1)
    write(tmp_path, snn(), (3, 4), lambda t: 0.9 if t == 3 else 0.4)
    database = open_views([tmp_path])
    assert ask(database, "select t, attempt, test_metric from rounds order by t") == [
        (1, 0, 0.1), (2, 0, 0.1), (3, 1, 0.9), (4, 1, 0.4)
    ]  # fmt: skip
    assert ask(database, "select count(*) from curves") == [(8,)]
    assert ask(database, "select attempts, oracle_calls, test_metric from trials") == [
        (2, 11 + 12 + 13 + 14, 0.4)
    ]


def test_several_folders_and_one_named_twice(results, tmp_path):
    write(tmp_path, snn(7), (1,))
    database = open_views([results, tmp_path, tmp_path, tmp_path / "."])
    assert ask(database, "select sweep, count(*) from rounds group by all order by count(*)") == [
        (tmp_path.name, 1), (results.name, 23)
    ]  # fmt: skip


def test_neither_torch_nor_ray_is_imported(results):
    assert synthetic.heavy_modules("query.py", results, "from trials") == "heavy []"


def test_describe_tells_every_column(results):
    done = script("query.py", results, "--describe", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    database = open_views([results])
    for table in ("rounds", "curves", "trials", "sweeps"):
        names = [row["column"] for row in rows if row["table"] == table]
        assert names == query.answer(database, f"from {table}").column_names
    about = {(row["table"], row["column"]): (row["type"], row["unit"], row["meaning"]) for row in rows}
    assert about["rounds", "alpha"] == ("DOUBLE", "", "field of the configuration")
    for table, columns in (("rounds", records.COLUMNS), ("curves", records.CURVE_COLUMNS)):
        assert all(about[table, name][2] == text for name, _, text in columns)
    assert about["trials", "seconds"] == ("DOUBLE", "s", "time of all phases")
    # What has no unit is text, yes or no, or a plain count or field; everything measured has one.
    bare = {column for (table, column), (type_, unit, _) in about.items() if type_ == "DOUBLE" and not unit}
    assert bare <= set(flatten(snn()))
    assert all(row["meaning"] for row in rows)
    fields = {row["column"] for row in rows if row["meaning"] == "field of the configuration"}
    assert fields == set(flatten(snn()))
    of_trials = [row["column"] for row in rows if row["table"] == "trials"]
    assert len(of_trials) == 3 + len(fields) + len(TRIALS)
    assert not fields & ({"sweep"} | {name for name, _, _ in records.COLUMNS + records.CURVE_COLUMNS})


def test_a_table_says_what_it_leaves_out_and_folds_nothing(database, capsys):
    _tables.print_table(query.answer(database, "from rounds order by all"), 2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[-1] == "2 rows; 21 more were left out (--rows 0 shows all)"
    assert all(name in lines[0] for name in ("sweep", "generator_learning_rate", "recorded_at"))
    _tables.print_table(query.answer(database, "from rounds"), 0)
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), lines[-1]) == (23 + 3, "23 rows")
    _tables.print_table(query.answer(database, "select 'x' word, 22 as n, 1.5::double real"), 0)
    assert [line.split() for line in capsys.readouterr().out.splitlines()[::2]] == [
        ["word", "n", "real"], ["x", "22", "1.5"]
    ]  # fmt: skip


def test_numbers_are_printed_for_reading():
    assert _tables.column_texts([0.9123456, 0.5, None]) == ["0.91235", "0.50000", ""]
    assert _tables.column_texts([0.001, 0.0]) == ["0.001", "0.000"]
    assert _tables.column_texts([3.0, 12.5, math.nan]) == ["3.0", "12.5", "nan"]
    assert _tables.column_texts([1234567.8, 0.0001]) == ["1.235e+06", "0.0001"]
    assert _tables.column_texts([True, 3, "a\nb", None]) == ["true", "3", "a b", ""]


def test_json_and_csv_keep_full_precision(database, capsys):
    sql = (
        "select 1/3::double a, 'nan'::double b, sum(t) c, [1, 2] d, true e, "
        "timestamptz '2020-01-02 03:04:05+00' f, null g from rounds"
    )
    table = query.answer(database, sql)
    _tables.print_json(table)
    (row,) = json.loads(capsys.readouterr().out)
    total = 5 * 10 + 6
    assert row == {
        "a": 1 / 3, "b": None, "c": total, "d": [1, 2], "e": True, "f": "2020-01-02T03:04:05+00:00", "g": None
    }  # fmt: skip
    _tables.print_csv(table)
    header, line = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == list("abcdefg")
    assert line == [repr(1 / 3), "", str(total), "[1, 2]", "true", "2020-01-02T03:04:05+00:00", ""]


def test_answers_that_cannot_be_printed_are_told(database):
    with pytest.raises(UsageError, match="rename one with AS"):
        _tables.print_json(query.answer(database, "select t, t from rounds"))
    with pytest.raises(UsageError, match="cast it to varchar"):
        _tables.print_csv(query.answer(database, "select 'infinity'::date d"))


def test_help_names_the_tables():
    done = script("query.py", "--help")
    assert done.returncode == 0
    assert re.search(r"rounds.*curves.*trials.*sweeps", done.stdout, re.DOTALL)


def test_labels_to_a_target_are_those_of_straight_lines_between_rounds(tmp_path):
    """Beside numpy.interp on curves that rise; then a dip, a gap, a level never reached, and the other direction."""
    better = {"higher_is_better": True}
    rising = [0.5, 0.75, 0.875, 0.9]
    write(tmp_path, synthetic.random(0), range(1, 5), lambda t: rising[t - 1], **better)
    write(tmp_path, synthetic.random(1), range(1, 5), lambda t: [0.5, 0.85, 0.6, 0.95][t - 1], **better)
    write(tmp_path, synthetic.random(2), range(1, 5), lambda t: [0.5, math.nan, 0.9, 0.9][t - 1], **better)
    write(
        tmp_path,
        synthetic.random(3),
        range(1, 5),
        lambda t: [0.9, 0.4, 0.2, 0.1][t - 1],
        higher_is_better=False,
    )
    write(tmp_path, synthetic.random(4), range(1, 5), lambda t: 0.99, higher_is_better=None)
    sql = "select {} from trials where seed < 4 order by seed"
    columns = "test_labels_to_0_5, test_labels_to_0_8, test_labels_to_0_99, val_labels_to_0_4"
    done = script(
        "query.py", tmp_path, sql.format(columns), "--targets", "0.5,0.8,0.99,0.4", "--format", "json"
    )
    assert done.returncode == 0, done.stderr
    rows = [list(row.values()) for row in json.loads(done.stdout)]
    assert rows[0] == pytest.approx(
        [10, np.interp(0.8, rising, [10, 20, 30, 40]), None, np.interp(0.8, rising, [10, 20, 30, 40])]
    )
    assert rows[1][:3] == pytest.approx([10, 10 + 10 * 0.3 / 0.35, None])
    assert rows[2][:3] == pytest.approx([10, 10 + 20 * 0.3 / 0.4, None])
    assert rows[3] == pytest.approx([10 + 10 * 0.4 / 0.5, 10 + 10 * 0.1 / 0.5, 10, 10 + 10 * 0.05 / 0.25])
    # Where no direction was recorded nothing is said to be reached.
    database = open_views([tmp_path], [Decimal("0.5")])
    assert ask(database, "select test_labels_to_0_5 from trials where seed = 4") == [(None,)]


def test_sweeps_tell_what_was_run_and_what_is_missing(tmp_path):
    """The manifest is one that results.claim writes; the records hold one experiment of three, in two attempts."""
    moment = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)
    asked = {"kind": "sweep", "name": "table1", "experiments": {str(k): {} for k in range(3)}}
    _results.claim(tmp_path / "night", asked, resume=False)
    write(tmp_path / "night", snn(), (1, 2), device="cpu")
    write(tmp_path / "night", snn(), (3,), device="cuda", recorded_at=moment)
    write(tmp_path / "bare", snn(), (1, 2, 3, 4))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("{")
    write(tmp_path / "bad", snn(), (1, 2, 3, 4))
    folders = [tmp_path / name for name in ("night", "bare", "bad")]
    done = script("query.py", *folders, "from sweeps order by sweep", "--format", "json")
    bad, bare, night = json.loads(done.stdout)
    about = json.loads((tmp_path / "night" / "manifest.json").read_text())
    assert night == {
        "sweep": "night", "folder": str(tmp_path / "night"), "kind": "sweep", "script": "table1", "task": "digits",
        "command": shlex.join(about["command"]), "started_at": about["started_at"], "ended_at": moment.isoformat(),
        "planned": 3, "experiments": 1, "finished": 0, "attempts": 2, "versions": json.dumps(about["versions"]),
        "git_commit": about["git_commit"], "host": about["host"], "cpu": about["cpu"], "device": "cpu, cuda",
    }  # fmt: skip
    assert bare == {**dict.fromkeys(night), "sweep": "bare", "folder": str(tmp_path / "bare"), "task": "digits",
                    "experiments": 1, "finished": 1, "attempts": 1}  # fmt: skip
    assert (bad["experiments"], bad["command"]) == (1, None)
    said = done.stderr.splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"{tmp_path / 'bad' / 'manifest.json'} is damaged")
    assert said[1].startswith("night: 1 of 1 experiment below the label budget")
    assert said[1].endswith("2 of 3 planned experiments without a row.")


def test_the_answer_goes_to_a_file_at_once(results, tmp_path):
    sql = "select strategy, t, test_metric, recorded_at from rounds order by all"
    table = query.answer(open_views([results]), sql)
    done = script("query.py", results, sql, "--format", "parquet", "--out", tmp_path / "new" / "a.parquet")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'new' / 'a.parquet'}\n")
    assert pq.read_table(tmp_path / "new" / "a.parquet").equals(table)
    script("query.py", results, sql, "--format", "csv", "--out", tmp_path / "new" / "a.csv")
    printed = script("query.py", results, sql, "--format", "csv").stdout
    assert (tmp_path / "new" / "a.csv").read_text() == printed
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.csv", "a.parquet"]
    for words, said in (
        (("--format", "parquet"), "add --out FILE"),
        (("--format", "parquet", "--out", tmp_path / "new" / "a.csv" / "b"), "cannot be written to"),
        (("--targets", "0.9,much"), "--targets is '0.9,much'"),
        (("--targets", "inf"), "finite"),
    ):
        done = script("query.py", results, sql, *words)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
        assert said in done.stderr
