"""analysis/trajectories.py: what is told of a path, which ones are shown, and the picture of real runs."""

import dataclasses
import shutil
from pathlib import Path

import _paths
import matplotlib.colors
import numpy as np
import pytest
import synthetic
import trajectories
from _paths import ESCAPER, OTHER, WALKER, Plane
from _shared import guarded, read
from helpers import tiny
from matplotlib.collections import PathCollection
from matplotlib.image import imread
from synthetic import script, snn, write

from alss_ray.experiment import Run
from alss_ray.generators import Vae
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import materials
from alss_ray.strategies import Snn

LIMIT = 0.2


def rows(labels, gaps, point=0, links=None):
    """The rows of one point that steps by 1 along the first axis: a gap for each step."""
    return [
        {
            "t": t,
            "point": point,
            "origin": None if t == 1 else (links or {}).get(t, point),
            "label": label,
            "position": [float(t), 0.0],
            "stepped": None if t == 1 else [float(t), 0.0],
            "gap": None if t == 1 else gaps[t - 2],
        }
        for t, label in enumerate(labels, 1)
    ]


@pytest.mark.parametrize(
    ("labels", "gaps", "kind"),
    [
        ([1, 7, 1, 7, 1], [0.1] * 4, WALKER),
        ([1, 1, 7, 7, 1], [0.1] * 4, WALKER),  # two of four steps
        ([1, 1, 7, 7, 7], [0.1] * 4, OTHER),
        ([1, 7, 1, 7, 1], [0.1, 0.3, 0.1, 0.3], ESCAPER),  # two of the last three
        ([1, 7, 1, 7, 1], [0.3, 0.3, 0.1, 0.1], WALKER),  # it came back
        ([0, 0, 0], [0.3, 0.3], ESCAPER),
        ([0, 0], [0.1], OTHER),
    ],
)
def test_walkers_and_escapers(labels, gaps, kind):
    (path,) = _paths.paths(rows(labels, gaps), LIMIT)
    assert path.kind == kind
    assert path.outside == tuple(gap > LIMIT for gap in gaps)


def test_where_samples_are_farther_apart_than_a_step_none_nearer_counts_as_outside():
    before, after = rows([1, 1], [0.9])
    assert not _paths.leaves(before, after, limit=1.5)
    assert _paths.leaves(before, after | {"gap": 1.0}, limit=1.5)


def test_paths_follow_their_links_and_begin_where_those_end():
    swapped = rows([1, 2, 3], [0.1, 0.1], 0, {3: 1}) + rows([4, 5, 6], [0.1, 0.1], 1, {3: 0})
    assert [path.labels for path in _paths.paths(swapped, LIMIT)] == [[4, 5, 3], [1, 2, 6]]
    late = rows([1, 2, 3], [0.1, 0.1])
    late[1] |= {"origin": None, "gap": None, "stepped": None}  # in the place of a refused image
    assert [path.labels for path in _paths.paths(late, LIMIT)] == [[2, 3]]


def test_what_is_shown_is_of_several_classes_and_walkers_come_first():
    many = []
    for point in range(6):
        many += rows([1, 7] * 3, [0.1] * 5, point)
    many += rows([3, 5] * 3, [0.1] * 5, 6) + rows([0] * 6, [0.3] * 5, 7) + rows([2] * 6, [0.1] * 5, 8)
    shown = _paths.typical(_paths.paths(many, LIMIT), 3, 2)
    assert [path.kind for path in shown] == [WALKER, WALKER, WALKER, OTHER, ESCAPER]
    assert 6 in {path.number for path in shown}


# --- real runs -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two tiny runs, of n = 2 and n = 8."""
    folder = tmp_path_factory.mktemp("runs")
    for n in (2, 8):
        evolving = tiny(strategy=Snn(redraw_every=0), round_size=12, label_budget=60)
        experiment = dataclasses.replace(evolving, generator=Vae(latent_dim=n, generator_iterations=60))
        shared, source = materials(experiment.task), GeneratorStore(folder / "generators")
        for _ in Run(experiment, shared, folder / str(n), source, followed=8).rounds():
            pass
    return folder


