"""What a trial takes of a cluster: how many fit, and that what never fits is refused with what is missing."""

import pytest

from alss_ray.config import UsageError
from alss_ray.sweep import SweepOptions
from alss_ray.tune.cluster import divided, worker_kinds

SMALL, GPU = {"CPU": 2.0, "memory": 1e9}, {"CPU": 8.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("options", "machines", "expected"),  # CPUs, GPUs, trials at once, those that have cores of their own
    [
        ({}, [SMALL], (1, 0, 2, 2)),
        ({}, [SMALL, GPU], (1, 1, 2, 10)),  # a GPU each, where there is one
        ({"gpus_per_trial": 0.25}, [GPU], (1, 0.25, 8, 8)),
        ({"gpus_per_trial": 0.25, "cpus_per_trial": 0.5}, [GPU], (0.5, 0.25, 8, 8)),
        ({"gpus_per_trial": 0}, [SMALL, GPU], (1, 0, 10, 10)),
        ({"cpus_per_trial": 0.1}, [{"CPU": 1.0}], (0.1, 0, 10, 1)),
        ({"cpus_per_trial": 4, "gpus_per_trial": 0}, [SMALL, GPU], (4, 0, 2, 2)),
        ({"concurrency": 3}, [GPU], (1, 1, 2, 8)),
        ({"concurrency": 3, "gpus_per_trial": 0.1}, [GPU], (1, 0.1, 3, 8)),
    ],
)
def test_how_many_trials_fit(options: dict, machines: list, expected: tuple) -> None:
    part = divided(SweepOptions(**options), machines, [])
    assert (part.cpus, part.gpus, part.slots, part.cores) == expected


@pytest.mark.parametrize(
    ("options", "machines", "missing"),
    [
        ({"cpus_per_trial": 3}, [SMALL, SMALL], "3 CPUs, where the largest has 2"),  # not 4 in all
        ({"gpus_per_trial": 1}, [SMALL], "1 GPUs, where the largest has 0"),
        (
            {"cpus_per_trial": 16, "gpus_per_trial": 4},
            [GPU],
            "16 CPUs, where the largest has 8 and 4 GPUs, where the largest has 2",
        ),
        (
            {"cpus_per_trial": 16, "gpus_per_trial": 1},
            [{"CPU": 32.0}, GPU],
            "16 CPUs and 1 GPUs together, which none of them has",
        ),
    ],
)
def test_what_never_fits_is_refused_with_what_is_missing(options: dict, machines: list, missing: str) -> None:
    with pytest.raises(UsageError) as told:
        divided(SweepOptions(**options), machines, [])
    assert missing in str(told.value)


def test_an_autoscaling_cluster_counts_with_what_it_may_add() -> None:
    head = {"CPU": 0.0}
    part = divided(SweepOptions(), [head], [(GPU, 3), (SMALL, 0)])
    assert (part.cpus, part.gpus, part.slots) == (1, 1, 6)
    with pytest.raises(UsageError, match="3 GPUs, where the largest has 2"):
        divided(SweepOptions(gpus_per_trial=3), [head], [(GPU, 3)])


def test_what_ray_up_was_told_of_workers_counts() -> None:
    about = {
        "max_workers": 4,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 64}, "max_workers": 0},
            "gpu": {"resources": GPU, "min_workers": 0, "max_workers": 10},
            "cpu": {"resources": SMALL, "max_workers": 2},
        },
    }
    assert worker_kinds(about) == [(GPU, 4), (SMALL, 2)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cpus_per_trial": 0}, "--cpus-per-trial is 0; give a number above 0."),
        ({"gpus_per_trial": -1}, "--gpus-per-trial is -1; give a number of 0 or more."),
        ({"gpus_per_trial": 1.5}, "give a share of one, or a whole number above 1"),
        ({"concurrency": 0}, "--concurrency is 0"),
    ],
)
def test_amounts_that_make_no_sense_are_told(options: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        SweepOptions(**options)
