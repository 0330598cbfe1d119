"""A process that stays until people have labelled, for those who ask for one; else waiting needs none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console

from alss_ray.config import UsageError, Waiting

POLL = 5.0  # seconds between two looks
Done = TypeVar("Done")


def patiently(work: Callable[[], Done], wait: bool, console: Console) -> Done:
    """Do some work; where labels are missing and waiting is wanted, do the rest of it when they are there.

    Raises:
        Waiting: labels are missing and waiting is not wanted.
    """
    while True:
        try:
            return work()
        except Waiting as waiting:
            if not wait:
                raise
            wait_for(waiting, console)


def wait_for(waiting: Waiting, console: Console) -> None:
    """Stay until the labels are there. What is missing stands on the terminal, or is told when it changes.

    So does what keeps from looking: a server that is started anew in the night does not end the waiting.
    """
    left: Waiting | None = waiting
    said, told = str(waiting), ""
    with console.status("") as status:
        while left is not None:
            if said != told:
                told = said
                status.update(told) if console.is_terminal else console.print(
                    told, highlight=False, soft_wrap=True
                )
            time.sleep(POLL)
            try:
                left = left.look()
                said = str(left)
            except UsageError as error:
                said = f"{error} Looking again."
