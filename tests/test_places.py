"""Places: the same on this machine and on an object store, and a store that is away is asked again."""

from __future__ import annotations

import pickle
import re
import threading
import time
from pathlib import Path

import pytest
from object_store import ObjectStore

from alss_ray import places
from alss_ray.config import ExperimentFailed, UsageError
from alss_ray.files import StoreError, told
from alss_ray.places import Place


@pytest.fixture(params=["here", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder that does not exist yet."""
    return (
        Place(tmp_path / "x y")
        if request.param == "here"
        else Place(request.getfixturevalue("bucket")) / "x y"
    )


def test_files_are_written_listed_read_and_removed(folder: Place) -> None:
    assert folder.is_vacant()
    assert not folder.exists()
    assert folder.list("*") == []
    for name in ("b.txt", "a.txt", "a.bin", "below/c.txt"):
        (folder / name).write(name.encode())
    assert [place.name for place in folder.list("*.txt")] == ["a.txt", "b.txt"]
    assert [place.name for place in folder.list("*")] == ["a.bin", "a.txt", "b.txt"]
    assert folder.list("a.txt") == [folder / "a.txt"]
    assert (folder / "below" / "c.txt").read() == b"below/c.txt"
    (folder / "b.txt").write(b"")
    assert (folder / "b.txt").read() == b""
    assert folder.exists()
    assert not folder.is_vacant()
    assert not (folder / "b.txt").is_vacant()
    for name in ("b.txt", "b.txt", "never"):
        (folder / name).delete()
    assert not (folder / "b.txt").exists()
    with pytest.raises(FileNotFoundError):
        (folder / "b.txt").read()


def test_an_object_is_where_other_clients_look_for_it(object_store: ObjectStore, bucket: str) -> None:
    (Place(bucket + "/results/first/") / "records" / "a b.arrow").write(b"content")
    assert object_store.keys(bucket) == ["results/first/records/a b.arrow"]
    client = object_store.client()
    found = client.get_object(Bucket=bucket.removeprefix("s3://"), Key="results/first/records/a b.arrow")
    assert found["Body"].read() == b"content"
    assert not client.list_multipart_uploads(Bucket=bucket.removeprefix("s3://")).get("Uploads")


def test_an_endpoint_may_stand_in_the_uri(object_store: ObjectStore, bucket: str) -> None:
    query = f"?endpoint_override=127.0.0.1:{object_store.port}&scheme=http&region=us-east-1"
    place = Place(f"{bucket}/deep{query}") / "file"
    place.write(b"content")
    assert str(place) == f"{bucket}/deep/file{query}"
    assert place.name == "file"
    assert Place(f"{bucket}/deep/file").read() == b"content"


@pytest.mark.parametrize(
    ("typed", "text", "name"),
    [
        ("results/first", "results/first", "first"),
        (Path("results"), "results", "results"),
        ("~/results", str(Path.home() / "results"), "results"),
        ("file:///tmp/a%20b", "/tmp/a b", "a b"),
        ("s3://bucket/path/x/", "s3://bucket/path/x", "x"),
        ("s3://bucket", "s3://bucket", "bucket"),
        ("s3://bucket/", "s3://bucket", "bucket"),
    ],
)
@pytest.mark.usefixtures("object_store")
def test_what_was_typed_is_kept_and_travels(typed: str | Path, text: str, name: str) -> None:
    place = Place(typed)
    assert (str(place), place.name) == (text, name)
    assert (place.local is None) == ("s3:" in text)
    for same in (Place(place), Place(text), pickle.loads(pickle.dumps(place))):
        assert same == place
        assert hash(same) == hash(place)
    assert str(place / "a/b") == f"{text}/a/b"
    assert place != place / "a"


def test_a_path_of_this_machine_is_made_absolute_and_a_uri_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Place("results").absolute().local == tmp_path / "results"
    assert Place(bucket).absolute() == Place(bucket)


@pytest.mark.parametrize("typed", ["gopher://hole", "s3:///path", "s3://bucket/a?b=1", "://", "s4://bucket"])
@pytest.mark.usefixtures("object_store")
def test_a_uri_that_pyarrow_does_not_know_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match=r"(cannot be used: .|names no bucket; give )") as caught:
        Place(typed)
    assert typed in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_store_that_is_away_for_a_while_is_asked_again(object_store: ObjectStore, bucket: str) -> None:
    place = Place(bucket) / "file"
    place.write(b"before")
    object_store.stop()
    back = threading.Timer(2.0, object_store.start)
    back.start()
    started = time.monotonic()
    try:
        place.write(b"after")
    finally:
        back.join()
    assert time.monotonic() - started > 1.5
    assert place.read() == b"after"


def test_a_store_that_stays_away_is_told_in_a_sentence(
    object_store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(bucket) / "records" / "file"
    monkeypatch.setattr(places, "PAUSES", ())
    object_store.stop()
    try:
        with pytest.raises(StoreError) as caught, told("The records", Place(bucket)):
            place.write(b"")
    finally:
        object_store.start()
    whole = (
        rf"The records cannot be kept: {place} cannot be written, though .*connect.*\); go on with --resume\."
    )
    assert re.fullmatch(whole, str(caught.value))
    assert re.fullmatch(rf"{place} cannot be written, though .*\)\.", str(caught.value.__cause__))
    assert isinstance(caught.value, ExperimentFailed)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.usefixtures("object_store")
def test_a_bucket_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PAUSES", ())
    place = Place("s3://nobodys-bucket/x")
    assert place.is_vacant()
    with pytest.raises(StoreError, match="NO_SUCH_BUCKET"):
        (place / "file").write(b"")
