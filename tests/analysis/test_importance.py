"""analysis/importance.py on studies whose truth is known; the study itself stays as it is."""

import hashlib
import json

import _importance
import importance
import numpy as np
import optuna
import pytest
from _importance import assess, read_trials, surface
from _shared import guarded
from matplotlib import pyplot as plt
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import OptunaError
from optuna.trial import TrialState
from synthetic import script

from alss_ray.config import UsageError
from alss_ray.places import Place

SPACE = {
    "alpha": FloatDistribution(0.1, 10.0, log=True),
    "latent_dim": IntDistribution(2, 8, log=True),
    "round_size": CategoricalDistribution((10, 20, 40)),
}


def study(folder, objective, count=60, direction="maximize", name="joint", seed=0):
    """A random search of a known function in folder/study.db."""
    folder.mkdir(exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
    directions = [direction] if isinstance(direction, str) else direction
    made = optuna.create_study(study_name=name, storage=storage, directions=directions)
    draw = np.random.default_rng(seed)
    trials = []
    for _ in range(count):
        params = {
            "alpha": float(10 ** draw.uniform(-1, 1)),
            "latent_dim": int(draw.integers(2, 9)),
            "round_size": (10, 20, 40)[draw.integers(3)],
        }
        found = objective(draw=draw, **params)
        values = [found] if np.isscalar(found) else list(found)
        trials.append(optuna.create_trial(params=params, distributions=SPACE, values=values))
    made.add_trials(trials)
    storage.engine.dispose()
    return made


def of_alpha(alpha, draw, **_):
    """Best at α = 1, with a little noise; nothing else matters."""
    return 0.9 - 0.2 * np.log10(alpha) ** 2 + 0.005 * draw.normal()


@pytest.mark.parametrize("better", ["maximize", "minimize"])
def test_the_parameter_that_matters_is_found_whatever_the_direction(tmp_path, better):
    sign = 1 if better == "maximize" else -1
    study(tmp_path, lambda **given: sign * of_alpha(**given), direction=better)
    found = assess(read_trials(Place(tmp_path)))
    assert found.trials.higher_is_better is (better == "maximize")
    for shares in (found.fanova, found.ped_anova):
        assert sum(shares.values()) == pytest.approx(1)
        assert next(iter(shares)) == "alpha"
        assert shares["alpha"] > 0.7
    assert found.explained > 0.8
    assert found.warnings == ()
    assert found.trials.points[found.trials.best]["alpha"] == pytest.approx(1, abs=0.5)
    assert found.fanova == optuna_says(tmp_path, optuna.importance.FanovaImportanceEvaluator(seed=0))
    assert found.ped_anova == optuna_says(tmp_path, optuna.importance.PedAnovaImportanceEvaluator())


def optuna_says(folder, evaluator):
    loaded = optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'study.db'}")
    return {
        k: pytest.approx(v)
        for k, v in optuna.importance.get_param_importances(loaded, evaluator=evaluator).items()
    }


def test_noise_is_told_as_noise(tmp_path):
    study(tmp_path, lambda draw, **_: float(draw.normal()))
    found = assess(read_trials(Place(tmp_path)))
    assert found.explained < 0.2
    assert any("its shares are doubtful" in sentence for sentence in found.warnings)


def test_few_trials_are_warned_of_with_the_number_that_it_takes(tmp_path):
    study(tmp_path, of_alpha, count=30)
    found = assess(read_trials(Place(tmp_path)))
    assert any("3 of 30 complete trials here" in s and "50 trials" in s for s in found.warnings)


def test_what_is_not_complete_does_not_count_and_is_told(tmp_path):
    made = study(tmp_path, of_alpha)
    params = {"alpha": 1.0, "latent_dim": 2, "round_size": 10}
    for state in (TrialState.PRUNED, TrialState.FAIL):
        made.add_trial(optuna.create_trial(params=params, distributions=SPACE, state=state))
    found = assess(read_trials(Place(tmp_path)))
    assert len(found.trials.values) == 60
    assert "Trials that are not complete do not count: 1 fail, 1 pruned." in found.warnings


