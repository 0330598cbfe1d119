"""Stage 1 is trained once: shown with processes that ask at once and trainers killed at their work."""

import dataclasses
import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from alss_ray.config import UsageError
from alss_ray.generators import Embedding, Vae
from alss_ray.generators.store import GeneratorStore, Request, default_folder
from alss_ray.tasks import Digits, TaskData

CPU = torch.device("cpu")
VAE = Vae(generator_hidden=16, generator_iterations=200, generator_batch_size=16)
WAIT = 60.0  # seconds, far more than anything here takes

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["alss_ray.generators.store", "alss_ray.tasks", "sklearn.datasets", "pytest"]
)


def silent(done: int, total: int) -> None:
    pass


def request(generator: Vae = VAE, progress: Callable[[int, int], None] = silent) -> Request:
    data = Digits().load()
    return Request(generator, data, data.fingerprint(), CPU, progress)


def content(embedding: Embedding) -> str:
    """Hash of all that an embedding holds."""
    parts = [
        *embedding.encoder.state_dict().values(),
        *embedding.decoder.state_dict().values(),
        embedding.codes,
    ]
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


def path_of(store: GeneratorStore) -> Path:
    path = store.path(request().key).local
    assert path is not None
    return path


def ask(folder: Path, out: Path, stuck: bool) -> None:
    """A process that wants the generator; a stuck one never gets past the middle of its training."""
    torch.set_num_threads(1)

    def progress(done: int, total: int) -> None:
        out.with_suffix(".training").touch()
        while stuck:
            time.sleep(60)

    got = GeneratorStore(folder).obtain(request(progress=progress))
    out.write_text(
        json.dumps({"trained": got.trained, "content": content(got.embedding), "seconds": got.seconds})
    )


def asker(folder: Path, out: Path, stuck: bool = False) -> BaseProcess:
    process = processes.Process(target=ask, args=(folder, out, stuck), daemon=True)
    process.start()
    return process


def answers(*outs: Path) -> list[dict[str, object]]:
    return [json.loads(out.read_text()) for out in outs]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def reference() -> str:
    """What training without any store gives."""
    data = Digits().load()
    return content(Embedding.of(*VAE.train(data.images, CPU, silent), data.images, CPU))


def test_the_second_to_ask_is_given_what_the_first_trained(tmp_path: Path, reference: str) -> None:
    store = GeneratorStore(tmp_path / "new" / "folder")
    assert store.content(request().key) is None
    heard = []
    first, second = (store.obtain(request(progress=lambda *k: heard.append(k))) for _ in range(2))
    assert (first.trained, second.trained) == (True, False)
    assert heard == [(100, 200), (200, 200)]
    assert first.key == second.key == request().key
    assert content(first.embedding) == content(second.embedding) == reference
    assert store.content(request().key) is not None
    assert not any(p.requires_grad for p in second.embedding.decoder.parameters())
    assert not second.embedding.decoder.training


def test_of_many_that_ask_at_once_one_trains(tmp_path: Path, reference: str) -> None:
    outs = [tmp_path / f"{k}.json" for k in range(4)]
    running = [asker(tmp_path / "store", out) for out in outs]
    for process in running:
        process.join(WAIT)
    told = answers(*outs)
    assert sum(bool(one["trained"]) for one in told) == 1
    assert {one["content"] for one in told} == {reference}
    assert len([*tmp_path.glob("*.training")]) == 1


def test_a_killed_trainer_hands_the_job_to_the_next(tmp_path: Path, reference: str) -> None:
    store, outs = tmp_path / "store", [tmp_path / f"{k}.json" for k in range(3)]
    first = asker(store, outs[0], stuck=True)
    until(outs[0].with_suffix(".training").exists)
    others = [asker(store, out) for out in outs[1:]]
    time.sleep(1.0)
    assert not any(out.exists() or out.with_suffix(".training").exists() for out in outs[1:])
    first.kill()
    for process in (first, *others):
        process.join(WAIT)
    assert not outs[0].exists()
    told = answers(*outs[1:])
    assert sorted(bool(one["trained"]) for one in told) == [False, True]
    assert {one["content"] for one in told} == {reference}
    assert all(float(str(one["seconds"])) > 0.2 for one in told)
    assert [path.name for path in store.glob("*.safetensors")] == [f"{request().key}.safetensors"]


