"""An experiment's state, kept here or on an object store: safetensors with JSON beside the tensors, atomic, no pickle.

Two files: `state.safetensors` is small and saved after every phase; it names the `network-*.safetensors` that
belongs to it, written only when the weights have changed, and before the state. The rename of the state (or its
put) is the moment at which a phase is done; whatever the state does not name is removed after that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from alss_ray.config import UsageError
from alss_ray.files import StoreError, told
from alss_ray.places import Place

VERSION = 2
STATE = "state.safetensors"

Tensors = dict[str, Tensor]
Learner = tuple[nn.Module, torch.optim.Optimizer]
"""A network and what trains it."""


def packed(learners: Sequence[Learner]) -> Tensors:
    """Weights and optimiser states of all learners."""
    tensors: Tensors = {}
    for k, (network, optimiser) in enumerate(learners):
        tensors |= {f"{k}.network.{key}": value for key, value in network.state_dict().items()}
        for number, slots in optimiser.state_dict()["state"].items():
            tensors |= {f"{k}.optimiser.{number}.{key}": value for key, value in slots.items()}
    return tensors


def unpack(tensors: Tensors, learners: Sequence[Learner]) -> None:
    """Put what was packed in place; other tensors are passed over."""
    for k, (network, optimiser) in enumerate(learners):
        weights, slots = f"{k}.network.", f"{k}.optimiser."
        network.load_state_dict(
            {key.removeprefix(weights): v for key, v in tensors.items() if key.startswith(weights)}
        )
        saved: dict[int, Tensors] = {}
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        for key, value in tensors.items():
            if key.startswith(slots):
                number, name = key.removeprefix(slots).split(".", 1)
                saved.setdefault(int(number), {})[name] = _laid_out_like(parameters[int(number)], value)
        state = optimiser.state_dict()
        optimiser.load_state_dict({"state": saved, "param_groups": state["param_groups"]})


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A slot of the optimiser in the memory format of its parameter.

    Files are contiguous. Fused Adam walks through memory, and would pair weights and moments of different formats
    wrongly.
    """
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def plain(tensors: Tensors) -> Tensors:
    """The tensors as safetensors takes them: on the CPU, each contiguous."""
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


class Checkpoint:
    """The folder of one experiment's state."""

    def __init__(self, folder: Path | Place) -> None:
        self.folder = Place(folder)
        self._network: str | None = None  # the one that is there alone

    def save_networks(self, name: str, learners: Sequence[Learner]) -> str:
        """Write weights and optimiser states; returns the file's name, for the next `save`."""
        file = f"network-{name}.safetensors"
        self._write(self.folder / file, packed(learners), {})
        return file

    def load_networks(self, file: str, learners: Sequence[Learner]) -> None:
        """Put the saved weights and optimiser states in place."""
        tensors, _ = self._read(self.folder / file)
        unpack(tensors, learners)

    def save(self, tensors: Tensors, about: dict[str, Any]) -> None:
        """Commit a phase. `about["network"]` names the network file that stays; older ones are removed."""
        self._write(self.folder / STATE, tensors, {**about, "version": VERSION})
        if about["network"] != self._network:
            for old in (*self.folder.list("network-*.safetensors"), *self.folder.list(".*.part")):
                if old.name != about["network"]:
                    old.delete()
            self._network = about["network"]

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """The last committed phase; None before the first.

        Raises:
            UsageError: the file is damaged or of another version.
        """
        path = self.folder / STATE
        if not path.exists():
            return None
        tensors, about = self._read(path)
        if about.get("version") != VERSION:
            raise UsageError(
                f"{path} has version {about.get('version')}, this program reads {VERSION}; start in a new folder."
            )
        return tensors, about

    @staticmethod
    def _write(place: Place, tensors: Tensors, about: dict[str, Any]) -> None:
        with told("The state", place.parent):
            place.write(save(plain(tensors), {"about": json.dumps(about)}))

    @staticmethod
    def _read(place: Place) -> tuple[Tensors, dict[str, Any]]:
        try:
            content = place.read()
            tensors = load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            return tensors, dict(json.loads(header["__metadata__"]["about"]))
        except StoreError:
            raise
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"The checkpoint {place} is damaged ({error}); remove its folder to run this experiment again."
            ) from error
