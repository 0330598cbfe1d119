"""analysis/query.py on bad input: one sentence for SQL that is wrong or does more than read, and for damaged files."""

import duckdb
import pyarrow as pa
import pytest
import query
from _shared import guarded
from _views import open_views
from asking import ask
from synthetic import script, snn, write

from alss_ray import records
from alss_ray.config import UsageError


def test_an_attempt_killed_at_its_start_does_not_hide_the_rest(tmp_path):
    (tmp_path / records.FOLDER).mkdir()
    (tmp_path / records.FOLDER / "abc-000.rounds.arrow").touch()
    with pytest.raises(UsageError, match="no readable record of a finished round"):
        open_views([tmp_path])
    write(tmp_path, snn(), (1,))
    for path in (tmp_path / records.FOLDER).glob("*.curves.arrow"):
        path.unlink()
    database = open_views([tmp_path])
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
    "select * from rownds": "no table rownds; the tables are rounds, curves, paths, .*, labels, trials and",
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
    with pytest.raises(UsageError, match="read-only"):
        query.answer(database, "create table other as from rounds")
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
