"""analysis/curves.py: the drawn means and bands against numpy, and one sentence for bad input."""

import warnings

import _figures
import _lines
import curves
import numpy as np
import pytest
import synthetic
from _shared import guarded, read
from synthetic import metric, script, snn, write

from alss_ray import records
from alss_ray.config import UsageError
from alss_ray.places import Place


@pytest.fixture(scope="module")
def table1(tmp_path_factory):
    """Paired seeds of random, of snn and of its two controls; the last round takes what the budget leaves."""
    folder = tmp_path_factory.mktemp("table1")
    for seed in range(3):
        write(folder, synthetic.random(seed, label_budget=35), range(1, 5))
        for k, direction in enumerate(("gradient", "random", "none")):
            arm = snn(seed, label_budget=35, direction=direction)
            write(folder, arm, range(1, 5), lambda t, s=seed, k=k: metric(s, t) - 0.01 * k)
    return folder


def rounds(*folders):
    return read(folders, ("rounds",))["rounds"]


def test_configurations_of_a_comparison_get_a_line_each(table1):
    table = rounds(table1)
    by = _lines.chosen_grouping(table, None)
    assert by == ["strategy", "iterations", "direction"]  # the arms' iterations differ, and that is shown
    found = _lines.lines(table, "test_metric", by)
    assert [line.legend for line in found] == [
        "random, iterations=150 (3 runs)",
        "snn, iterations=100, direction=gradient (3 runs)",
        "snn, iterations=100, direction=none (3 runs)",
        "snn, iterations=100, direction=random (3 runs)",
    ]


def test_means_and_bands_are_numpys(table1):
    found = _lines.lines(rounds(table1), "test_metric", ["strategy", "direction"])
    drawn = curves.figure(found, "accuracy", "test", "digits")
    (axes,) = drawn.axes
    values = np.array([[metric(seed, t) for t in range(1, 5)] for seed in range(3)])
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    assert len(lines) == len(axes.collections) == 4
    for k, offset in enumerate((0, 0, 0.02, 0.01)):
        np.testing.assert_array_equal(lines[k].get_xdata(), [10, 20, 30, 35])
        mean = 100 * (values.mean(axis=0) - offset)
        np.testing.assert_allclose(lines[k].get_ydata(), mean, rtol=1e-12)
        corners = axes.collections[k].get_paths()[0].vertices
        for x, m, s in zip((10, 20, 30, 35), mean, 100 * values.std(axis=0, ddof=1), strict=True):
            heights = corners[corners[:, 0] == x][:, 1]
            np.testing.assert_allclose([heights.min(), heights.max()], [m - s, m + s], rtol=1e-9)
    assert axes.get_ylabel() == "test accuracy (%)"
    assert axes.get_title() == "digits: mean ± standard deviation over runs"
    styles = {(line.get_color(), line.get_marker(), str(line.get_linestyle())) for line in lines}
    assert len(styles) == len({s[0] for s in styles}) == len({s[1] for s in styles}) == 4
    texts = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert texts == [line.legend for line in found]


def test_the_validation_metric_and_other_metrics_units(table1):
    (line,) = _lines.lines(rounds(table1), "val_metric", [])
    assert line.legend == "all runs (12 runs)"
    drawn = curves.figure([line], "error", "validation", "digits")
    expected = np.mean([[(metric(s, 1) - d) / 2 for s in range(3)] for d in (0, 0, 0.01, 0.02)])
    assert drawn.axes[0].lines[0].get_ydata()[0] == pytest.approx(expected)  # as it is, not in %
    assert drawn.axes[0].get_ylabel() == "validation error"


def test_many_configurations_get_one_line_a_strategy_interpolated_in_range(tmp_path):
    """Round sizes 10 and 20: the odd tens are halfway between their neighbours, and 10 has only some runs."""
    for k in range(9):
        write(tmp_path, snn(alpha=1.0 + k, round_size=10 if k < 4 else 20), (1, 2, 3, 4) if k < 4 else (1, 2),
              lambda t, k=k: (10 if k < 4 else 20) * t / 100 + 0.001 * k)  # fmt: skip
    table = rounds(tmp_path)
    assert _lines.default_grouping(table) == ["strategy"]
    (line,) = _lines.lines(table, "test_metric", ["strategy"])
    assert line.legend == "snn (4 to 9 runs)"
    np.testing.assert_array_equal(line.labels, [10, 20, 30, 40])
    np.testing.assert_array_equal(line.runs, [4, 9, 9, 9])
    few, all_ = 0.001 * np.arange(4), 0.001 * np.arange(9)
    np.testing.assert_allclose(line.mean, [0.1 + few.mean(), *(n / 100 + all_.mean() for n in (20, 30, 40))])
    np.testing.assert_allclose(line.deviation, [few.std(ddof=1), *3 * [all_.std(ddof=1)]])


