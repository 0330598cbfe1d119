"""The whole-pool reference: bought once beside the work, where the task's own oracle is cheap."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from alss_ray import reading
from alss_ray.__main__ import run
from alss_ray.reference import whole_pool
from alss_ray.tasks import Digits, TaskData


@dataclass(frozen=True)
class CheapDigits(Digits):
    """The digits as if their labels cost next to nothing."""

    name: ClassVar[str] = "test_reference:CheapDigits"

    def load(self) -> TaskData:
        return dataclasses.replace(super().load(), whole_pool=True)


WORDS = ["--task", "test_reference:CheapDigits", "--strategy", "random", "--label-budget", "20", "--round-size", "10",
         "--iterations", "5"]  # fmt: skip


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_a_run_records_what_the_whole_pool_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*WORDS, "--out", str(tmp_path / "out")]) == 0
    rows = reading.read("rounds", [tmp_path / "out"]).table.to_pylist()
    [known] = [row for row in rows if row["n_labels"] > 20]
    data = CheapDigits().load()
    assert known["n_labels"] == len(data.images) - 10, "everything but the validation set"
    assert known["n_val_labels"] == 10
    assert known["iterations"] == 10, "the training steps of both rounds"
    assert known["test_metric"] > max(row["test_metric"] for row in rows if row is not known)
    assert f"{known['test_metric']:.4f} with all {known['n_labels']} labels" in capsys.readouterr().out


def test_a_run_can_do_without(tmp_path: Path) -> None:
    assert run([*WORDS, "--no-reference", "--out", str(tmp_path / "out")]) == 0
    rows = reading.read("rounds", [tmp_path / "out"]).table.to_pylist()
    assert [row["n_labels"] for row in rows] == [10, 20]


def test_labels_that_are_dear_are_not_bought_for_a_line_in_a_picture() -> None:
    from helpers import tiny

    assert whole_pool(tiny(), Digits().load()) is None
