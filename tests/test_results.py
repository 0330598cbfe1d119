"""Whose a results folder is: claimed, refused, resumed."""

import json
import re
from pathlib import Path

import pytest

from alss_ray.config import UsageError
from alss_ray.results import MANIFEST, claim

ASKED = {
    "kind": "sweep",
    "name": "latent_dim",
    "experiment": {"alpha": 0.3, "seed": 0},
    "space": {"n": "Int"},
}


def test_a_new_folder_is_claimed_with_what_was_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "one"
    claim(folder, ASKED, resume=False)
    told = json.loads((folder / MANIFEST).read_text())
    assert told["asked"] == ASKED
    assert "torch" in told["versions"]
    assert told["host"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", told["started_at"])


def test_an_empty_folder_can_be_claimed(tmp_path: Path) -> None:
    claim(tmp_path, ASKED, resume=False)
    assert (tmp_path / MANIFEST).exists()


def test_the_same_work_is_resumed_and_the_manifest_stays(tmp_path: Path) -> None:
    claim(tmp_path, {**ASKED, "sizes": (1, 2)}, resume=False)
    before = (tmp_path / MANIFEST).read_bytes()
    claim(tmp_path, {**ASKED, "sizes": (1, 2)}, resume=True)  # a tuple is a list in JSON
    assert (tmp_path / MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (ASKED, "holds this sweep already; add --resume"),
        ({**ASKED, "name": "other"}, "holds the results of another sweep, latent_dim; choose another"),
    ],
    ids=["same", "other"],
)
def test_without_resume_a_used_folder_is_refused(tmp_path: Path, asked: dict[str, object], told: str) -> None:
    claim(tmp_path, ASKED, resume=False)
    with pytest.raises(UsageError, match=f"{tmp_path} {told}"):
        claim(tmp_path, asked, resume=False)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({**ASKED, "name": "other"}, "name was latent_dim, now other"),
        ({**ASKED, "experiment": {"alpha": 0.5, "seed": 0}}, "experiment.alpha was 0.3, now 0.5"),
        ({**ASKED, "experiment": {"alpha": 0.3}}, "experiment.seed was 0, now None"),
        ({**ASKED, "space": {"n": "Int", "j": "Int"}}, "space.j was None, now Int"),
        ({**ASKED, "space": None}, "space was {'n': 'Int'}, now None"),
    ],
)
def test_other_settings_are_not_resumed_and_named(
    tmp_path: Path, asked: dict[str, object], told: str
) -> None:
    claim(tmp_path, ASKED, resume=False)
    before = (tmp_path / MANIFEST).read_bytes()
    with pytest.raises(UsageError) as caught:
        claim(tmp_path, asked, resume=True)
    assert str(caught.value) == f"{tmp_path} cannot be resumed with other settings: {told}."
    assert (tmp_path / MANIFEST).read_bytes() == before


def test_every_difference_is_named(tmp_path: Path) -> None:
    claim(tmp_path, ASKED, resume=False)
    with pytest.raises(UsageError, match=r"alpha was 0\.3, now 1; experiment\.seed was 0, now 2\."):
        claim(tmp_path, {**ASKED, "experiment": {"alpha": 1, "seed": 2}}, resume=True)


@pytest.mark.parametrize("there", [False, True])
def test_nothing_to_resume_is_told(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "folder"
    if there:
        folder.mkdir()
    with pytest.raises(UsageError, match=r"nothing to resume in .*folder.*leave --resume out"):
        claim(folder, ASKED, resume=True)
    assert folder.exists() == there


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"{}", b"[]", b"null", b"\xff\xfe", b'{"asked": {}}', b'{"asked": 3}'],
)
def test_a_damaged_manifest_is_told(tmp_path: Path, content: bytes, resume: bool) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(UsageError, match=str(tmp_path)) as caught:
        claim(tmp_path, ASKED, resume)
    assert "\n" not in str(caught.value)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="holds other things; choose a folder that is new or empty"):
        claim(tmp_path, ASKED, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("below", "told"),
    [(".", "exists and holds other things"), ("results", "cannot be written to .*; choose another")],
)
def test_a_file_where_a_folder_should_be_is_told(tmp_path: Path, below: str, told: str) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match=told):
        claim(file / below, ASKED, resume=False)
