"""Structural stress of a vessel wall from its mask: the labelling tool of the paper's IVUS task, in numpy and scipy."""

from .settings import REASONS, Beat, Refused, Settings
from .solver import Solution, solve

__all__ = ["REASONS", "Beat", "Refused", "Settings", "Solution", "solve"]
