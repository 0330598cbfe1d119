"""Staying until people have labelled."""

import io

import pytest
from rich.console import Console

from alss_ray import waiting
from alss_ray.config import UsageError, Waiting


def test_what_is_missing_is_told_once_and_an_absent_server_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away() -> Waiting | None:
        raise UsageError("The server is away.")

    looks = [away, lambda: two, lambda: two, away, away, lambda: one, lambda: None]

    def look() -> Waiting | None:
        return looks.pop(0)()

    two, one = Waiting("Two are missing.", {"a", "b"}, look), Waiting("One is missing.", {"b"}, look)
    monkeypatch.setattr(waiting, "POLL", 0.0)
    console = Console(file=io.StringIO())
    waiting.wait_for(two, console)
    assert not looks
    away_told = "The server is away. Looking again."
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "Two are missing.", away_told, "Two are missing.", away_told, "One is missing.",
    ]  # fmt: skip
