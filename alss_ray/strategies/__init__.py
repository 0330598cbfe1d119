"""The strategies that are shipped, by name."""

from alss_ray.strategies.base import Query, Strategy, View
from alss_ray.strategies.random import Random
from alss_ray.strategies.si import Si
from alss_ray.strategies.snn import Snn

STRATEGIES: dict[str, type] = {strategy.name: strategy for strategy in (Random, Snn, Si)}

__all__ = ["STRATEGIES", "Query", "Random", "Si", "Snn", "Strategy", "View"]
