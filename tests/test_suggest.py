"""Suggestions for a folder of images: asked for once, explained, and taken in when they are labelled."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alss_ray.adviser import known
from alss_ray.config import UsageError
from alss_ray.oracles.folder import FolderAnnotators
from alss_ray.oracles.people import Classes
from alss_ray.suggest import suggest
from alss_ray.tasks.annotations import Annotations

KINDS = ("dark", "light")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Sixty bright and dark pictures of several shapes and modes, eight of them labelled."""
    chance = np.random.default_rng(0)
    (tmp_path / "images" / "more").mkdir(parents=True)
    for k in range(60):
        grey = chance.integers(0, 100, (20 + k % 3, 30)) + 140 * (k % 2)
        picture = Image.fromarray(grey.astype(np.uint8))
        picture = picture.convert("RGB") if k % 5 == 0 else picture
        picture.save(tmp_path / "images" / ("more" if k % 4 == 0 else "") / f"p{k:02d}.png")
    table(tmp_path / "known.csv", [(f"p{k:02d}.png", KINDS[k % 2]) for k in range(8)])
    return tmp_path


def table(path: Path, rows: list[tuple[str, str]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("image", "label"), *rows])


def words(home: Path, *more: str) -> list[str]:
    latent = not {"margin", "random", "typiclust", "si", "lcmd"} & set(more)
    stage_one = ["--generator-iterations", "20"] if latent else []
    return [
        "--images", str(home / "images"), "--labels", str(home / "known.csv"), "--out", str(home / "out"),
        "--cache", str(home / "cache"), "--channels", "1", "--side", "16", "--architecture", "lenet",
        "--iterations", "20", "--count", "10", *stage_one, *more,
    ]  # fmt: skip


def rows(batch: Path) -> list[dict[str, str]]:
    with open(batch / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("strategy", ["snn", "margin", "random", "typiclust"])
def test_suggests_what_is_not_labelled_and_says_why(
    home: Path, strategy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert suggest(words(home, "--strategy", strategy)) == 0
    assert "60 images, 8 of them labelled with 2 classes; 52 can be suggested." in capsys.readouterr().out
    found = rows(home / "out" / "001-round-1")
    names = {row["name"].rpartition("/")[2] for row in found}
    assert len(names) == 10
    assert not names & {f"p{k:02d}.png" for k in range(8)}
    assert all(row["predicted"] in KINDS and 0 <= float(row["margin"]) <= 1 for row in found)
    assert all((float(row["gradient_norm"] or 0) > 0) == (strategy == "snn") for row in found)
    for row in found:
        shown = Image.open(home / "out" / "001-round-1" / "images" / row["image"])
        assert np.array_equal(shown, Image.open(home / "images" / row["name"]).convert("L"))


def test_latent_margin_chooses_unless_another_is_named(home: Path) -> None:
    said = {}
    for name in ("", "latent_margin", "snn"):
        suggest([*words(home), "--out", str(home / f"by {name}"), *(["--strategy", name] if name else [])])
        said[name] = [row["name"] for row in rows(home / f"by {name}" / "001-round-1")]
    assert said[""] == said["latent_margin"] != said["snn"]


def test_takes_in_what_was_labelled_and_asks_for_nothing_twice(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suggest(words(home))
    first = rows(home / "out" / "001-round-1")
    told = ["dark", "light", "skip", "grey"]
    table(
        home / "out" / "001-round-1" / "labels.csv",
        [(r["image"], t) for r, t in zip(first, told, strict=False)],
    )
    capsys.readouterr()
    suggest(words(home, "--side", "20", "--strategy", "margin"))
    said = capsys.readouterr()
    assert "60 images, 10 of them labelled with 2 classes; 42 can be suggested." in said.out
    assert "cannot be 'grey'" in said.err
    assert str(home / "out" / "001-round-1") in said.out
    second = rows(home / "out" / "002-round-2")
    assert not {row["name"] for row in first} & {row["name"] for row in second}


def test_begins_without_any_label(home: Path) -> None:
    plain = [word for word in words(home) if word not in ("--labels", str(home / "known.csv"))]
    with pytest.raises(UsageError, match="Nothing says which classes there are"):
        suggest(plain)
    assert suggest([*plain, "--classes", "dark,light"]) == 0
    found = rows(home / "out" / "001-round-1")
    assert len(found) == 10
    assert all(row["predicted"] == "" for row in found)


def test_a_class_may_turn_up_later(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suggest(words(home, "--strategy", "random"))
    first = rows(home / "out" / "001-round-1")
    table(
        home / "out" / "001-round-1" / "labels.csv",
        [(r["image"], t) for r, t in zip(first, KINDS, strict=False)],
    )
    table(home / "more.csv", [("p01.png", "light"), ("p02.png", "dark"), ("p03.png", "grey")])
    capsys.readouterr()
    suggest(words(home, "--strategy", "random", "--labels", str(home / "more.csv")))
    assert "60 images, 5 of them labelled with 3 classes" in capsys.readouterr().out
    with pytest.raises(UsageError, match="made for another question"):
        suggest(words(home, "--strategy", "random", "--ask", "Is it ill?"))


def test_ends_when_nothing_is_left(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suggest(words(home, "--strategy", "random", "--count", "100"))
    assert len(rows(home / "out" / "001-round-1")) == 52
    suggest(words(home, "--strategy", "random"))
    assert "Nothing is left to suggest" in capsys.readouterr().out


def test_measures_the_network_on_labels_that_it_did_not_see(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(home / "known.csv", [(f"p{k:02d}.png", KINDS[k % 2]) for k in range(50)])
    suggest(words(home, "--strategy", "margin", "--iterations", "60"))
    assert "100% ± 0% of labels right: 10 were kept from it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--count", "0"], "count is 0"),
        (["--strategy", "si"], "does not choose among images that have classes"),
        (["--strategy", "lcmd"], "does not choose among images that have classes"),
        (["--images", "nowhere"], "nowhere is no folder"),
        (["--labels", "nothing.csv"], "There is no file .*nothing.csv"),
        (["--classes", "dark"], "calls 'p01.png' 'light'"),
    ],
)
def test_bad_input_is_told_before_any_work(home: Path, more: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        suggest(words(home, *more))
    assert not list((home / "out").glob("0*"))


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (("p99.png", "dark"), "names 'p99.png', which is no file"),
        (("p00.png", "light"), "calls 'p00.png' 'dark' and 'light'"),
    ],
)
def test_a_table_that_does_not_fit_the_folder(home: Path, extra: tuple[str, str], told: str) -> None:
    with open(home / "known.csv", "a", newline="") as file:
        csv.writer(file).writerow(extra)
    task = Annotations(images=home / "images", labels=home / "known.csv", channels=1)
    with pytest.raises(UsageError, match=told):
        known(task, FolderAnnotators(home / "out", Classes(KINDS), "Which?"))
