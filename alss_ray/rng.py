"""One seed, many independent random streams, each asked for by name.

A stream depends on nothing but the seed and its names, never on what was drawn before. So the arms of a
comparison share every stream that has the same names (paired runs), and a resumed run needs no saved state:
it asks for the stream of its round again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream `names` of `seed`, by SHA-256. Torch's CPU generator uses its lower half."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A fresh CPU generator for the stream `names` of `seed`."""
    return torch.Generator().manual_seed(stream_seed(seed, *names))


@contextlib.contextmanager
def scope(seed: int, *names: str | int) -> Iterator[None]:
    """Run a block (initialisation, dropout) on torch's global generators seeded from a stream, then restore them."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, *names))
        yield
