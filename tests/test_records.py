"""The Arrow streams: read back with pyarrow's own reader, after kills, and after every kind of damage."""

import datetime
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alss_ray import records
from alss_ray.config import Experiment, UsageError
from alss_ray.generators import Vae
from alss_ray.reading import read
from alss_ray.records import CURVE_COLUMNS, IDENTITY, RecordWriter, schema
from alss_ray.strategies import Random, Snn
from alss_ray.tasks import Digits

SNN = Experiment(task=Digits(), strategy=Snn(alpha=0.25), generator=Vae(latent_dim=5), seed=3)
RANDOM = Experiment(task=Digits(), strategy=Random())


def row(t: int, value: float = 0.5, **more: Any) -> dict[str, Any]:
    return {"t": t, "n_labels": 20 * t, "val_metric": value, **more}


def write(folder: Path, experiment: Experiment, rows: list[dict[str, Any]], kind: str = "rounds") -> Path:
    """One attempt's stream of a kind; returns its file."""
    with RecordWriter(folder / records.FOLDER, experiment) as writer:
        for each in rows:
            writer.write(kind, [each])
    return folder / records.FOLDER / f"{experiment.identity}-{writer.attempt:03d}.{kind}.arrow"


def rounds_of(folder: Path) -> list[tuple[str, int, float]]:
    table = read("rounds", [folder]).table
    return [(r["experiment"], r["t"], r["val_metric"]) for r in table.to_pylist()]


def test_pyarrow_reads_what_was_written(tmp_path: Path) -> None:
    moment = datetime.datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=datetime.timezone.utc)
    path = write(tmp_path, SNN, [row(1, 0.25, recorded_at=moment, generator_trained=True), row(2)])
    with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
        assert stream.schema.metadata == {b"alss_ray_schema": b"1"}
        table = stream.read_all()
    first, second = table.to_pylist()
    assert {
        "experiment": SNN.identity,
        "configuration": SNN.configuration,
        "attempt": 0,
    }.items() <= first.items()
    assert {"task": "digits", "strategy": "snn", "generator": "vae"}.items() <= first.items()
    assert {
        "alpha": 0.25,
        "latent_dim": 5,
        "seed": 3,
        "round_size": 20,
        "retrain": False,
    }.items() <= first.items()
    assert {"t": 1, "n_labels": 20, "val_metric": 0.25, "recorded_at": moment}.items() <= first.items()
    assert first["generator_trained"] is True
    assert (second["t"], second["test_metric"], second["recorded_at"]) == (2, None, None)


@pytest.mark.parametrize("kind", ["rounds", "curves"])
@pytest.mark.parametrize("experiment", [SNN, RANDOM], ids=["snn", "random"])
def test_columns_are_typed_and_unique_and_hold_the_names_that_people_type(
    kind: str, experiment: Experiment
) -> None:
    made = schema(kind, experiment)
    assert len(set(made.names)) == len(made.names)
    typed = {"experiment": pa.string(), "task": pa.string(), "strategy": pa.string(), "round_size": pa.int64(),
             "seed": pa.int64(), "t": pa.int32(), "n_labels": pa.int64(), "val_metric": pa.float64()}  # fmt: skip
    if kind == "rounds":
        typed["test_metric"] = pa.float64()
    if experiment is SNN:
        typed |= {
            "alpha": pa.float64(),
            "latent_dim": pa.int64(),
            "direction": pa.string(),
            "decoded": pa.bool_(),
        }
    assert {name: made.field(name).type for name in typed} == typed


def test_every_column_is_described() -> None:
    for _, _, text in records.COLUMNS + CURVE_COLUMNS:
        assert len(text) > 5
    assert IDENTITY == records.COLUMNS[: len(IDENTITY)] == CURVE_COLUMNS[: len(IDENTITY)]


