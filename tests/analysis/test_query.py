"""analysis/query.py: answers against numpy, one sentence for bad input, and nothing but reading."""

import csv
import io
import json
import math
import re

import _tables
import duckdb
import numpy as np
import pyarrow as pa
import pytest
import query
import synthetic
from _shared import guarded
from synthetic import metric, script, snn, write

from alss_ray import records
from alss_ray.config import UsageError, flatten


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Three seeds of random and of snn, four rounds of 10 labels; the last snn has only three."""
    folder = tmp_path_factory.mktemp("sweep")
    for seed in range(3):
        write(folder, synthetic.random(seed), range(1, 5))
        write(folder, snn(seed), range(1, 5 if seed < 2 else 4), lambda t, s=seed: metric(s, t) ** 2)
    return folder


@pytest.fixture
def database(results):
    return query.open_records([results])


def ask(database, sql):
    table = query.answer(database, sql)
    return [tuple(row) for row in zip(*_tables.values(table), strict=True)]


def test_the_documented_query_gives_numpys_means(results):
    sql = "select strategy, t, avg(test_metric) from rounds group by all order by all"
    done = script("query.py", results, sql, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
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
    database = query.open_records([tmp_path])
    assert ask(database, "select t, attempt, test_metric from rounds order by t") == [
        (1, 0, 0.1), (2, 0, 0.1), (3, 1, 0.9), (4, 1, 0.4)
    ]  # fmt: skip
    assert ask(database, "select count(*) from curves") == [(8,)]
    assert ask(database, "select attempts, oracle_calls, test_metric from trials") == [
        (2, 11 + 12 + 13 + 14, 0.4)
    ]


def test_several_folders_and_one_named_twice(results, tmp_path):
    write(tmp_path, snn(7), (1,))
    database = query.open_records([results, tmp_path, tmp_path, tmp_path / "."])
    assert ask(database, "select sweep, count(*) from rounds group by all order by count(*)") == [
        (tmp_path.name, 1), (results.name, 23)
    ]  # fmt: skip


def test_an_attempt_killed_at_its_start_does_not_hide_the_rest(tmp_path):
    (tmp_path / records.FOLDER).mkdir()
    (tmp_path / records.FOLDER / "abc-000.rounds.arrow").touch()
    with pytest.raises(UsageError, match="no readable record of a finished round"):
        query.open_records([tmp_path])
    write(tmp_path, snn(), (1,))
    for path in (tmp_path / records.FOLDER).glob("*.curves.arrow"):
        path.unlink()
    database = query.open_records([tmp_path])
    assert ask(database, "select t, (select count(alpha) from curves) from rounds") == [(1, 0)]


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_a_damaged_file_is_named_and_the_rest_is_answered(tmp_path, damage):
    for seed in range(2):
        write(tmp_path, snn(seed), (1, 2, 3))
    (path,) = (tmp_path / records.FOLDER).glob(f"{snn(1).identity}*.rounds.arrow")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 900] if damage == "cut" else b"no Arrow stream at all" * 40)
    done = script(
        "query.py", tmp_path, "select seed, count(*) n from rounds group by all order by 1", "--format", "csv"
    )
    assert done.returncode == 0
    assert str(path) in done.stderr
    assert "damaged" in done.stderr
    assert "The answer comes from what else the results hold." in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines() == ["seed,n", "0,3", *(["1,2"] if damage == "cut" else [])]


def test_nothing_but_damaged_files_is_bad_input(tmp_path):
    write(tmp_path, snn(), (1, 2))
    for path in (tmp_path / records.FOLDER).iterdir():
        path.write_bytes(b"garbage" * 100)
    done = script("query.py", tmp_path, "from rounds")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("There is no readable record")
    assert "The answer comes" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_flipped_byte_in_a_text_gives_no_traceback(tmp_path):
    write(tmp_path, snn(), (1, 2))
    (path,) = (tmp_path / records.FOLDER).glob("*.rounds.arrow")
    path.write_bytes(path.read_bytes().replace(b"accuracy", b"accurac\xff"))
    done = script("query.py", tmp_path, "from rounds")
    assert done.returncode == 2
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr


FORBIDDEN = {
    "select * from read_csv('{file}')": "read_csv",
    "select * from read_parquet('{file}')": "read_parquet",
    "select * from read_text('{file}')": "read_text",
    "select * from glob('/*')": "glob",
    "select * from '{file}'": "file",
    "select t in (select 1 from read_json('{file}')) from rounds": "read_json",
    "select * from query('copy rounds to ''{new}''')": "query",
    "select * from enable_logging(storage := 'file', storage_path := '{new}')": "enable_logging",
    "select * from duckdb_settings()": "duckdb_settings",
    "copy rounds to '{new}'": "COPY is refused",
    "copy rounds from '{file}'": "COPY is refused",
    "export database '{new}'": "EXPORT is refused",
    "attach '{new}' as other": "ATTACH is refused",
    "install httpfs": "refused",
    "load httpfs": "LOAD is refused",
    "pragma database_list": "is refused",
    "set threads = 1": "SET is refused",
    "set lock_configuration = false": "SET is refused",
    "explain analyze copy rounds to '{new}'": "EXPLAIN is refused",
    "create table other as from rounds": "CREATE is refused",
    "insert into rounds from rounds": "INSERT is refused",
    "update rounds set t = 1": "UPDATE is refused",
    "delete from rounds": "DELETE is refused",
    "drop table rounds": "DROP is refused",
    "with a as (insert into rounds from rounds returning *) from a": "INSERT|syntax|not a SELECT",
    "select 1; drop table rounds": "2 statements",
    "": "empty",
    "-- only a comment": "empty",
    "pivot rounds on strategy using avg(t)": r"IN \('random', 'snn'\)",
    "selec t from rounds": 'syntax error at or near "selec"',
    "select t from rounds where (": "syntax error",
    "select stratgy from rounds": '"strategy"',
    "select * from rownds": "no table rownds; the tables are rounds, curves and trials",
    "select * from results": "no table results",
    "select avg(strategy) from rounds": "No function matches",
    "select cast(strategy as int) from rounds": "Could not convert",
    "select $1": "parameters",
}


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_forbidden_or_wrong_sql_gets_one_sentence(database, tmp_path, monkeypatch, sql):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=FORBIDDEN[sql]) as caught:
        query.answer(database, sql.format(file=tmp_path / "file.csv", new=tmp_path / "new"))
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "..."))
    assert "LINE 1" not in sentence
    assert [path.name for path in tmp_path.iterdir()] == ["file.csv"]
    # Nothing was changed, and the next question is answered.
    assert ask(database, "select count(*) from rounds") == [(23,)]


def test_the_connection_itself_is_closed(database, tmp_path, results):
    local = pa.table({"a": [1]})
    assert len(local) == 1
    for sql in (
        f"copy rounds to '{tmp_path / 'x.csv'}'",
        f"select * from read_text('{next((results / records.FOLDER).iterdir())}')",
        "set enable_external_access = true",
        "set lock_configuration = false",
        "from local",
    ):
        with pytest.raises(duckdb.Error):
            database.execute(sql)
    assert list(tmp_path.iterdir()) == []


def test_the_transaction_is_read_only_too(database, monkeypatch):
    monkeypatch.setattr(query, "check", lambda *_: None)
    with pytest.raises(UsageError, match=r"read-only|syntax|Cannot|SELECT"):
        query.answer(database, "with a as (insert into rounds from rounds returning *) from a")
    assert ask(database, "select count(*) from rounds") == [(23,)]


@pytest.mark.parametrize(
    "sql",
    [
        "from rounds limit 1",
        "describe rounds",
        "summarize trials",
        "values (1)",
        "with a as (select t from rounds) select r from a, range(3) x(r) limit 1",
        "pivot rounds on strategy in ('random', 'snn') using avg(test_metric) group by t",
    ],
)
def test_other_ways_to_read_are_allowed(database, sql):
    assert len(query.answer(database, sql)) > 0


def test_bad_input_ends_with_status_2_and_one_line(results, tmp_path, capsys):
    asked = {
        (results, "select stratgy from rounds"): '"strategy"',
        (results, f"copy rounds to '{tmp_path / 'new'}'"): "COPY is refused",
        (tmp_path / "none", "from rounds"): "There is no results folder",
        (tmp_path, "from rounds"): "holds no records",
        (results,): "SQL in quotes",
        (results, results): "SQL in quotes",
    }
    for words, said in asked.items():
        options = query.QueryOptions(tuple(map(str, words)))
        assert guarded(lambda options=options: query.query(options)) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1), err
        assert said in err
    for words, said in (
        (("--describe",), "at least one results folder"),
        (("a", "b", "--rows=-1"), "--rows is"),
    ):
        done = script("query.py", *words)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
        assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_neither_torch_nor_ray_is_imported(results):
    assert synthetic.heavy_modules("query.py", results, "from trials") == "heavy []"


def test_describe_tells_every_column(results):
    done = script("query.py", results, "--describe", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    database = query.open_records([results])
    for table in ("rounds", "curves", "trials"):
        names = [row["column"] for row in rows if row["table"] == table]
        assert names == query.answer(database, f"from {table}").column_names
    about = {(row["table"], row["column"]): (row["type"], row["meaning"]) for row in rows}
    assert about["rounds", "alpha"] == ("DOUBLE", "field of the configuration")
    assert about["rounds", "t"][1] == {name: text for name, _, text in records.COLUMNS}["t"]
    assert about["trials", "seconds"] == ("DOUBLE", "seconds of all phases")
    assert all(row["meaning"] for row in rows)
    fields = {row["column"] for row in rows if row["meaning"] == "field of the configuration"}
    assert fields == set(flatten(snn()))
    of_trials = [row["column"] for row in rows if row["table"] == "trials"]
    assert len(of_trials) == 3 + len(fields) + len(query.TRIALS)
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
    assert re.search(r"rounds.*curves.*trials", done.stdout, re.DOTALL)
