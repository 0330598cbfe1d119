"""Files that are whole or absent, and locks that end with their holder: shown with real processes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from alss_ray.files import locked, replacing, write_text

HOLD = """
import sys, time
from pathlib import Path
from alss_ray.files import locked, replacing
path, kind = Path(sys.argv[1]), sys.argv[2]
with (locked if kind == "lock" else replacing)(path) as part:
    if part is not None:
        part.write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""


def holder(path: Path, kind: str) -> subprocess.Popen[str]:
    """Another process inside `locked` or `replacing`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), kind], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_new_file_appears_at_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.txt"
    with replacing(path) as part:
        part.write_text("first")
        assert not path.exists()
        assert part.parent == path.parent
    assert path.read_text() == "first"
    assert [*path.parent.iterdir()] == [path]


def test_an_error_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old α")

    def fail_half_way() -> None:
        with replacing(path) as part:
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_text(encoding="utf-8") == "old α"
    assert [*tmp_path.iterdir()] == [path]


def test_a_writer_killed_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    end(holder(path, "replace"))
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with open(path) as reader:
        write_text(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_a_lock_waits_for_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.lock"
    process = holder(path, "lock")
    waiter = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from alss_ray.files import locked\n"
         "with locked(Path(sys.argv[1])): print('got it', flush=True)", str(path)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        waiter.wait(1.5)
    end(process)
    out, _ = waiter.communicate(timeout=10)
    assert (out, waiter.returncode) == ("got it\n", 0)


def test_other_locks_and_later_turns_are_free(tmp_path: Path) -> None:
    process = holder(tmp_path / "a.lock", "lock")
    started = time.monotonic()
    try:
        for _ in range(2):
            with locked(tmp_path / "b.lock"):
                pass
    finally:
        end(process)
    with locked(tmp_path / "a.lock"):
        pass
    assert time.monotonic() - started < 5
