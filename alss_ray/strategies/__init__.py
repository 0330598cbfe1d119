"""The strategies that are shipped, by name."""

from alss_ray.strategies.badge import Badge
from alss_ray.strategies.bald import Bald
from alss_ray.strategies.base import Query, Strategy, View
from alss_ray.strategies.cluster_margin import ClusterMargin
from alss_ray.strategies.committee import Committee
from alss_ray.strategies.core_set import CoreSet
from alss_ray.strategies.entropy import Entropy
from alss_ray.strategies.gradient_length import GradientLength
from alss_ray.strategies.latent_core_set import LatentCoreSet
from alss_ray.strategies.latent_margin import LatentMargin
from alss_ray.strategies.lcmd import Lcmd
from alss_ray.strategies.least_confidence import LeastConfidence
from alss_ray.strategies.margin import Margin
from alss_ray.strategies.random import Random
from alss_ray.strategies.si import Si
from alss_ray.strategies.si_committee import SiCommittee
from alss_ray.strategies.si_core_set import SiCoreSet
from alss_ray.strategies.snn import Snn
from alss_ray.strategies.typiclust import TypiClust

STRATEGIES: dict[str, type] = {
    strategy.name: strategy
    for strategy in (
        Random,
        # of the paper
        Snn,
        Si,
        # among real samples, for classes
        LeastConfidence,
        Margin,
        Entropy,
        Bald,
        Badge,
        ClusterMargin,
        LatentMargin,
        # among real samples, for anything
        CoreSet,
        LatentCoreSet,
        TypiClust,
        # among real samples, for maps
        Committee,
        GradientLength,
        Lcmd,
        # synthesised images
        SiCoreSet,
        SiCommittee,
    )
}

__all__ = ["STRATEGIES", "Query", "Random", "Si", "Snn", "Strategy", "View"]
