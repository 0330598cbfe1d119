"""The folder oracle: what people find there, and what is taken of what they leave."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alss_ray.config import UsageError
from alss_ray.oracles.base import Why
from alss_ray.oracles.folder import FolderAnnotators
from alss_ray.oracles.people import Classes, Maps, Suggestion, Wanted

ANIMALS = Classes(("Cat", "dog", "Dog"))
SIDE = 6


def suggestion(k: int, round: int = 3, why: Why = Why(), channels: int = 1) -> Suggestion:  # noqa: B008
    image = np.full((channels, SIDE, SIDE), 10 * k, np.uint8)
    image[:, 0, 0] = 255
    return Suggestion(f"{k:064x}", image, k, f"scan-{k}.png", "experiment", round, why)


def asked(folder: Path, wanted: Wanted = ANIMALS, count: int = 3, channels: int = 1) -> FolderAnnotators:
    annotators = FolderAnnotators(folder / "inbox", wanted, "Which animal?")
    annotators.ask([suggestion(k, channels=channels) for k in range(1, count + 1)])
    return annotators


def batch(annotators: FolderAnnotators) -> Path:
    return annotators.inbox / "001-round-3"


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def fill(path: Path, *labels: str, encoding: str = "utf-8", separator: str = ",") -> None:
    """Write labels into the manifest, as a spreadsheet would."""
    table = rows(path / "manifest.csv")
    for row, label in zip(table, labels, strict=False):
        row["label"] = label
    with open(path / "manifest.csv", "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, table[0], delimiter=separator)
        writer.writeheader()
        writer.writerows(table)


def values(annotators: FolderAnnotators) -> dict[int, int | str]:
    """Suggestion -> label, or the reason of its refusal."""
    returned = annotators.returned().verdicts
    return {int(k, 16): v.refusal if v.value is None else int(v.value) for k, v in returned.items()}


def test_a_batch_holds_images_and_reasons(tmp_path: Path) -> None:
    annotators = FolderAnnotators(tmp_path / "inbox", ANIMALS, "Which animal?")
    why = Why(gradient_norm=1.25, predicted=torch.tensor(2), margin=0.125)
    annotators.ask([suggestion(7, why=why), suggestion(5)])
    first, second = rows(batch(annotators) / "manifest.csv")
    assert (first["predicted"], first["margin"], first["gradient_norm"]) == ("Dog", "0.125", "1.25")
    assert (first["round"], first["name"], first["position"], first["label"]) == ("3", "scan-7.png", "7", "")
    assert (second["predicted"], second["margin"], second["gradient_norm"]) == ("", "", "")
    with Image.open(batch(annotators) / "images" / first["image"]) as image:
        assert np.array_equal(np.asarray(image), suggestion(7).image[0])
    assert annotators.where == f"{batch(annotators)} (has 0 of 2)"


def test_an_image_is_asked_for_once(tmp_path: Path) -> None:
    annotators = asked(tmp_path)
    annotators.ask([suggestion(2, round=4), suggestion(9, round=4), suggestion(9, round=4)])
    annotators.ask([suggestion(9, round=5)])
    assert sorted(path.name for path in annotators.inbox.glob("[0-9]*")) == ["001-round-3", "002-round-4"]
    assert [row["position"] for row in rows(annotators.inbox / "002-round-4" / "manifest.csv")] == ["9"]


@pytest.mark.parametrize(("encoding", "separator"), [("utf-8", ","), ("utf-8-sig", ";"), ("cp1252", "\t")])
def test_takes_what_is_done_of_a_table_as_spreadsheets_write_it(
    tmp_path: Path, encoding: str, separator: str
) -> None:
    annotators = asked(tmp_path)
    fill(batch(annotators), "CAT", "", "skip", encoding=encoding, separator=separator)
    assert values(annotators) == {1: 0, 3: "skipped"}
    assert annotators.where == f"{batch(annotators)} (has 2 of 3)"
    (batch(annotators) / "more.csv").write_text("Label,Image\ndog,002-00000000.png\n")
    assert values(annotators) == {1: 0, 2: 1, 3: "skipped"}
    assert not annotators.returned().complaints
    assert annotators.where == str(annotators.inbox)


def test_knows_when_a_label_was_asked_for_and_came(tmp_path: Path) -> None:
    annotators = asked(tmp_path)
    fill(batch(annotators), "cat")
    os.utime(batch(annotators) / "manifest.csv", (2e9, 2e9))
    [verdict] = annotators.returned().verdicts.values()
    assert verdict.errand is not None
    assert verdict.errand.came == 2e9
    assert verdict.errand.asker == "experiment"
    assert abs(verdict.errand.asked - batch(annotators).stat().st_mtime) < 60


def _more(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "labels.csv").write_text(text)
        return folder / "labels.csv"

    return write


@pytest.mark.parametrize(
    ("damage", "told", "taken"),
    [
        (_more("image,label\n001-00000000.png,horse\n"), "cannot be 'horse'", {2: 1}),
        (_more("image,label\n001-00000000.png,DOG\n"), "cannot be 'DOG'", {2: 1}),
        (_more("image,label\n009-00000000.png,dog\n"), "'009-00000000' was never asked for", {2: 1}),
        (_more("image,label\n002-00000000.png,Dog\n"), "has 2 labels; they differ", {}),
        (_more("image,label\n002-00000000.png,dog\n"), "has 2 labels; they agree", {2: 1}),
        (_more("picture,class\nx,dog\n"), "no table with the columns image and label", {2: 1}),
        (_more("\x00\xff"), "no table with the columns image and label", {2: 1}),
    ],
)
def test_one_sentence_names_the_file_that_is_wrong_and_nothing_is_lost(
    tmp_path: Path, damage: Callable[[Path], Path], told: str, taken: dict[int, int]
) -> None:
    annotators = asked(tmp_path)
    fill(batch(annotators), "", "dog")
    path = damage(batch(annotators))
    [complaint] = annotators.returned().complaints
    assert told in complaint
    assert str(path) in complaint
    assert values(annotators) == taken


def test_masks_come_back_as_files_of_their_images_names(tmp_path: Path) -> None:
    annotators = asked(tmp_path, Maps((SIDE, SIDE), mask=True), count=4, channels=3)
    images = [row["image"] for row in rows(batch(annotators) / "manifest.csv")]
    painted = np.zeros((SIDE, SIDE), np.uint8)
    painted[2:4] = 255
    Image.fromarray(painted).save(batch(annotators) / "labels" / images[0])
    np.save(batch(annotators) / "labels" / images[1].replace(".png", ".npy"), painted // 255)
    fill(batch(annotators), "", "", "skip")
    returned = annotators.returned()
    assert not returned.complaints
    first, second, third = (returned.verdicts[f"{k:064x}"] for k in (1, 2, 3))
    wanted = torch.from_numpy(painted // 255)[None]
    assert first.value is not None
    assert torch.equal(first.value, wanted)
    assert first.value.dtype == torch.uint8
    assert second.value is not None
    assert torch.equal(second.value, wanted)
    assert third.refusal == "skipped"


@pytest.mark.parametrize(
    ("name", "array", "told"),
    [
        ("002-00000000.npy", np.zeros((SIDE, SIDE + 1)), "it has 7 x 6 pixels; 6 x 6 are wanted"),
        ("002-00000000.npy", np.full((SIDE, SIDE), np.nan), "no finite numbers"),
        ("002-00000000.npy", np.array([[object()]]), "cannot be read"),
        ("001-00000000.npz", None, "001-00000000 has 2 labels; they differ"),
        ("scan.npy", np.zeros((SIDE, SIDE)), "'scan' was never asked for"),
    ],
)
def test_maps_that_cannot_be_taken(tmp_path: Path, name: str, array: np.ndarray | None, told: str) -> None:
    annotators = asked(tmp_path, Maps((SIDE, SIDE), "kPa"))
    good = np.linspace(0, 150, SIDE * SIDE).reshape(SIDE, SIDE)
    np.save(batch(annotators) / "labels" / "001-00000000.npy", good)
    path = batch(annotators) / "labels" / name
    if array is None:
        np.savez(path, map=good + 1)
    else:
        np.save(path, array, allow_pickle=True)
    returned = annotators.returned()
    [complaint] = returned.complaints
    assert told in complaint
    assert str(path) in complaint
    if array is None:
        assert not returned.verdicts
    else:
        [verdict] = returned.verdicts.values()
        assert verdict.value is not None
        assert torch.equal(verdict.value, torch.from_numpy(good.astype(np.float32))[None])


def test_a_predicted_map_can_be_begun_from(tmp_path: Path) -> None:
    annotators = FolderAnnotators(tmp_path / "inbox", Maps((SIDE, SIDE), "kPa"), "Which stress?")
    guess = torch.linspace(0, 150, SIDE * SIDE).reshape(1, SIDE, SIDE)
    annotators.ask([suggestion(1, why=Why(predicted=guess))])
    (batch(annotators) / "predicted" / "001-00000000.npy").rename(
        batch(annotators) / "labels" / "001-00000000.npy"
    )
    [verdict] = annotators.returned().verdicts.values()
    assert verdict.value is not None
    assert torch.equal(verdict.value, guess)


def test_an_inbox_belongs_to_one_question(tmp_path: Path) -> None:
    asked(tmp_path)
    other = FolderAnnotators(tmp_path / "inbox", Classes(("yes", "no")), "Is it an animal?")
    for work in (lambda: other.ask([suggestion(1)]), other.returned):
        with pytest.raises(UsageError, match="made for another question"):
            work()


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "inbox" / ".001-round-3.abc.part"
    (left / "images").mkdir(parents=True)
    annotators = asked(tmp_path)
    assert not left.exists()
    assert batch(annotators).is_dir()
