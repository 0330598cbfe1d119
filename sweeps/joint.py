"""Search the step size α, the latent dimension n, the round size J and the training iterations of a round together.

`--objectives aulc,oracle_seconds` looks for a Pareto front: label efficiency against the oracle's time.
"""

import sys

from alss_ray.config import Experiment
from alss_ray.search import search
from alss_ray.space import Float, Int, Space


def space(base: Experiment) -> Space:
    """All four around an experiment; J and the iterations from half to twice the task's own."""
    return {
        "alpha": Float(0.1, 5.0, log=True),
        "latent_dim": Int(2, 8, log=True),
        "round_size": Int(max(1, base.round_size // 2), 2 * base.round_size, log=True),
        "iterations": Int(max(1, base.iterations // 2), 2 * base.iterations, log=True),
    }


if __name__ == "__main__":
    sys.exit(search(__doc__ or "", space))