def test_a_components_field_must_not_have_the_name_of_a_column(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Greedy(Random):
        threads: int = 4

    with pytest.raises(UsageError, match="threads"):
        write(tmp_path, Experiment(task=Digits(), strategy=Greedy()), [row(1)])


def test_an_unknown_column_is_refused(tmp_path: Path) -> None:
    with RecordWriter(tmp_path, SNN) as writer, pytest.raises(KeyError, match="val_metrik"):
        writer.write("rounds", [{"t": 1, "val_metrik": 0.5}])


def test_rows_can_be_read_while_the_writer_is_at_work(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / records.FOLDER, SNN) as writer:
        for t in (1, 2):
            writer.write("rounds", [row(t)])
            assert [r[1] for r in rounds_of(tmp_path)] == [*range(1, t + 1)]


def test_a_killed_writer_loses_no_row(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from alss_ray.config import Experiment; from alss_ray.records import RecordWriter\n"
        "from alss_ray.tasks import Digits; from alss_ray.strategies import Random\n"
        "with RecordWriter(Path(sys.argv[1]), Experiment(task=Digits(), strategy=Random())) as writer:\n"
        "    for t in (1, 2, 3): writer.write('rounds', [{'t': t, 'n_labels': 20 * t, 'val_metric': 0.1 * t}])\n"
        "    print('written', flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", script, str(tmp_path / records.FOLDER)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()
    got = read("rounds", [tmp_path])
    assert got.table["t"].to_pylist() == [1, 2, 3]
    assert got.problems == ()
    # The next attempt says rounds 3 and 4 anew.
    assert write(tmp_path, RANDOM, [row(3, 0.9), row(4, 0.9)]).name == f"{RANDOM.identity}-001.rounds.arrow"
    assert [(t, value) for _, t, value in rounds_of(tmp_path)] == [(1, 0.1), (2, 0.2), (3, 0.9), (4, 0.9)]


def test_the_latest_attempt_speaks_for_a_round(tmp_path: Path) -> None:
    write(tmp_path, SNN, [row(1, 0.1), row(2, 0.2), row(3, 0.3)])
    write(tmp_path, RANDOM, [row(1, 0.5)])
    write(tmp_path, SNN, [row(2, 0.22)])
    write(tmp_path, SNN, [row(4, 0.4)])
    expected = [
        (SNN.identity, 1, 0.1),
        (SNN.identity, 2, 0.22),
        (SNN.identity, 3, 0.3),
        (SNN.identity, 4, 0.4),
    ]
    expected += [(RANDOM.identity, 1, 0.5)]
    assert rounds_of(tmp_path) == sorted(expected)


def test_curves_are_keyed_by_iteration_too(tmp_path: Path) -> None:
    def at(t: int, iteration: int, value: float) -> dict[str, Any]:
        return row(t, value, iteration=iteration)

    write(tmp_path, SNN, [at(1, 25, 0.1), at(1, 50, 0.2), at(2, 25, 0.3)], "curves")
    write(tmp_path, SNN, [at(2, 25, 0.33), at(2, 50, 0.4)], "curves")
    table = read("curves", [tmp_path]).table
    assert [(r["t"], r["iteration"], r["val_metric"]) for r in table.to_pylist()] == [
        (1, 25, 0.1), (1, 50, 0.2), (2, 25, 0.33), (2, 50, 0.4),
    ]  # fmt: skip


def test_attempts_at_the_same_moment_get_numbers_of_their_own(tmp_path: Path) -> None:
    with RecordWriter(tmp_path, SNN) as one, RecordWriter(tmp_path, SNN) as other:
        assert {one.attempt, other.attempt} == {0, 1}


def test_folders_are_told_apart_by_name(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(tmp_path / name, SNN, [row(1)])
    table = read("rounds", [tmp_path / "second", tmp_path / "first"]).table
    assert table["sweep"].to_pylist() == ["first", "second"]


def test_folders_of_one_name_do_not_hide_each_other(tmp_path: Path) -> None:
    for place, value in (("here", 0.1), ("there", 0.2)):
        write(tmp_path / place / "results", SNN, [row(1, value)])
    table = read("rounds", [tmp_path / place / "results" for place in ("here", "there")]).table
    assert table["val_metric"].to_pylist() == [0.1, 0.2]
    assert len(set(table["sweep"].to_pylist())) == 2


def test_experiments_with_other_options_stand_in_one_table(tmp_path: Path) -> None:
    write(tmp_path, SNN, [row(1)])
    write(tmp_path, RANDOM, [row(1)])
    by_strategy = {r["strategy"]: r for r in read("rounds", [tmp_path]).table.to_pylist()}
    assert by_strategy["snn"]["alpha"] == 0.25
    assert by_strategy["random"]["alpha"] is None


@pytest.mark.parametrize("make", [lambda p: None, Path.mkdir, Path.touch], ids=["absent", "empty", "file"])
def test_a_folder_without_records_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    folder = tmp_path / "results"
    make(folder)
    with pytest.raises(UsageError, match=rf"{folder} holds no records .*records/\*\.arrow.*give the"):
        read("rounds", [folder])


def test_nothing_written_yet_is_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / records.FOLDER).mkdir()
    (tmp_path / records.FOLDER / "abc-000.rounds.arrow").touch()
    got = read("rounds", [tmp_path])
    assert len(got.table) == 0
    assert {"sweep", "experiment", "t", "n_labels", "val_metric"} <= set(got.table.column_names)
    assert got.problems == ()


@pytest.mark.parametrize(
    "content",
    [b"\0", b"\xff" * 500, b"PAR1 not arrow at all\n" * 9, json.dumps(row(1)).encode(), bytes(4096)],
    ids=["zero", "ones", "text", "json", "zeros"],
)
def test_a_file_that_is_no_stream_is_named_and_the_others_are_read(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, SNN, [row(1), row(2)])
    bad = write(tmp_path, RANDOM, [row(1)])
    bad.write_bytes(content)
    got = read("rounds", [tmp_path])
    assert got.table["experiment"].to_pylist() == [SNN.identity] * 2
    assert len(got.problems) == 1
    assert str(bad) in got.problems[0]
    assert "\n" not in got.problems[0]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.7, 0.9])
