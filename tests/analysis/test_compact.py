"""analysis/compact.py: the same answers from Parquet as from the streams, whatever happens on the way."""

import contextlib
import os
import subprocess
import sys

import compact
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import query
import synthetic
from _shared import guarded
from _views import open_views
from synthetic import ROOT, metric, script, snn, write

from alss_ray import reading, records
from alss_ray.config import UsageError
from alss_ray.places import Place
from alss_ray.records import RecordWriter

QUESTIONS = (
    "from rounds order by all",
    "from curves order by all",
    "from trials order by all",
    "select * exclude folder from sweeps",
)


def fill(folder):
    """Two strategies, of which one has options; a resumed experiment; all streams ended."""
    for seed in range(3):
        write(folder, synthetic.random(seed), range(1, 5), higher_is_better=True)
        write(folder, snn(seed), range(1, 5), lambda t, s=seed: metric(s, t) ** 2, higher_is_better=True)
    write(folder, snn(7), (1, 2, 3), lambda t: 0.1)
    write(folder, snn(7), (3, 4), lambda t: 0.9)
    return folder


def answers(*folders):
    database = open_views(folders)
    return [query.answer(database, sql) for sql in QUESTIONS]


def everything(folder):
    return [reading.read(kind, [folder]).table for kind in records.KINDS]


def files(folder):
    return sorted(path.name for path in (folder / records.FOLDER).iterdir())


def test_answers_stay_and_one_file_a_kind_is_left(tmp_path):
    fill(tmp_path)
    asked, read = answers(tmp_path), everything(tmp_path)
    done = script("compact.py", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "28 rounds in records/rounds.parquet" in done.stdout
    assert "8 streams taken in" in done.stdout
    assert files(tmp_path) == ["curves.parquet", "rounds.parquet"]
    assert answers(tmp_path) == asked
    assert everything(tmp_path) == read
    # Another reader sees the same rows, sorted, with the columns that only some experiments have.
    table = pq.read_table(tmp_path / records.FOLDER / "rounds.parquet")
    assert table.equals(read[0].drop_columns("sweep"))
    assert table.equals(table.sort_by([("experiment", "ascending"), ("t", "ascending")]))
    by_strategy = dict(zip(table["strategy"].to_pylist(), table["alpha"].to_pylist(), strict=True))
    assert by_strategy == {"random": None, "snn": 1.0}
    done = script("compact.py", tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}: no stream to take in.\n")
    assert files(tmp_path) == ["curves.parquet", "rounds.parquet"]


def test_a_sweep_that_goes_on_after_compaction(tmp_path):
    """New attempts outrank compacted rows, new experiments stand beside them, and a second compaction takes both."""
    whole = fill(tmp_path / "a" / "sweep")
    fill(tmp_path / "b" / "sweep")
    compact.compact(Place(tmp_path / "b" / "sweep"))
    for folder in (whole, tmp_path / "b" / "sweep"):
        write(folder, snn(7), (4,), lambda t: 0.95)
        write(folder, snn(8, alpha=2.0), (1, 2))
    attempts = query.answer(
        open_views([tmp_path / "b" / "sweep"]), "select attempts from trials where seed = 7"
    )
    assert attempts.to_pylist() == [{"attempts": 3}]
    for _ in range(2):
        assert answers(whole) == answers(tmp_path / "b" / "sweep")
        assert everything(whole) == everything(tmp_path / "b" / "sweep")
        compact.compact(Place(tmp_path / "b" / "sweep"))
    assert files(tmp_path / "b" / "sweep") == ["curves.parquet", "rounds.parquet"]
    assert [len(table) for table in answers(whole, tmp_path / "b" / "sweep")[:1]] == [2 * 30]


def test_a_column_that_comes_later_and_a_number_that_becomes_a_fraction(tmp_path):
    write(tmp_path, synthetic.random(0), (1,))
    compact.compact(Place(tmp_path))
    write(tmp_path, snn(1), (1,))
    asked = answers(tmp_path)
    compact.compact(Place(tmp_path))
    assert answers(tmp_path) == asked
    alphas = query.answer(open_views([tmp_path]), "select alpha from rounds order by seed").to_pylist()
    assert alphas == [{"alpha": None}, {"alpha": 1.0}]


def test_killed_at_any_step_nothing_is_lost_or_doubled(tmp_path, monkeypatch):
    """The process ends before each file is put in place or removed, in turn; a last run ends the work."""
    fill(tmp_path)
    asked = answers(tmp_path)
    steps = 0

    class Killed(BaseException):
        pass

    def killed(original, left):
        def step(*args):
            nonlocal steps
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            steps += 1
            return original(*args)

        return step

    for survived in range(40):
        left = [survived]
        with monkeypatch.context() as patch:
            patch.setattr(Place, "delete", killed(Place.delete, left))
            patch.setattr("alss_ray.files.os.replace", killed(os.replace, left))
            try:
                compact.compact(Place(tmp_path))
            except Killed:
                assert answers(tmp_path) == asked, survived
                continue
        break
    assert steps > 10
    assert files(tmp_path) == ["curves.parquet", "rounds.parquet"]
    assert answers(tmp_path) == asked


def test_a_process_that_is_killed_leaves_streams_or_parquet(tmp_path):
    fill(tmp_path)
    asked = answers(tmp_path)
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); import compact\n"
        "from alss_ray.places import Place\n"
        "def kill(place): os.kill(os.getpid(), signal.SIGKILL)\n"
        "Place.delete = kill\n"
        "compact.compact(Place(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT / "analysis"), str(tmp_path)], timeout=120)
    assert done.returncode == -9
    assert {"rounds.parquet", "curves.parquet"} < set(files(tmp_path))
    assert answers(tmp_path) == asked
    compact.compact(Place(tmp_path))  # the lock went with its holder
    assert files(tmp_path) == ["curves.parquet", "rounds.parquet"]
    assert answers(tmp_path) == asked


