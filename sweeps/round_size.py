"""Search the round size J at a fixed label budget: few large rounds or many small ones.

Small rounds look at the network more often, and train it more often, too: `iterations` are those of a round.
`--search 'iterations=int(25,400,log)'` lets the search weigh the two against each other.
"""

import sys

from alss_ray.config import Experiment
from alss_ray.search import search
from alss_ray.space import Int, Space


def space(base: Experiment) -> Space:
    """J from a quarter to four times the task's own, at most half the budget."""
    low = max(1, base.round_size // 4)
    return {"round_size": Int(low, max(low + 1, min(4 * base.round_size, base.label_budget // 2)), log=True)}


if __name__ == "__main__":
    sys.exit(search(__doc__ or "", space))
