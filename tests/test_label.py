"""The command `python -m alss_ray label`: maps and pictures of mask files, and what is said of the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alss_ray.cli import guarded
from alss_ray.label import LabelOptions, each, label, planned
from alss_ray.oracles.vessel import Settings, solve
from alss_ray.tasks.phantoms import Phantoms, make_phantoms


@pytest.fixture(scope="module")
def phantoms() -> Phantoms:
    return make_phantoms(count=3, side=64, independent=True)


@pytest.fixture
def folder(tmp_path: Path, phantoms: Phantoms) -> Path:
    """A PNG, a TIFF and an NPY file, the last in a subfolder."""
    images = phantoms.images[:, 0]
    (tmp_path / "masks" / "sub").mkdir(parents=True)
    Image.fromarray(images[0]).save(tmp_path / "masks" / "one.png")
    Image.fromarray(images[1]).save(tmp_path / "masks" / "two.tif")
    np.save(tmp_path / "masks" / "sub" / "three.npy", images[2] / np.float32(255))
    return tmp_path / "masks"


def status(*words: str | Path) -> int:
    return guarded(lambda: label([str(word) for word in words]))


def broken(image: np.ndarray) -> np.ndarray:
    """A wall with a gap from the lumen to the right."""
    cut = image.copy()
    rows = np.flatnonzero(image.any(1))
    middle = (rows[0] + rows[-1]) // 2
    cut[middle - 2 : middle + 3, 32:] = 0
    return cut


def test_the_maps_are_the_solvers_and_a_refused_file_stops_no_other(
    folder: Path, phantoms: Phantoms, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(folder / "gap.npz", broken(phantoms.images[0, 0]))
    (folder / "torn.png").write_bytes(b"no picture")
    speck = phantoms.images[0, 0].copy()
    speck[1, 1] = 255
    Image.fromarray(speck).save(folder / "speck.png")
    out = folder / "maps"
    words = (folder, "--spacing", "0.12", "--pressure", "14", "--workers", "2", "--out", out)
    assert status(*words) == 1
    said = capsys.readouterr()
    assert said.out.startswith("4 of 6 masks are labelled")
    repaired, *rest = [line for line in said.err.splitlines() if "speck.png" in line]
    assert not rest
    assert "1 specks removed" in repaired
    told = said.err[said.err.index("2 of 6 masks are refused:") :].splitlines()
    assert told[1].startswith(f"  {folder / 'gap.npz'}: The wall is open")
    assert told[2].startswith(f"  {folder / 'torn.png'}: cannot be read (")
    assert len(told) == 3
    names = {"one", "two", "three", "speck"}
    assert {path.name for path in out.iterdir()} == {f"{n}.{kind}" for n in names for kind in ("npy", "png")}
    # They are not taken for masks by another run.
    assert len(planned(LabelOptions((folder,), spacing=0.12, out=out))) == 6
    for name, image in zip(("one", "two", "three"), phantoms.images[:, 0], strict=True):
        stress = np.load(out / f"{name}.npy")
        assert stress.dtype == np.float32
        want = solve(image, 0.12, Settings(pressure=14.0)).stress
        # Files of shares are rounded once more.
        np.testing.assert_allclose(stress, want, rtol=1e-4 if name == "three" else 1e-6, atol=1e-3)
        with Image.open(out / f"{name}.png") as picture:
            assert picture.size == (640, 520)
            assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize(("quantity", "size"), [("von_mises", (640, 520)), ("tensor", (1300, 480))])
def test_other_quantities_and_label_maps(
    quantity: str,
    size: tuple[int, int],
    tmp_path: Path,
    phantoms: Phantoms,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wall = phantoms.images[0, 0] >= 128
    np.save(tmp_path / "a$b.npy", np.where(wall, 3, 1).astype(np.uint8))
    words = (tmp_path / "a$b.npy", "--spacing", "0.12", "--wall-label", "3", "--out", tmp_path / "out")
    assert status(*words, "--quantity", quantity) == 0
    assert capsys.readouterr().out.startswith("1 of 1 mask is labelled")
    want = solve(wall, 0.12, Settings(quantity=quantity)).stress  # type: ignore[arg-type]
    np.testing.assert_allclose(np.load(tmp_path / "out" / "a$b.npy"), want, rtol=1e-6)
    with Image.open(tmp_path / "out" / "a$b.png") as picture:
        assert picture.size == size


def test_a_map_of_an_earlier_run_is_told_of(
    tmp_path: Path, phantoms: Phantoms, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", broken(phantoms.images[0, 0]))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.npy").touch()
    assert status(tmp_path / "a.npy", "--spacing", "0.12", "--out", tmp_path / "out") == 1
    assert f"{tmp_path / 'out' / 'a.npy'} is from an earlier run." in capsys.readouterr().err


def test_bad_input_is_one_sentence_before_any_solve(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, out = folder / "one.png", tmp_path / "out"
    (tmp_path / "one.npy").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        ((folder / "none.png", "--spacing", "1", "--out", out), "does not exist"),
        ((one, "--spacing", "0", "--out", out), "spacing is 0.0"),
        ((one, "--spacing", "nan", "--out", out), "spacing is nan"),
        ((one, "--spacing", "1", "--pressure", "-1", "--out", out), "pressure is -1.0"),
        ((one, "--spacing", "1", "--workers", "0", "--out", out), "workers is 0"),
        ((one, tmp_path / "one.npy", "--spacing", "1", "--out", out), "would both become one.npy"),
        ((tmp_path / "notes.txt", "--spacing", "1", "--out", out), "is no mask file"),
        ((tmp_path / "empty", "--spacing", "1", "--out", out), "holds no masks"),
        ((folder, "--spacing", "1", "--out", folder), "is a folder of masks"),
        ((one, "--spacing", "1", "--out", folder), "would be overwritten"),
        ((one, "--spacing", "1", "--out", tmp_path / "notes.txt"), "cannot be made a folder"),
        (("--spacing", "1", "--out", out), "No masks are given"),
    ]
    for words, sentence in cases:
        assert status(*words) == 2, words
        said = capsys.readouterr()
        assert sentence in said.err
        assert said.err.count("\n") == 1
    assert not out.exists()


def test_a_file_named_twice_is_solved_once(folder: Path, tmp_path: Path) -> None:
    tasks = planned(LabelOptions((folder / "one.png", folder), spacing=1.0, out=tmp_path / "out"))
    assert sorted(task.path.name for task in tasks) == ["one.png", "three.npy", "two.tif"]


def test_only_the_job_that_kills_its_process_is_lost() -> None:
    deadly = "__import__('os')._exit(9)"
    jobs = ["1 + 1", deadly, "2 + 2", "3 + 3", "4 + 4"]
    assert dict(each(eval, jobs, 2)) == {"1 + 1": 2, deadly: None, "2 + 2": 4, "3 + 3": 6, "4 + 4": 8}


def test_workers_have_one_thread_and_leave_ctrl_c_to_their_parent() -> None:
    jobs = ["__import__('os').environ['OMP_NUM_THREADS']", "__import__('signal').getsignal(2)"]
    before = signal.getsignal(signal.SIGINT)  # a background job's shell has it ignored from the start
    assert list(dict(each(eval, jobs, 1)).values()) == ["1", signal.SIG_IGN]
    assert signal.getsignal(signal.SIGINT) is before


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    job = f"(open({str(tmp_path / 'pid')!r}, 'w').write(str(__import__('os').getpid())), __import__('time').sleep(99))"
    program = f"from alss_ray.label import each\nif __name__ == '__main__':\n    list(each(eval, [{job!r}] * 2, 1))\n"
    (tmp_path / "parent.py").write_text(program)
    with subprocess.Popen([sys.executable, tmp_path / "parent.py"], cwd=Path(__file__).parents[1]) as parent:
        pid = _within(30, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        parent.kill()
    assert _within(30, lambda: not _alive(int(pid)))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def _within(seconds: float, found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := found()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return result


def test_ctrl_c_finishes_what_is_under_way_and_says_what_is_done(tmp_path: Path, phantoms: Phantoms) -> None:
    for k in range(200):
        np.save(tmp_path / f"m{k}.npy", phantoms.images[0, 0])
    out = tmp_path / "out"
    words = ("label", tmp_path, "--spacing", "0.12", "--workers", "1", "--out", out)
    command = [sys.executable, "-m", "alss_ray", *map(str, words)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert _within(60, lambda: list(out.glob("*.png")))
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does it
        said = running.communicate(timeout=30)[1]
    finally:
        running.kill()
    assert running.returncode == 130
    assert "Traceback" not in said
    done = len(list(out.glob("*.png")))
    assert 0 < done < 200
    assert f"Interrupted: {done} of 200 masks are labelled" in said
    assert {path.stem for path in out.glob("*.npy")} == {path.stem for path in out.glob("*.png")}
    assert not list(out.glob(".*"))
