"""The label cache: what is the same question, what is a whole answer, and what a crash costs."""

from __future__ import annotations

import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from alss_ray import places
from alss_ray.config import UsageError, local
from alss_ray.files import StoreError
from alss_ray.oracles.base import ImageBatch, Labels
from alss_ray.oracles.cache import (
    CachedOracle,
    LabelStore,
    OracleError,
    Verdict,
    decode,
    default_folder,
    encode,
    image_key,
    oracle_identity,
)

KEY = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Halving:
    """Halves an image; refuses dark ones and fails where it is told to."""

    pressure: float = 16.0
    seen: list[int] = local(default_factory=list)
    fails_at: int = local(default=-1)

    def label(self, images: ImageBatch) -> Labels:
        means = images.images.float().mean((1, 2, 3)).tolist()
        for index in images.indices.tolist():
            if index == self.fails_at:
                raise ZeroDivisionError("no pressure")
            self.seen.append(index)
        refusals = {k: "too dark" for k, mean in enumerate(means) if mean < 3}
        return Labels(images.images.float() / 2, refusals)


def batch(*levels: int) -> ImageBatch:
    images = torch.stack([torch.full((1, 4, 4), level, dtype=torch.uint8) for level in levels])
    return ImageBatch(images, torch.tensor(levels))


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_second_sweep_buys_nothing(tmp_path):
    first, second = CachedOracle(Halving(), tmp_path), CachedOracle(Halving(), f"file://{tmp_path}")
    images = batch(10, 1, 20, 10)
    labels = first.label(images)
    assert first.oracle.seen == [10, 1, 20]  # the one that stands twice is bought once
    assert (first.tally.asked, first.tally.bought) == (4, 3)
    again = second.label(images)
    assert second.oracle.seen == []
    assert (second.tally.asked, second.tally.bought) == (4, 0)
    assert torch.equal(labels.values, again.values)
    assert torch.equal(again.values[[0, 2, 3]], images.images[[0, 2, 3]].float() / 2)
    assert labels.refusals == again.refusals == {1: "too dark"}
    assert len(entries(tmp_path)) == 3


def test_a_crash_loses_only_what_is_in_flight(tmp_path):
    images = batch(10, 11, 12, 13)
    with pytest.raises(
        OracleError, match=r"Halving failed on sample 12 of D .*ZeroDivisionError: no pressure"
    ):
        CachedOracle(Halving(fails_at=12), tmp_path).label(images)
    oracle = CachedOracle(Halving(), tmp_path)
    oracle.label(images)
    assert oracle.oracle.seen == [12, 13]


def test_chunks_reach_a_tool_whose_calls_are_dear(tmp_path):
    sizes = []

    class Counting:
        def label(self, images: ImageBatch) -> Labels:
            sizes.append(len(images))
            return Labels(images.images.float())

    oracle = CachedOracle(Counting(), tmp_path, chunk=2)
    assert torch.equal(oracle.label(batch(5, 6, 7)).values, batch(5, 6, 7).images.float())
    assert sizes == [2, 1]


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:40],
        lambda content: content + b"\0",
        lambda content: content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
        lambda content: b"x" + content[1:],
        lambda content: encode(KEY, Verdict(torch.zeros(1, 4, 4))),
    ],
    ids=[
        "empty",
        "short by one",
        "header only",
        "too long",
        "flipped bit",
        "other format",
        "another's entry",
    ],
)
def test_a_damaged_entry_is_bought_again_and_replaced(tmp_path, harm):
    images = batch(10)
    CachedOracle(Halving(), tmp_path).label(images)
    [path] = entries(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(harm(whole))
    oracle = CachedOracle(Halving(), tmp_path)
    assert torch.equal(oracle.label(images).values, images.images.float() / 2)
    assert oracle.oracle.seen == [10]
    assert path.read_bytes() == whole


def test_refusals_of_the_moment_are_not_kept(tmp_path):
    class Busy:
        reasons = iter(["time-out", "poison", "no lumen"])

        def label(self, images: ImageBatch) -> Labels:
            return Labels(torch.zeros(1), {0: next(self.reasons)})

    oracle = CachedOracle(Busy(), tmp_path)
    told = [oracle.label(batch(9)).refusals[0] for _ in range(4)]
    assert told == ["time-out", "poison", "no lumen", "no lumen"]


@dataclass(frozen=True)
class Inner:
    order: int = 2


@dataclass(frozen=True)
class Rich:
    version = "1"
    inner: Inner = Inner()
    table: torch.Tensor = field(default_factory=lambda: torch.arange(3))
    sizes: tuple[int, ...] = (1, 2)
    folder: Path = local(default=Path("a"))


def test_the_key_holds_whatever_decides_the_label():
    image = np.zeros((1, 4, 4), np.uint8)
    identities = [
        oracle_identity(oracle)
        for oracle in (
            Rich(),
            Rich(inner=Inner(3)),
            Rich(table=torch.arange(1, 4)),
            Rich(table=torch.arange(3, dtype=torch.int32)),
            Rich(sizes=(2, 1)),
            type("Rich", (Rich,), {"version": "2", "__module__": Rich.__module__})(),
            Halving(),
            Halving(15.0),
        )
    ]
    assert len(set(identities)) == len(identities)
    assert oracle_identity(Rich(folder=Path("b"))) == identities[0]
    assert oracle_identity(Halving(seen=[1])) == oracle_identity(Halving())
    keys = {
        image_key(identities[0], image),
        image_key(identities[1], image),
        image_key(identities[0], image.reshape(1, 2, 8)),
        image_key(identities[0], image.view(np.int8)),
        image_key(identities[0], image + np.uint8(1)),
    }
    assert len(keys) == 5
    assert image_key(identities[0], np.asfortranarray(image)) in keys
    assert all(len(key) == 64 for key in keys)


def test_an_oracle_that_cannot_be_named_is_refused(tmp_path):
    @dataclass(frozen=True)
    class Opaque:
        solver: object = field(default_factory=object)

        def label(self, images: ImageBatch) -> Labels:
            raise NotImplementedError

    with pytest.raises(
        UsageError, match=r"holds a builtins:object, whose content cannot be part of a cache key"
    ):
        CachedOracle(Opaque(), tmp_path)


def test_labels_must_agree_in_shape(tmp_path):
    class Moody:
        def label(self, images: ImageBatch) -> Labels:
            return Labels(torch.zeros(1, int(images.images[0, 0, 0, 0])))

    with pytest.raises(OracleError, match=r"float32 \(3,\), float32 \(4,\)"):
        CachedOracle(Moody(), tmp_path).label(batch(3, 4))


def test_every_image_must_get_an_answer(tmp_path):
    class Lazy:
        def label(self, images: ImageBatch) -> Labels:
            return Labels(torch.zeros(0, 4))

    with pytest.raises(OracleError, match="gave 0 labels for 1 images"):
        CachedOracle(Lazy(), tmp_path).label(batch(3))


def test_a_batch_of_refusals_leaves_the_type_of_others_alone(tmp_path):
    labels = CachedOracle(Halving(), tmp_path).label(batch(1, 2))
    assert dict(labels.refusals) == {0: "too dark", 1: "too dark"}
    nothing = labels.values[torch.zeros(0, dtype=torch.int64)]
    assert torch.cat([nothing, torch.tensor([7, 8])]).dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.bool, torch.bfloat16, torch.uint8])
