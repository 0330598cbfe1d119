"""The analysis scripts import one another by name, as they do when they are run; so do their tests."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[2] / "analysis"), str(Path(__file__).parent)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Three seeds of random and of snn, four rounds of 10 labels; the last snn has only three."""
    from synthetic import metric, random, snn, write

    folder = tmp_path_factory.mktemp("sweep")
    for seed in range(3):
        write(folder, random(seed), range(1, 5))
        write(folder, snn(seed), range(1, 5 if seed < 2 else 4), lambda t, s=seed: metric(s, t) ** 2)
    return folder


@pytest.fixture
def database(results):
    """Those results, open for questions."""
    from _views import open_views

    return open_views([results])
