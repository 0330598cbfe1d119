"""An experiment's state on disk: safetensors with JSON beside the tensors, atomic, no pickle.

Two files: `state.safetensors` is small and saved after every phase; it names the `network-*.safetensors` that
belongs to it, written only when the weights have changed. The rename of the state is the moment at which a
phase is done; whatever the state does not name is removed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from alss_ray.config import UsageError
from alss_ray.files import replacing, told

VERSION = 1
STATE = "state.safetensors"

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """The folder of one experiment's state."""

    folder: Path

    def save_network(self, name: str, network: nn.Module, optimiser: torch.optim.Optimizer) -> str:
        """Write weights and optimiser state; returns the file's name, for the next `save`."""
        tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
        for number, slots in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{key}": value for key, value in slots.items()}
        file = f"network-{name}.safetensors"
        self._write(self.folder / file, tensors, {})
        return file

    def load_network(self, file: str, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Put the saved weights and optimiser state in place."""
        tensors, _ = self._read(self.folder / file)
        slots: dict[int, Tensors] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, number, name = key.split(".", 2)
                slots.setdefault(int(number), {})[name] = value
        network.load_state_dict(
            {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        )
        state = optimiser.state_dict()
        optimiser.load_state_dict({"state": slots, "param_groups": state["param_groups"]})

    def save(self, tensors: Tensors, about: dict[str, Any]) -> None:
        """Commit a phase. `about["network"]` names the network file that stays; older ones are removed."""
        self._write(self.folder / STATE, tensors, {**about, "version": VERSION})
        for old in (*self.folder.glob("network-*.safetensors"), *self.folder.glob(".*.part")):
            if old.name != about["network"]:
                old.unlink(missing_ok=True)

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
    def _write(path: Path, tensors: Tensors, about: dict[str, Any]) -> None:
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with told("The state", path.parent), replacing(path) as part:
            save_file(plain, part, {"about": json.dumps(about)})

    @staticmethod
    def _read(path: Path) -> tuple[Tensors, dict[str, Any]]:
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return tensors, dict(json.loads(file.metadata()["about"]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"The checkpoint {path} is damaged ({error}); remove its folder to run this experiment again."
            ) from error