def test_a_label_comes_back_to_the_last_bit(dtype):
    value = torch.arange(6).reshape(2, 3).to(dtype).T
    verdict = decode(KEY, encode(KEY, Verdict(value)))
    assert verdict is not None
    assert verdict.value is not None
    assert verdict.value.dtype == dtype
    assert torch.equal(verdict.value, value)
    assert decode("f" * 64, encode(KEY, Verdict(value))) is None
    assert decode(KEY, encode(KEY, Verdict(refusal="Wand zu dünn"))) == Verdict(refusal="Wand zu dünn")


def test_concurrent_writers_never_show_half_an_entry(tmp_path):
    store = LabelStore(tmp_path)
    contents = [encode(KEY, Verdict(torch.full((40_000 + k,), k))) for k in range(4)]
    store.write(KEY, contents[0])

    def work(turn: int) -> bool:
        store.write(KEY, contents[turn % 4])
        return store.read(KEY) in contents

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(120)))
    assert entries(tmp_path) == [store.place(KEY).local]


def test_a_failed_write_leaves_the_old_entry_and_no_litter(tmp_path, monkeypatch):
    store = LabelStore(tmp_path)
    old = encode(KEY, Verdict(torch.zeros(2)))
    store.write(KEY, old)

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=rf"label cannot be written in {tmp_path} .*No space left"):
        store.write(KEY, encode(KEY, Verdict(torch.ones(2))))
    assert store.read(KEY) == old
    assert entries(tmp_path) == [store.place(KEY).local]


def test_labels_on_an_object_store_are_bought_once(bucket, object_store):
    images = batch(10, 1, 20)
    first, second = (CachedOracle(Halving(), f"{bucket}/labels") for _ in range(2))
    labels = first.label(images)
    again = pickle.loads(pickle.dumps(second)).label(images)
    assert first.oracle.seen == [10, 1, 20]
    assert second.oracle.seen == []
    assert torch.equal(labels.values, again.values)
    assert labels.refusals == again.refusals == {1: "too dark"}
    keys = [image_key(first.identity, image) for image in images]
    assert object_store.keys(bucket) == sorted(f"labels/{key[:2]}/{key[2:4]}/{key}.label" for key in keys)


def test_of_those_who_ask_at_the_same_moment_one_buys(tmp_path):
    class Slow(Halving):
        def label(self, images):
            time.sleep(0.02)
            return super().label(images)

    images, seen = batch(10, 20, 30, 40), []
    oracles = [CachedOracle(Slow(seen=seen), tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda oracle: oracle.label(images), oracles))
    assert sorted(seen) == [10, 20, 30, 40]
    assert sum(answer.bought for answer in answers) == sum(oracle.tally.bought for oracle in oracles) == 4
    assert all(torch.equal(answer.values, images.images.float() / 2) for answer in answers)


def test_a_label_that_was_paid_for_outlives_a_store_that_goes_away(bucket, object_store, monkeypatch):
    class Unplugging(Halving):
        def label(self, images):
            object_store.stop()
            return super().label(images)

    images = batch(10, 20)
    oracle = CachedOracle(Unplugging(), f"{bucket}/labels")
    monkeypatch.setattr(places, "PAUSES", ())
    with pytest.raises(StoreError, match=r"A label cannot be kept: .*; go on with --resume\."):
        oracle.label(images)
    with pytest.raises(StoreError, match=r"Labels cannot be looked up: .*; go on with --resume\."):
        oracle.label(images)
    object_store.start()
    later = CachedOracle(Halving(), f"{bucket}/labels")
    later.identity = oracle.identity
    assert later.label(images).values[:, 0, 0, 0].tolist() == [5, 10]
    assert later.oracle.seen == [20], "the first image's label was bought before"
    assert len(object_store.keys(bucket)) == 2
    unsent = default_folder().with_name("unsent")
    assert list(unsent.iterdir()) == []


def test_a_uri_that_pyarrow_does_not_know_is_refused():
    with pytest.raises(UsageError, match=r"'gopher://hole' cannot be used"):
        LabelStore("gopher://hole")
