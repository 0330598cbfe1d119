"""Search the step size α on a logarithmic scale, for each latent dimension n.

A step of one length is a longer way in a latent space of more dimensions, so every n gets as many trials as the
others and a best α of its own.
"""

import sys

from alss_ray.config import Experiment
from alss_ray.search import search
from alss_ray.space import Choice, Float, Space


def space(base: Experiment) -> Space:
    """α over two and a half decades, at each of a few n."""
    return {"latent_dim": Choice((2, 3, 5, 8)), "alpha": Float(0.03, 10.0, log=True)}


if __name__ == "__main__":
    sys.exit(search(__doc__ or "", space, each="latent_dim"))