@pytest.mark.parametrize("n", [2, 8])
def test_the_picture_is_drawn(runs, tmp_path, n):
    done = script("trajectories.py", runs / str(n), "--out", tmp_path / "new" / "fig")
    assert done.returncode == 0, done.stderr
    png, svg = done.stdout.split()
    assert png.endswith("new/fig.png")
    picture = imread(png)[..., :3]
    assert min(picture.shape[:2]) > 1000
    assert len(np.unique((255 * picture).astype(int).reshape(-1, 3), axis=0)) > 200
    assert not done.stderr
    assert Path(svg).read_text().startswith("<?xml")


@pytest.mark.parametrize("n", [2, 8])
def test_the_map_shows_decisions_samples_and_paths_where_they_are(runs, n):
    table = read([runs / str(n)], ("paths", "planes"))
    plane = Plane.of(table["planes"].to_pylist()[0])
    every = _paths.paths(table["paths"].to_pylist(), plane.limit)
    assert len(every) == 8
    drawn = trajectories.figure(plane, every, every[:3], "title")
    axes = drawn.subfigs[0].axes[0]
    image = axes.images[0]
    inks = np.array([matplotlib.colors.to_rgb(colour) for colour in trajectories.COLOURS])
    for i, j in ((0, 0), (50, 50), (100, 3), (20, 90)):
        ink = 0.35 * plane.margins[i, j] * (1 - inks[plane.predicted[i, j]])
        np.testing.assert_allclose(1 - np.asarray(image.get_array())[i, j, :3], ink, atol=1e-6)
    assert tuple(image.get_extent()) == plane.extent
    dots = np.concatenate(
        [part.get_offsets() for part in axes.collections if isinstance(part, PathCollection)]
    )
    flat = (plane.codes - plane.centre) @ plane.axes.T
    np.testing.assert_allclose(np.sort(dots, axis=0), np.sort(flat, axis=0), atol=1e-5)
    bold = [line for line in axes.lines if line.get_linewidth() > 1]
    for line, path in zip(bold, every[:3], strict=True):
        places = (np.array([row["position"] for row in path.rows]) - plane.centre) @ plane.axes.T
        np.testing.assert_allclose(np.array(line.get_data()).T, places, atol=1e-6)
        assert (line.get_linestyle() == "-") == (path.kind == WALKER)
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    for path in every:
        for x, y in plane.down([row["position"] for row in path.rows]):
            assert x0 <= x <= x1
            assert y0 <= y <= y1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--points", "3,99"), "--points: no point 99 was followed to the end; nearest: "),
        (("--points", ","), "--points names 0 points; give 1 to 12."),
        (("--experiment", "abc"), "There are no paths of experiment abc; nearest: "),
    ],
)
def test_bad_input_gets_one_sentence(runs, words, sentence):
    done = script("trajectories.py", runs / "2", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1


def test_records_without_paths_or_without_their_end_are_told(runs, tmp_path, capsys):
    write(tmp_path / "plain", snn(), [1, 2])
    options = trajectories.TrajectoriesOptions(str(tmp_path / "plain"))
    assert guarded(lambda: trajectories.draw(options)) == 2
    assert "holds no paths: run an experiment with --trajectories" in capsys.readouterr().err
    unended = tmp_path / "unended"
    (unended / "records").mkdir(parents=True)
    for file in (runs / "2" / "records").iterdir():
        if ".planes." not in file.name:
            (unended / "records" / file.name).write_bytes(file.read_bytes())
    assert guarded(lambda: trajectories.draw(trajectories.TrajectoriesOptions(str(unended)))) == 2
    assert "has not come to its end with --trajectories" in capsys.readouterr().err


def test_paths_can_be_asked_for_in_sql(runs):
    sql = "select t, count(*), count(gap), max(len(position)) from paths group by t order by t"
    done = script("query.py", runs / "8", sql, "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == ["1,8,0,8", *(f"{t},8,8,8" for t in range(2, 6))]


def test_compaction_keeps_the_picture(runs, tmp_path):
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    copy = shutil.copytree(runs / "2", tmp_path / "2")
    assert script("trajectories.py", copy, "--out", before).returncode == 0
    assert script("compact.py", copy).returncode == 0
    assert not list((copy / "records").glob("*.arrow"))
    assert script("trajectories.py", copy, "--out", after).returncode == 0
    assert np.array_equal(imread(before), imread(after))


def test_the_script_needs_neither_torch_nor_ray(runs, tmp_path):
    assert synthetic.heavy_modules("trajectories.py", runs / "8", "--out", tmp_path / "fig") == "heavy []"