def write_half(folder: Path, ready: Path) -> None:
    """A process that is caught in the middle of writing its artifact."""
    whole = (folder / "whole").read_bytes()
    from alss_ray.files import locked, replacing

    key = request().key
    with locked(folder / f"{key}.lock"), replacing(folder / f"{key}.safetensors") as part:
        part.write_bytes(whole[: len(whole) // 2])
        ready.touch()
        time.sleep(600)


def test_a_half_written_file_is_never_read(tmp_path: Path, reference: str) -> None:
    store, ready = GeneratorStore(tmp_path), tmp_path / "ready"
    store.obtain(request())
    path_of(store).rename(tmp_path / "whole")
    writer = processes.Process(target=write_half, args=(tmp_path, ready), daemon=True)
    writer.start()
    until(ready.exists)
    assert store.content(request().key) is None
    writer.kill()
    writer.join(WAIT)
    got = store.obtain(request())
    assert got.trained
    assert content(got.embedding) == reference


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:100],
        lambda whole: whole[:-1],
        lambda whole: whole + b"more",
        lambda whole: b"\xff" * len(whole),
    ],
    ids=["empty", "header", "cut off", "longer", "garbage"],
)
def test_a_damaged_file_is_trained_anew(
    tmp_path: Path, damage: Callable[[bytes], bytes], reference: str
) -> None:
    store = GeneratorStore(tmp_path)
    path = path_of(store)
    store.obtain(request())
    path.write_bytes(damage(path.read_bytes()))
    assert store.content(request().key) is None
    got = store.obtain(request())
    assert got.trained
    assert content(got.embedding) == reference
    assert not store.obtain(request()).trained


@pytest.mark.parametrize("kept", [["codes"], ["encoder.mean.bias"]])
def test_a_file_with_parts_missing_is_trained_anew(tmp_path: Path, kept: list[str], reference: str) -> None:
    store = GeneratorStore(tmp_path)
    store.obtain(request())
    path = path_of(store)
    tensors = load_file(path)
    save_file({name: tensors[name].clone() for name in kept}, path)
    got = store.obtain(request())
    assert got.trained
    assert content(got.embedding) == reference


def test_a_generator_that_diverged_is_told_and_not_kept(tmp_path: Path) -> None:
    store = GeneratorStore(tmp_path)
    wild = request(dataclasses.replace(VAE, generator_learning_rate=1e30))
    for _ in range(2):
        with pytest.raises(UsageError, match=r"vae generator diverged.*lower --generator-learning-rate"):
            store.obtain(wild)
    assert [*tmp_path.glob("*.safetensors")] == []
    assert store.obtain(request()).trained


OTHER = {
    "latent_dim": 4,
    "generator_hidden": 17,
    "generator_iterations": 201,
    "generator_batch_size": 17,
    "generator_learning_rate": 2e-3,
    "generator_seed": 1,
    "codes": "sample",
}


def test_the_key_names_all_that_training_depends_on_and_nothing_else() -> None:
    assert {field.name for field in dataclasses.fields(Vae)} == set(OTHER)
    base = request()
    keys = {request(dataclasses.replace(VAE, **{name: value})).key for name, value in OTHER.items()}
    data: TaskData = dataclasses.replace(base.data, images=base.data.images.flip(0))
    keys.add(dataclasses.replace(base, data=data, fingerprint=data.fingerprint()).key)
    assert len(keys | {base.key}) == len(OTHER) + 2
    assert dataclasses.replace(base, device=torch.device("meta"), progress=lambda *k: None).key == base.key


def test_the_default_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "alss_ray" / "generators"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder() == tmp_path / "home" / ".cache" / "alss_ray" / "generators"