def test_what_is_being_written_stays_until_it_is_ended_or_said_to_be(tmp_path, capsys):
    fill(tmp_path)
    with RecordWriter(tmp_path / records.FOLDER, snn(9)) as writer:
        writer.write("rounds", [{"t": 1, "n_labels": 10, "test_metric": 0.25}])
        (sentence,) = [text for text in compact.compact(Place(tmp_path)) if "not ended" in text]
        assert "1 stream not ended" in sentence
        writer.write("rounds", [{"t": 2, "n_labels": 20, "test_metric": 0.5}])
        found = query.answer(
            open_views([tmp_path]), "select t, test_metric from rounds where seed = 9 order by t"
        )
        assert found.to_pylist() == [{"t": 1, "test_metric": 0.25}, {"t": 2, "test_metric": 0.5}]
    compact.compact(Place(tmp_path))
    assert files(tmp_path) == ["curves.parquet", "rounds.parquet"]
    # A process that was killed left a stream without its end, and another only its claim.
    write(tmp_path, snn(10), (1,))
    (path,) = (tmp_path / records.FOLDER).glob("*.rounds.arrow")
    path.write_bytes(path.read_bytes().removesuffix(reading.END))
    path.with_name(f"{snn(11).identity}-000.rounds.arrow").touch()
    asked = answers(tmp_path)
    compact.compact(Place(tmp_path))
    assert len(files(tmp_path)) == 4
    compact.compact(Place(tmp_path), stopped=True)
    assert files(tmp_path) == ["curves.parquet", "rounds.parquet"]
    assert answers(tmp_path) == asked


