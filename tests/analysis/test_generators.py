"""analysis/generators.py as it is typed: a picture a generator, whose pixels are those of the records."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from generators import tiled
from helpers import tiny
from pages import Page
from PIL import Image
from report import ReportOptions, report

from alss_ray import reading
from alss_ray.experiment import Run
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import materials
from alss_ray.strategies import Random
from alss_ray.tasks import Digits

SCRIPT = Path(__file__).parents[2] / "analysis" / "generators.py"


def typed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_one_beside_the_other(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, channels, 4, 5), np.uint8)
    sheet = tiled(images.tobytes(), (channels, 4, 5), 3)
    assert sheet.shape[:2] == (2 * 4 + 2, 3 * 5 + 2 * 2)
    for k, image in enumerate(images):
        top, left = (k // 3) * 6, (k % 3) * 7
        part = sheet[top : top + 4, left : left + 5]
        assert np.array_equal(part, image[0] if channels == 1 else image.transpose(1, 2, 0))


def test_one_picture_a_generator(tmp_path: Path) -> None:
    shared, store = materials(Digits()), GeneratorStore(tmp_path / "stock")
    for seed in (0, 1):
        list(Run(tiny(seed=seed), shared, tmp_path / "results", store).rounds())
    done = typed(tmp_path / "results", "--out", tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    (row, _) = reading.read("generators", [tmp_path / "results"]).table.to_pylist()
    path = tmp_path / "pictures" / f"generator-{row['generator_key'][:8]}.png"
    assert done.stdout.split() == [str(path)]
    assert np.asarray(Image.open(path)).std() > 20
    wrong = typed(tmp_path / "results", "--generator", "nonsense")
    assert wrong.returncode == 2
    assert row["generator_key"] in wrong.stderr


def test_the_report_puts_what_was_reached_beside_them(tmp_path: Path) -> None:
    shared, store = materials(Digits()), GeneratorStore(tmp_path / "stock")
    last = [list(Run(tiny(seed=seed), shared, tmp_path, store).rounds())[-1]["test_aulc"] for seed in (0, 1)]
    report(ReportOptions(str(tmp_path)))
    html = (tmp_path / "report.html").read_text()
    heading, line = Page(html).tables["Generators, and what was reached with them; means over runs"]
    cells = dict(zip(heading, line, strict=True))
    (row, _) = reading.read("generators", [tmp_path]).table.to_pylist()
    assert (cells["key"], cells["runs"]) == (row["generator_key"][:8], "2")
    assert cells["error"] == f"{row['reconstruction_rmse']:.4g}"
    mean, deviation = np.mean(last), np.std(last, ddof=1)
    assert cells["test AULC (%)"] == f"{100 * mean:.2f} ± {100 * deviation:.2f}"
    picture = html.split('<section id="generators"')[1].split("data:image/png;base64,")[1].split('"')[0]
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))).std() > 20


def test_results_without_a_generator_are_told(tmp_path: Path) -> None:
    list(Run(tiny(strategy=Random()), materials(Digits()), tmp_path, GeneratorStore(tmp_path)).rounds())
    done = typed(tmp_path)
    assert done.returncode == 2
    assert "holds no generator" in done.stderr
    assert len(done.stderr.splitlines()) == 1