def test_eight_configurations_keep_their_lines_and_all_that_differs(tmp_path):
    for k in range(8):
        write(tmp_path, snn(alpha=1.0 + k, round_size=10 + k % 2), (1,))
    table = rounds(tmp_path)
    assert _lines.default_grouping(table) == ["strategy", "round_size", "alpha"]
    assert len(_lines.lines(table, "test_metric", ["strategy", "round_size", "alpha"])) == 8


def test_marks_lie_where_the_baselines_final_value_is_reached(tmp_path):
    """Random rises to 0.4 at 40 labels; 0.015 n is there at 80/3, 0.005 n never, and from below if lower is better."""
    for better, sign in ((True, 1), (False, -1)):
        folder = tmp_path / str(better)
        for rise, make in ((0.01, synthetic.random), (0.015, snn), (0.005, lambda: snn(direction="none"))):
            write(
                folder, make(), range(1, 5), lambda t, r=rise, s=sign: s * 10 * t * r, higher_is_better=better
            )
        found = _lines.lines(rounds(folder), "test_metric", ["strategy", "direction"])
        mark = curves.marked(found, None, better)
        assert (mark.baseline, mark.level) == (0, pytest.approx(sign * 0.4))
        assert mark.labels == (pytest.approx(40), pytest.approx(80 / 3), None)
        drawn = curves.figure(found, "error", "test", "digits", mark=mark)
        (ring,) = [line for line in drawn.axes[0].lines if line.get_markerfacecolor() == "none"]
        np.testing.assert_allclose(ring.get_xydata(), [[80 / 3, sign * 0.4]])
        texts = [text.get_text().partition(": ")[2] for text in drawn.legends[0].get_texts()]
        assert texts == ["ends on the level line", "reaches it at 27 labels", "does not reach it"]
        assert curves.marked(found, "direction=none", better).baseline == 2
    with pytest.raises(UsageError, match="There is no line 'margin'; the lines are 'random'; "):
        curves.marked(found, "margin", False)
    assert curves.marked(found[1:], None, False) is None


