"""analysis/table1.py: cells against numpy, the paper's rows beside them, and what no table can hold."""

import numpy as np
import pytest
import synthetic
import table1
from _shared import guarded
from synthetic import metric, script, snn, write

from alss_ray.published import TABLE1
from alss_ray.table1 import table1 as made


@pytest.fixture
def sweep(tmp_path):
    for seed in range(3):
        write(tmp_path, synthetic.random(seed), range(1, 5))
        write(tmp_path, snn(seed), range(1, 5 if seed else 3))
    for seed in range(2):
        write(tmp_path, synthetic.random(seed, 100, 100), (1,), lambda t, s=seed: 0.9 + 0.02 * s)
    return tmp_path


def test_cells_are_numpys_and_say_where_seeds_are_missing(sweep):
    done = script("table1.py", sweep, "--format", "markdown")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "Test accuracy in % on digits, mean ± standard deviation over 3 seeds:"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert rows[0] == ["t", "labels", "random, iterations=150", "snn, iterations=100"]
    for t, row in enumerate(rows[1:], 1):
        values = [100 * metric(seed, t) for seed in range(3)]
        assert row[:3] == [str(t), str(10 * t), f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"]
        few = values[1:]
        expected = f"{np.mean(few):.2f} ± {np.std(few, ddof=1):.2f} (n = 2)" if t > 2 else row[2]
        assert row[3] == expected
    assert lines[-1] == "All 100 labels: 91.00 ± 1.41 (n = 2). Without learning: 10.00."


def test_the_papers_rows_stand_beside_ours():
    rows = [
        {"t": t, "n_labels": 500 * t, "seed": 0, "task": "mnist", "metric": "accuracy", "test_metric": 0.9}
        for t in range(1, 13)
    ]
    table = made({"random": rows})
    assert table.columns == ("t", "labels", "random", "paper: Rand", "paper: Ours")
    paper = TABLE1["mnist"]
    assert table.body[0] == ("1", "500", "90.00", str(paper["Rand"][0]), str(paper["Ours"][0]))
    assert table.body[9][3:] == (str(paper["Rand"][9]), str(paper["Ours"][9]))
    assert table.body[11] == ("12", "6000", "90.00", "-", "-")
    assert "one seed" in table.title


def test_bad_input_ends_with_status_2_and_one_line(sweep, tmp_path, capsys):
    write(tmp_path / "mixed", snn(round_size=20), (1,))
    write(tmp_path / "mse", snn(), (1,), metric="MSE")
    for k in range(13):
        write(tmp_path / "many", snn(alpha=1.0 + k), (1,))
    asked = [
        ((), {}, "at least one results folder"),
        ((sweep, tmp_path / "mixed"), {}, "several values of round_size (10, 20)"),
        ((sweep, tmp_path / "mse"), {}, "several values of metric (MSE, accuracy)"),
        ((tmp_path / "many",), {}, "13 arms make no table"),
        ((sweep,), {"by": "stratgy"}, "no column stratgy; nearest: strategy"),
    ]
    for folders, more, said in asked:
        options = table1.Table1Options(tuple(map(str, folders)), **more)
        assert guarded(lambda options=options: table1.work(options)) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1), err
        assert said in err