def test_a_stream_that_was_cut_off_gives_its_whole_rows(tmp_path: Path, share: float) -> None:
    path = write(tmp_path, SNN, [row(t) for t in range(1, 11)])
    write(tmp_path, RANDOM, [row(1)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    got = read("rounds", [tmp_path])
    rounds = [r["t"] for r in got.table.to_pylist() if r["experiment"] == SNN.identity]
    assert rounds == [*range(1, len(rounds) + 1)]
    assert len(rounds) < 10
    assert len(rounds) >= 10 * share - 7  # the schema stands before the rows
    assert len(got.problems) == 1
    assert str(path) in got.problems[0]
    assert RANDOM.identity in got.table["experiment"].to_pylist()


@pytest.mark.parametrize("metadata", [{"alss_ray_schema": "999"}, None])
def test_another_schema_version_is_named_and_left_out(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    path = write(tmp_path, SNN, [row(1)])
    with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
        table = stream.read_all().replace_schema_metadata(metadata)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    write(tmp_path, RANDOM, [row(1)])
    got = read("rounds", [tmp_path])
    assert got.table["experiment"].to_pylist() == [RANDOM.identity]
    assert len(got.problems) == 1
    assert str(path) in got.problems[0]
    assert f"schema version {'999' if metadata else 'none'}" in got.problems[0]


@pytest.mark.parametrize("compacted", [False, True])
def test_records_from_before_a_column_was_thought_of_are_read(tmp_path: Path, compacted: bool) -> None:
    path = write(tmp_path, SNN, [row(1), row(2)])
    with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
        older = stream.read_all().drop_columns(["scored", "recorded_at"])
    if compacted:
        path.unlink()
        pq.write_table(older, path.with_name("rounds.parquet"))
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, older.schema) as stream:
            stream.write_table(older)
    for folders in ([tmp_path], [tmp_path, tmp_path / "new"]):  # alone, and beside newer ones
        got = read("rounds", folders)
        assert not got.problems
        own = [row for row in got.table.to_pylist() if row["experiment"] == SNN.identity]
        assert [(r["t"], r["scored"], r["recorded_at"]) for r in own] == [(1, None, None), (2, None, None)]
        write(tmp_path / "new", RANDOM, [row(1, scored=7)])


@pytest.mark.parametrize("seed", range(4))
def test_a_wrong_byte_never_hides_the_other_files(tmp_path: Path, seed: int) -> None:
    """A disk's fault in one file: whatever that file gives then, the others are answered from."""
    path = write(tmp_path, SNN, [row(t, host="machine") for t in (1, 2, 3)])
    write(tmp_path, RANDOM, [row(1, 0.75)])
    whole, draw = path.read_bytes(), np.random.default_rng(seed)
    for position in draw.integers(len(whole), size=100):
        damaged = bytearray(whole)
        damaged[position] ^= int(draw.integers(1, 256))
        path.write_bytes(damaged)
        rows = read("rounds", [tmp_path]).table.to_pylist()
        assert [r["val_metric"] for r in rows if r["experiment"] == RANDOM.identity] == [0.75], position