def test_damaged_streams_and_older_ones_are_named_and_stay(tmp_path, capsys):
    fill(tmp_path)
    cut, old = sorted((tmp_path / records.FOLDER).glob("*.rounds.arrow"))[:2]
    cut.write_bytes(cut.read_bytes()[:-900])
    with pa.OSFile(str(old)) as source, pa.ipc.open_stream(source) as stream:
        table = stream.read_all().replace_schema_metadata({"alss_ray_schema": "0"})
    with pa.OSFile(str(old), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    asked = answers(tmp_path)
    capsys.readouterr()
    assert guarded(lambda: compact.main(compact.CompactOptions((str(tmp_path),), stopped=True))) == 0
    out, err = capsys.readouterr()
    assert "2 streams not whole and left as they are" in out
    assert len(err.splitlines()) == 2
    assert f"{old} has schema version 0, not 1" in err
    assert str(cut) in err
    assert files(tmp_path) == sorted(["curves.parquet", "rounds.parquet", cut.name, old.name])
    assert answers(tmp_path) == asked


@pytest.mark.parametrize("damage", ["cut", "page", "version"])
def test_a_damaged_parquet_file_gets_a_sentence_and_is_never_replaced(tmp_path, damage):
    fill(tmp_path)
    compact.compact(Place(tmp_path))
    write(tmp_path, snn(7), (4,))
    path = tmp_path / records.FOLDER / "rounds.parquet"
    whole = bytearray(path.read_bytes())
    if damage == "version":
        table = pq.read_table(path).replace_schema_metadata({"alss_ray_schema": "0"})
        pq.write_table(table, path)
    elif damage == "cut":
        path.write_bytes(whole[:-100])
    else:
        whole[4:200] = bytes(196)
        path.write_bytes(whole)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="damaged") if damage != "version" else contextlib.nullcontext():
        RecordWriter(tmp_path / records.FOLDER, snn(7))  # which attempt it would be cannot be known
    # What can be seen before the answer is left out of it; a page is found to be damaged only when it is read.
    statuses = {
        "query.py": 2 if damage == "page" else 0,
        "curves.py": 2 if damage == "page" else 0,
        "compact.py": 2,
    }
    for name, status in statuses.items():
        done = script(name, tmp_path, *(["from rounds"] if name == "query.py" else []))
        assert done.returncode == status
        assert "Traceback" not in done.stderr
        assert ("schema version 0" if damage == "version" else "damaged") in done.stderr.splitlines()[0]
    assert path.read_bytes() == before


def test_readers_during_a_compaction_see_everything(tmp_path, monkeypatch):
    """The streams go between a reader's listing and its reading."""
    fill(tmp_path)
    asked = everything(tmp_path)
    original = Place.list
    compacted = []

    def listing(place, pattern):
        found = original(place, pattern)
        if not compacted and pattern.startswith("*.rounds"):
            compacted.append(True)
            compact.compact(Place(tmp_path))
        return found

    monkeypatch.setattr(Place, "list", listing)
    assert everything(tmp_path) == asked
    assert compacted


def test_two_compactions_at_once(tmp_path):
    fill(tmp_path)
    with compact._alone(Place(tmp_path)), pytest.raises(UsageError, match="Another process is compacting"):
        compact.compact(Place(tmp_path))


def test_a_folder_that_cannot_be_written_to(tmp_path, capsys, monkeypatch):
    fill(tmp_path)
    asked, before = answers(tmp_path), files(tmp_path)

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("alss_ray.files.os.replace", refused)
    capsys.readouterr()
    assert guarded(lambda: compact.main(compact.CompactOptions((str(tmp_path),)))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{tmp_path} cannot be written to (Permission denied); nothing was removed from it.\n"
    assert files(tmp_path) == before
    assert answers(tmp_path) == asked


def test_bad_input_gets_one_sentence(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folders, said in (
        ((), "at least one results folder"),
        ((tmp_path / "none",), "There is no results folder"),
        ((tmp_path / "empty",), "holds no records"),
    ):
        options = compact.CompactOptions(tuple(map(str, folders)))
        assert guarded(lambda options=options: compact.main(options)) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1), err
        assert said in err


def test_the_same_on_an_object_store(bucket, object_store, tmp_path):
    """Queries over a local and a remote folder at once; compaction there; what another client then sees."""
    fill(tmp_path / "sweep")
    place = Place(f"{bucket}/nights/sweep")
    for path in (tmp_path / "sweep" / records.FOLDER).iterdir():
        (place / records.FOLDER / path.name).write(path.read_bytes())
    asked = answers(tmp_path / "sweep")
    assert answers(str(place)) == asked
    compact.compact(place)
    left = [key for key in object_store.keys(bucket) if not key.endswith("/")]
    assert left == [f"nights/sweep/records/{kind}.parquet" for kind in ("curves", "rounds")]
    assert answers(str(place)) == asked
    both = query.answer(
        open_views([tmp_path / "sweep", place]), "select sweep, count(*) n from rounds group by all"
    )
    assert sorted(row["n"] for row in both.to_pylist()) == [28, 28]


def test_neither_torch_nor_ray_is_imported(tmp_path):
    fill(tmp_path)
    assert synthetic.heavy_modules("compact.py", tmp_path) == "heavy []"
