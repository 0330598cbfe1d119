"""State on disk: equal to the last bit, committed by one rename, small, and damage told in one sentence."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from alss_ray.checkpoint import STATE, Checkpoint
from alss_ray.config import UsageError

Pair = tuple[nn.Module, torch.optim.Optimizer]


def fresh(seed: int = 0) -> Pair:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
        )
    # As in training: the memory format of weights is not that of files, and fused Adam minds it.
    network.to(memory_format=torch.channels_last)
    return network, torch.optim.Adam(network.parameters(), 1e-2, fused=True)


def train(pair: Pair, steps: int) -> None:
    network, optimiser = pair
    draws = torch.Generator().manual_seed(1)
    for _ in range(steps):
        loss = network(torch.randn(8, 3, 3, 3, generator=draws)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def all_tensors(pair: Pair) -> dict[str, Tensor]:
    network, optimiser = pair
    slots = optimiser.state_dict()["state"]
    return {
        **network.state_dict(),
        **{f"{k}.{name}": v for k, slot in slots.items() for name, v in slot.items()},
    }


def assert_equal(one: Pair, other: Pair) -> None:
    left, right = all_tensors(one), all_tensors(other)
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype
        assert torch.equal(value, right[name]), name


@pytest.mark.parametrize("before", [0, 1, 7])
def test_training_goes_on_to_the_last_bit(tmp_path: Path, before: int) -> None:
    checkpoint, uninterrupted = Checkpoint(tmp_path), fresh()
    train(uninterrupted, before)
    file = checkpoint.save_networks("001", [uninterrupted])
    resumed = fresh(seed=9)
    checkpoint.load_networks(file, [resumed])
    assert_equal(resumed, uninterrupted)
    for pair in (resumed, uninterrupted):
        train(pair, 5)
    assert_equal(resumed, uninterrupted)


def test_state_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state" / "abc")
    assert checkpoint.load() is None
    tensors = {
        "taken": torch.tensor([0, 1, 3], dtype=torch.int8),
        "none": torch.empty(0, 3, dtype=torch.int64),
        "strided": torch.arange(6).view(2, 3).T,
        "flag": torch.tensor([True]),
    }
    about = {
        "t": 3,
        "row": {"val_loss": 0.1 + 0.2, "none": None, "text": "α"},
        "history": [[20, 0.5, 1e-300]],
    }
    checkpoint.save(tensors, {**about, "network": "network-000.safetensors"})
    loaded = checkpoint.load()
    assert loaded is not None
    for name, value in tensors.items():
        assert loaded[0][name].dtype == value.dtype
        assert torch.equal(loaded[0][name], value)
    assert about.items() <= loaded[1].items()


def test_a_committed_state_keeps_the_network_it_names_and_no_other(tmp_path: Path) -> None:
    checkpoint, pair = Checkpoint(tmp_path), fresh()
    first = checkpoint.save_networks("000", [pair])
    checkpoint.save({}, {"network": first})
    train(pair, 1)
    second = checkpoint.save_networks("001", [pair])
    # Not committed yet: a crash here still has the old state with the old network.
    assert {path.name for path in tmp_path.iterdir()} == {STATE, first, second}
    kept = fresh(seed=9)
    checkpoint.load_networks(checkpoint.load()[1]["network"], [kept])
    assert_equal(kept, fresh())
    checkpoint.save({}, {"network": second})
    assert {path.name for path in tmp_path.iterdir()} == {STATE, second}


def test_what_a_killed_writer_left_half_done_is_removed(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    file = checkpoint.save_networks("000", [fresh()])
    for left in (f".{STATE}.999999.part", ".network-001.safetensors.999999.part"):
        (tmp_path / left).write_bytes(b"half")
    checkpoint.save({}, {"network": file})
    assert {path.name for path in tmp_path.iterdir()} == {STATE, file}


def test_a_checkpoint_is_a_few_times_the_network(tmp_path: Path) -> None:
    pair = fresh()
    train(pair, 1)
    file = Checkpoint(tmp_path).save_networks("000", [pair])
    weights = sum(4 * p.numel() for p in pair[0].parameters())
    assert weights < (tmp_path / file).stat().st_size < 4 * weights + 4096


def test_files_are_safetensors_without_pickle(tmp_path: Path) -> None:
    pair = fresh()
    train(pair, 1)
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save({"taken": torch.zeros(3)}, {"network": checkpoint.save_networks("000", [pair])})
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert content[8:9] == b"{"  # eight bytes of length, then JSON
        assert path.suffix == ".safetensors"


DAMAGE = {
    "empty": lambda whole: b"",
    "one byte": lambda whole: whole[:1],
    "header": lambda whole: whole[:40],
    "cut off": lambda whole: whole[:-1],
    "longer": lambda whole: whole + b"\0",
    "garbage": lambda whole: b"\xff" * len(whole),
    "text": lambda whole: b"not a checkpoint\n",
}


@pytest.mark.parametrize("which", ["state", "network"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told_with_the_file_and_the_remedy(tmp_path: Path, which: str, damage: str) -> None:
    checkpoint = Checkpoint(tmp_path)
    file = checkpoint.save_networks("000", [fresh()])
    checkpoint.save({"taken": torch.zeros(3)}, {"network": file})
    path = tmp_path / (STATE if which == "state" else file)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(UsageError) as caught:
        checkpoint.load() if which == "state" else checkpoint.load_networks(file, [fresh()])
    assert str(path) in str(caught.value)
    assert "damaged" in str(caught.value)
    assert "remove" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_network_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"network-007\.safetensors is damaged"):
        Checkpoint(tmp_path).load_networks("network-007.safetensors", [fresh()])


@pytest.mark.parametrize("about", [{}, {"about": "{"}, {"about": "[]"}])
def test_a_foreign_file_is_no_checkpoint(tmp_path: Path, about: dict[str, str]) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / STATE, about)
    with pytest.raises(UsageError, match=r"state\.safetensors"):
        Checkpoint(tmp_path).load()


def test_another_version_is_told(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / STATE, {"about": '{"version": 99}'})
    with pytest.raises(UsageError, match=r"has version 99, this program reads \d+; start in a new folder"):
        Checkpoint(tmp_path).load()