def test_of_several_objectives_the_aulc_is_taken(tmp_path):
    study(
        tmp_path,
        lambda **given: (given["latent_dim"] * 1.0, of_alpha(**given)),
        direction=["minimize", "maximize"],
    )
    (tmp_path / "manifest.json").write_text(json.dumps({"asked": {"objectives": ["oracle_seconds", "aulc"]}}))
    found = assess(read_trials(Place(tmp_path)))
    assert (found.trials.objective, found.trials.higher_is_better) == ("aulc", True)
    assert found.fanova["alpha"] > 0.7


def test_the_surface_follows_the_function_it_was_drawn_from(tmp_path):
    study(tmp_path, of_alpha, count=150)
    trials = read_trials(Place(tmp_path))
    grid = np.array([[0.12, 5], [1.0, 2], [1.0, 8], [8.0, 5]])
    low, mid, also, high = surface(trials, ("alpha", "latent_dim"), grid)
    assert mid == pytest.approx(0.9, abs=0.03)
    assert also == pytest.approx(0.9, abs=0.03)
    assert max(low, high) < 0.8


def test_the_study_is_not_touched_and_the_files_are_told(tmp_path):
    study(tmp_path / "search", of_alpha)
    path = tmp_path / "search" / "study.db"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.chmod(0o444)
    done = script("importance.py", tmp_path / "search", "--out", tmp_path / "fig")
    assert (done.returncode, done.stderr) == (0, "")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert [entry.name for entry in (tmp_path / "search").iterdir()] == ["study.db"]
    for suffix in ("png", "svg"):
        assert done.stdout.splitlines()[-2:].count(str(tmp_path / f"fig.{suffix}")) == 1
        assert (tmp_path / f"fig.{suffix}").stat().st_size > 20_000
    assert "fANOVA" in done.stdout
    assert "PED-ANOVA" in done.stdout


def test_sqlite_itself_refuses_to_write(tmp_path):
    study(tmp_path, of_alpha, count=4)
    with (
        _importance._opened(Place(tmp_path / "study.db")) as storage,
        pytest.raises(OptunaError) as caught,
    ):
        optuna.create_study(storage=storage, study_name="other")
    assert "readonly database" in str(caught.value.__cause__)


def test_the_figure_has_a_slice_for_each_and_the_contour(tmp_path):
    study(tmp_path, of_alpha)
    found = assess(read_trials(Place(tmp_path)))
    pair = importance.chosen_pair(found, None)
    assert pair == ("alpha", "latent_dim")
    drawn = importance.figure(found, pair)
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in drawn.axes]
    assert labels[4] == ("step size α", "latent dimension n")
    assert {x for x, _ in labels[1:4]} == {"step size α", "latent dimension n", "round size J"}
    dots = drawn.axes[1 + list(found.fanova).index("alpha")].collections[0].get_offsets()
    np.testing.assert_allclose(dots[:, 1], found.trials.values)
    plt.close(drawn)


def test_bad_input_ends_with_status_2_and_one_line(tmp_path, capsys):
    study(tmp_path / "few", of_alpha, count=2)
    study(tmp_path / "good", of_alpha, count=5)
    study(tmp_path / "two", of_alpha, count=5)
    study(tmp_path / "two", of_alpha, count=5, name="other")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "study.db").write_bytes(b"no database at all" * 100)
    (tmp_path / "file").touch()
    asked = [
        ("none", {}, "There is no results folder"),
        ("empty", {}, "holds no study.db"),
        ("broken", {}, "cannot be read as an Optuna study"),
        ("few", {}, "2 complete trials"),
        ("two", {}, "holds the studies joint, other; give one of them as --study"),
        ("good", {"study": "nine"}, "holds the studies joint"),
        ("good", {"contour": "alpha,latent"}, "latent is no parameter of every trial; nearest: latent_dim"),
        ("good", {"contour": "alpha"}, "give two parameters"),
        ("good", {"out": tmp_path / "file" / "fig"}, "cannot be written to"),
    ]
    for name, more, said in asked:
        options = importance.ImportanceOptions(str(tmp_path / name), **more)
        assert guarded(lambda options=options: importance.work(options)) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1), err
        assert said in err
    with pytest.raises(UsageError):
        read_trials(Place(tmp_path / "file"))