def test_one_run_has_no_band(tmp_path):
    write(tmp_path, snn(), (1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (line,) = _lines.lines(rounds(tmp_path), "test_metric", ["strategy"])
        drawn = curves.figure([line], "accuracy", "test", "digits")
    assert line.legend == "snn (1 run)"
    assert np.isnan(line.deviation).all()
    assert len(drawn.axes[0].collections) == 0
    assert len(drawn.axes[0].lines) == 1
    assert drawn.axes[0].get_title() == "digits: single runs"


def test_an_experiment_in_two_folders_is_one_run(table1, tmp_path):
    write(tmp_path, snn(0, label_budget=35), range(1, 5))
    table = rounds(table1, tmp_path)
    (_, line, *_) = _lines.lines(table, "test_metric", ["strategy", "direction"])
    assert line.legend == "snn, direction=gradient (3 runs)"
    by_sweep = _lines.lines(table, "test_metric", ["sweep"])
    assert sorted(line.runs.max() for line in by_sweep) == [1, 12]


def test_missing_values_are_left_out(tmp_path):
    write(tmp_path, snn(), (1, 2, 3), lambda t: float("nan") if t == 2 else t / 10)
    (line,) = _lines.lines(rounds(tmp_path), "test_metric", ["strategy"])
    np.testing.assert_array_equal(line.labels, [10, 30])


def test_inside_rounds_spreads_iterations_over_the_labels_bought(tmp_path):
    write(tmp_path, snn(label_budget=35), range(1, 5), lambda t: t / 10)
    table = read([tmp_path], ("curves",))["curves"]
    (line,) = _lines.lines(table, "val_metric", ["strategy"], inside_rounds=True)
    np.testing.assert_allclose(line.labels, [5, 10, 15, 20, 25, 30, 32.5, 35])
    np.testing.assert_allclose(line.mean, [t / 10 * k / 4 for t in range(1, 5) for k in (1, 2)])
    np.testing.assert_array_equal(line.ends, [False, True] * 4)
    axes = curves.figure([line], "accuracy", "validation", "digits", inside_rounds=True).axes[0]
    assert axes.lines[0].get_markevery() == [1, 3, 5, 7]
    # The first climb leaves the axes; the lowest value after it, 5 at 10 or at 15 labels, does not.
    assert 2.5 < axes.get_ylim()[0] < 5


def test_both_files_are_written_and_told(table1, tmp_path):
    done = script("curves.py", table1, "--out", tmp_path / "new" / "fig.v1")
    assert (done.returncode, done.stderr) == (0, "")
    png, svg = tmp_path / "new" / "fig.v1.png", tmp_path / "new" / "fig.v1.svg"
    assert done.stdout.splitlines() == [str(png), str(svg)]
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert png.stat().st_size > 20_000
    assert "<svg" in svg.read_text()
    assert svg.stat().st_size > 20_000


def test_only_the_lines_that_are_asked_for_are_drawn_in_their_order(table1):
    found = _lines.lines(rounds(table1), "test_metric", ["strategy", "direction"])
    names = [line.label for line in found]
    assert curves.chosen(found, names[:0:-1]) == found[:0:-1]
    with pytest.raises(UsageError, match="--only has 'rand'; the lines are "):
        curves.chosen(found, ["rand"])


def test_where_the_files_go(tmp_path):
    here = Place(tmp_path)
    assert _figures.stem(None, here, "curves") == tmp_path / "curves"
    assert _figures.stem(tmp_path, here / "a", "curves") == tmp_path / "curves"
    assert _figures.stem(tmp_path / "b.png", here, "curves") == tmp_path / "b"
    assert _figures.stem(tmp_path / "b", Place("s3://bucket/a"), "curves") == tmp_path / "b"
    with pytest.raises(UsageError, match="give --out"):
        _figures.stem(None, Place("s3://bucket/a"), "curves")


def test_a_damaged_file_is_named_and_the_rest_is_drawn(tmp_path, capsys):
    for seed in range(2):
        write(tmp_path, snn(seed), (1, 2))
    (path,) = (tmp_path / records.FOLDER).glob(f"{snn(1).identity}*.curves.arrow")
    path.write_bytes(b"garbage" * 100)
    assert guarded(lambda: curves.draw(curves.CurvesOptions((tmp_path,), inside_rounds=True))) == 0
    err = capsys.readouterr().err
    assert str(path) in err
    assert "The answer comes from what else" in err
    assert (tmp_path / "curves.png").stat().st_size > 20_000
    assert (tmp_path / "curves.svg").exists()


def test_bad_input_ends_with_status_2_and_one_line(table1, tmp_path, capsys):
    write(tmp_path / "mse", snn(), (1,), metric="MSE")
    for k in range(25):
        write(tmp_path / "many", snn(k), (1,))
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    asked = [
        ((), {}, "at least one results folder"),
        ((tmp_path / "none",), {}, "There is no results folder"),
        ((tmp_path / "empty",), {}, "holds no records"),
        ((table1,), {"by": "stratgy"}, "there is no column stratgy; nearest: strategy"),
        ((table1, tmp_path / "mse"), {}, "several metrics (MSE, accuracy)"),
        ((tmp_path / "many",), {"by": "seed"}, "25 lines cannot be told apart"),
        ((table1,), {"out": tmp_path / "file" / "fig"}, "cannot be written to"),
    ]
    for folders, more, said in asked:
        options = curves.CurvesOptions(folders, **more)
        assert guarded(lambda options=options: curves.draw(options)) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1), err
        assert said in err
    done = script("curves.py", table1, "--by", "stratgy")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr


def test_neither_torch_nor_ray_is_imported(table1, tmp_path):
    assert synthetic.heavy_modules("curves.py", table1, "--out", tmp_path) == "heavy []"
