"""What an experiment carries from phase to phase, and its form on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from alss_ray.checkpoint import Checkpoint
from alss_ray.labelled import LabelledSet
from alss_ray.strategies.base import Query

Row = dict[str, Any]


@dataclass
class State:
    """Everything that a phase leaves for the next one beside the network's weights.

    Random streams are not in it: they are functions of the seed, their name and the round.
    """

    t: int
    """The round at work, from 1."""
    phase: int
    """Number of the phase that comes next in it."""
    taken: Tensor
    """int8 `N`: FREE, LABELLED, VALIDATION or REFUSED (alss_ray.labelling), for each sample of D."""
    validation: LabelledSet
    labelled: LabelledSet
    network_file: str
    """The file that holds the network's weights and its optimiser's state."""
    row: Row = field(default_factory=dict)
    """Columns of this round's record so far."""
    history: list[tuple[int, float, float]] = field(default_factory=list)
    """(labels, validation metric, test metric) of the rounds that were evaluated."""
    query: Query | None = None
    """What `propose` asked for, until `append` has taken it in."""
    targets: Tensor | None = None
    """Its labels."""

    def save(self, checkpoint: Checkpoint, **about: str) -> None:
        """Commit this state, with a few words about what it belongs to."""
        tensors = {"taken": self.taken}
        for name in ("validation", "labelled"):
            tensors |= {f"{name}.{key}": value for key, value in getattr(self, name).pack().items()}
        if self.query is not None:
            tensors |= {f"query.{name}": part for name, part in self.query.parts().items()}
        if self.targets is not None:
            tensors["targets"] = self.targets
        plain = {"t": self.t, "phase": self.phase, "row": self.row, "history": self.history}
        checkpoint.save(tensors, {**plain, **about, "network": self.network_file})

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], about: dict[str, Any], pool: Tensor) -> State:
        """The state that `save` wrote; `pool` is D's images on the device of the experiment."""

        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)}

        return cls(
            t=about["t"],
            phase=about["phase"],
            taken=tensors["taken"],
            validation=LabelledSet.unpack(part("validation."), pool),
            labelled=LabelledSet.unpack(part("labelled."), pool),
            network_file=about["network"],
            row=about["row"],
            history=[tuple(point) for point in about["history"]],
            query=Query.of(query) if (query := part("query.")) else None,
            targets=tensors.get("targets"),
        )
