"""Search the latent dimension n, with the step size α and the round size J along with it.

The question of the paper's discussion: a larger n makes samples plausible and diverse, but sparse.
"""

import sys

from alss_ray.config import Experiment
from alss_ray.search import search
from alss_ray.space import Choice, Float, Int, Space


def space(base: Experiment) -> Space:
    """n, α and J around an experiment; J from half to twice the task's own."""
    sizes = (max(1, base.round_size // 2), base.round_size, 2 * base.round_size)
    return {
        "latent_dim": Int(2, 8, log=True),
        "alpha": Float(0.1, 5.0, log=True),
        "round_size": Choice(sizes),
    }


if __name__ == "__main__":
    sys.exit(search(__doc__ or "", space, task="ivus"))
