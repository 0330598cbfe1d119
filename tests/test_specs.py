"""Fields fixed and searched by text: what it becomes, and that what means nothing ends in one sentence."""

import pytest
from helpers import tiny

from alss_ray import specs
from alss_ray.config import UsageError
from alss_ray.space import Choice, Float, Int
from alss_ray.strategies import Si

EXPERIMENT = tiny()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("iterations=int(50,400)", Int(50, 400)),
        ("round-size = int( 5 , 80 , log )", Int(5, 80, log=True)),
        ("alpha=float(0.1,3)", Float(0.1, 3.0)),
        ("learning_rate=float(1e-4,1e-2,log)", Float(1e-4, 1e-2, log=True)),
        ("direction=choice(none,'random')", Choice(("none", "random"))),
        ("retrain=choice(true,False)", Choice((True, False))),
        ("round_size=choice(10,20,10)", Choice((10, 20))),
        ("codes=choice(mean,sample)", Choice(("mean", "sample"))),
    ],
)
def test_a_range_is_read(text: str, part: Int | Float | Choice) -> None:
    assert list(specs.searched([text], EXPERIMENT).values()) == [part]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("iteratons=int(1,2)", "did you mean iterations"),
        ("xyz=int(1,2)", "it has alpha, annotators, batch_size"),
        ("alpha=int(1,2)", "alpha takes float(LOW,HIGH)"),
        ("iterations=float(1,2)", "iterations takes int(LOW,HIGH)"),
        ("retrain=int(0,1)", "retrain takes choice(A,B,...)"),
        ("iterations=int(9,3)", "it needs LOW < HIGH"),
        ("alpha=float(0,1,log)", "it needs 0 < LOW < HIGH"),
        ("alpha=float(1)", "is none of int(LOW,HIGH)"),
        ("alpha=float(1,inf)", "alpha cannot be 'inf'; give a finite number"),
        ("alpha=__import__('os').getcwd()", "is none of int(LOW,HIGH)"),
        ("direction=choice(up,none)", "direction cannot be 'up'; it can be gradient, random, none"),
        ("direction=choice(none,none)", "leaves no choice"),
        ("alpha", "is not of the form NAME=..."),
        ("seed=int(1,3)", "give --seed and --replicates"),
        ("label_budget=int(10,30)", "results are compared at one budget"),
        ("strategy=choice(snn,si)", "give --strategy"),
    ],
)
def test_a_range_that_means_nothing_is_told(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as told:
        specs.searched([text], EXPERIMENT)
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)


def test_fields_of_the_task_are_fixed_not_searched() -> None:
    from alss_ray.tasks import Ivus

    ivus = tiny(Ivus(), Si())
    assert specs.fixed(["pressure=12"], ivus) == {"pressure": 12.0}
    with pytest.raises(UsageError, match="all trials of a sweep share one task"):
        specs.searched(["pressure=float(10,20)"], ivus)


@pytest.mark.parametrize(
    ("text", "value"),
    [("alpha=3", 3.0), ("iterations=7", 7), ("normalise=false", False), ("codes=sample", "sample")],
)
def test_a_value_has_its_fields_type(text: str, value: object) -> None:
    (found,) = specs.fixed([text], EXPERIMENT).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["iterations=1.5"], "give a whole number"),
        (["alpha=nan"], "give a finite number"),
        (["retrain=perhaps"], "it can be true, false"),
        (["alpha=1", "alpha=2"], "names alpha twice"),
    ],
)
def test_a_value_that_means_nothing_is_told(texts: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        specs.fixed(texts, EXPERIMENT)


def test_a_first_point_lies_in_the_space() -> None:
    space = {"alpha": Float(0.1, 2.0), "round_size": Choice((5, 10))}
    assert specs.point("alpha=0.5,round_size=10", space, EXPERIMENT) == {"alpha": 0.5, "round_size": 10}
    for text, sentence in [("alpha=3", "lies outside"), ("iterations=3", "which is not searched")]:
        with pytest.raises(UsageError, match=sentence):
            specs.point(text, space, EXPERIMENT)
