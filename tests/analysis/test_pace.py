"""What labels cost people: hours and labels an hour, against sums done by hand; labels saved, told in hours."""

import datetime
import json

import pytest
import synthetic
from _people import COLUMNS, pace
from _shared import read
from synthetic import script, snn, write

from alss_ray.config import UsageError
from alss_ray.records import FOLDER, RecordWriter

NINE = datetime.datetime(2026, 1, 2, 9, tzinfo=datetime.timezone.utc)


def hour(h):
    return NINE + datetime.timedelta(hours=h)


def give(folder, experiment, batches, asker=None, t=1, **more):
    """Batches of (asked, came, labels, skipped), in hours after nine."""
    rows = [
        {
            "t": t, "n_labels": 0, "sample": k, "asker": asker or experiment.identity, "asked_at": hour(asked),
            "came_at": hour(came), "label": 3 if k < labels else None, "refusal": None if k < labels else "skipped",
            **more,
        }
        for asked, came, labels, skipped in batches
        for k in range(labels + skipped)
    ]  # fmt: skip
    with RecordWriter(folder / FOLDER, experiment) as writer:
        writer.write("labels", [{"ordinal": k, **row} for k, row in enumerate(rows)])


def found(*folders):
    return pace(read(folders, ("labels",), COLUMNS)["labels"])


def test_batches_that_lie_there_at_once_take_their_time_once(tmp_path):
    one, other = synthetic.random(), snn()
    # 0 to 2 and 1 to 4 overlap, 5 to 6 stands alone: five hours. The other experiment's own lie within.
    give(tmp_path, one, [(0, 2, 10, 0), (1, 4, 8, 2), (5, 6, 12, 0)])
    give(tmp_path, other, [(1, 3, 20, 0)])
    at = found(tmp_path)
    assert (at.labels, at.skipped, at.measured) == (50, 2, False)
    assert at.hours == pytest.approx(5)
    assert at.per_hour == pytest.approx(10)
    assert at.turnaround == pytest.approx(2)  # 42 of 52 took two hours or less


def test_a_label_that_served_several_experiments_was_given_once(tmp_path):
    one, other = synthetic.random(), snn()
    give(tmp_path, one, [(0, 2, 10, 0)])
    give(tmp_path, other, [(0, 2, 10, 0)], asker=one.identity)
    assert found(tmp_path).labels == 10


def test_where_the_tool_measures_its_time_counts(tmp_path):
    give(tmp_path, synthetic.random(), [(0, 30, 18, 2)], person_seconds=9.0)
    at = found(tmp_path)
    assert at.measured
    assert at.hours == pytest.approx(20 * 9 / 3600)
    assert at.per_hour == pytest.approx(360)


def test_nobody_labelled(tmp_path):
    write(tmp_path, synthetic.random(), [1])
    assert found(tmp_path) is None


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Random rises by 1 % a label and gradient steps by 2 %; people gave 20 labels an hour."""
    folder = tmp_path_factory.mktemp("sweep")
    facts = {
        "data_hash": "d",
        "parameters": 1,
        "device": "cpu",
        "cpu": "p",
        "oracle_bought": 5,
        "recorded_at": NINE,
    }
    for seed in range(3):
        write(folder, synthetic.random(seed), range(1, 5), lambda t: 0.1 * t, **facts)
        write(folder, snn(seed), range(1, 5), lambda t: 0.2 * t, **facts)
    give(folder, synthetic.random(0), [(0, 2, 40, 0)])
    return folder


def test_labels_saved_are_told_in_hours(sweep):
    """Gradient steps are at random selection's 0.4 after 20 labels instead of 40."""
    told = script("compare.py", sweep).stdout
    assert "+20 [+20, +20] = +1.0 h" in told
    assert "People gave 40 labels in 2 hours, by the clock, from asking on: 20 labels an hour." in told
    assert "+20 [+20, +20] = +4.0 h" in script("compare.py", sweep, "--labels-per-hour", 5).stdout
    assert json.loads(script("compare.py", sweep, "--format", "json").stdout)[
        "labels_per_hour"
    ] == pytest.approx(20)
    page = sweep / "report.html"
    assert script("report.py", sweep).returncode == 0
    assert "+20 (+20 to +20), +1.0 h" in page.read_text()
    assert "People gave 40 labels" in page.read_text()


def test_a_rate_that_is_none(sweep):
    import compare

    with pytest.raises(UsageError, match="--labels-per-hour is 0"):
        compare.work(compare.CompareOptions((str(sweep),), labels_per_hour=0))
