"""Command lines: what they become, and that bad ones end in one sentence and exit status 2."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from alss_ray import cli
from alss_ray.cli import Components, Parsed, guarded, parse
from alss_ray.config import Experiment, ExperimentFailed, Settings, UsageError
from alss_ray.generators import Vae
from alss_ray.strategies import Random, Snn
from alss_ray.tasks import Digits, Mnist


@dataclass(frozen=True)
class ScriptOptions:
    """A script's own options."""

    out: Path | None = None
    """Results folder."""
    rounds: int = 3
    """Number of rounds."""


def read(*argv: str, **keywords: object) -> Parsed[ScriptOptions]:
    return parse(ScriptOptions(), "A script.", argv, "python script.py", **keywords)  # type: ignore[arg-type]


def status(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    """Exit status of a script that parses a command line, and what it said on the standard error."""

    def work() -> int:
        read(*argv)
        return 0

    try:
        code = guarded(work)
    except SystemExit as ended:  # tyro's own way out
        code = int(ended.code or 0)
    return code, capsys.readouterr().err


def test_nothing_given_is_snn_on_the_digits() -> None:
    parsed = read()
    suited = {name: value for name, value in Digits.defaults.items() if name != "generator_iterations"}
    assert parsed.experiment == Experiment(
        task=Digits(), strategy=Snn(), generator=Vae(generator_iterations=1500), **suited
    )
    assert parsed.options == ScriptOptions()
    assert parsed.given == frozenset()


def test_a_tasks_defaults_give_way_to_what_is_given() -> None:
    parsed = read("--task", "mnist", "--data-dir", "/some/where", "--round-size", "100", "--no-download")
    assert parsed.experiment.task == Mnist(data_dir=Path("/some/where"))
    assert (parsed.experiment.round_size, parsed.experiment.label_budget) == (100, 5000)
    assert parsed.experiment.generator.generator_iterations == 10_000
    assert parsed.given == {"task", "data_dir", "round_size", "download"}


def test_every_field_of_the_experiment_can_be_given() -> None:
    line = (
        "--alpha 0.3 --direction random --no-normalise --no-exclude-labelled --decoded --redraw-every 2 "
        "--latent-dim 5 --generator-seed 2 --round-size=25 --label-budget 250 --iterations 10 --batch-size 32 "
        "--learning-rate 1e-2 --retrain --evaluate-every 0 --score-limit 30 --decoded-beside --bfloat16 --seed 7 "
        "--validation-share 0.25 --out here --rounds 9"
    )
    parsed = read(*line.split())
    assert parsed.experiment.strategy == Snn(0.3, "random", False, 2, False, True)
    assert parsed.experiment.generator == Vae(latent_dim=5, generator_seed=2, generator_iterations=1500)
    settings = {f.name: getattr(parsed.experiment, f.name) for f in dataclasses.fields(Settings)}
    assert settings == {
        "round_size": 25, "label_budget": 250, "iterations": 10, "batch_size": 32, "learning_rate": 0.01,
        "retrain": True, "evaluate_every": 0, "score_limit": 30, "decoded_beside": True, "bfloat16": True, "seed": 7,
        "validation_share": 0.25,
    }  # fmt: skip
    assert parsed.options == ScriptOptions(Path("here"), 9)
    assert {"alpha", "normalise", "exclude_labelled", "round_size", "retrain", "rounds"} <= parsed.given
    assert "task" not in parsed.given


def test_underscores_and_equal_signs_are_understood_as_given() -> None:
    parsed = read("--latent_dim=4", "--strategy=snn")
    assert parsed.experiment.generator.latent_dim == 4
    assert parsed.given == {"latent_dim", "strategy"}


def test_a_strategy_without_latent_space_has_no_generator() -> None:
    assert read("--strategy", "random").experiment.generator is None
    assert read("--strategy", "random").experiment.strategy == Random()


def test_scripts_may_start_from_other_components_and_adjust_the_settings() -> None:
    def adjust(options: ScriptOptions, settings: Settings) -> Settings:
        return dataclasses.replace(settings, label_budget=options.rounds * settings.round_size)

    parsed = read("--rounds", "4", components=Components(strategy="random"), adjust=adjust)
    assert parsed.experiment.strategy == Random()
    assert parsed.experiment.label_budget == 80


def test_a_users_own_class_brings_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_parts.py").write_text(
        "from dataclasses import dataclass\nfrom alss_ray.strategies import Random\n"
        "@dataclass(frozen=True)\nclass Mine(Random):\n    depth: int = 3\n    '''How deep.'''\n"
    )
    monkeypatch.chdir(tmp_path)
    assert read("--strategy", "my_parts:Mine", "--depth", "5").experiment.strategy.depth == 5


@pytest.mark.parametrize(
    ("fields", "told"), [("depth: int", "depth"), ("rounds: int = 2", "rounds")], ids=["no default", "clash"]
)
def test_a_users_class_that_cannot_be_an_option_group_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fields: str,
    told: str,
) -> None:
    """A field without a default, or one that has the name of the script's own option."""
    name = f"parts_with_{told}"
    (tmp_path / f"{name}.py").write_text(
        "from dataclasses import dataclass\nfrom alss_ray.strategies import Random\n"
        f"@dataclass(frozen=True)\nclass Mine(Random):\n    {fields}\n"
    )
    monkeypatch.chdir(tmp_path)
    code, said = status(capsys, "--strategy", f"{name}:Mine")
    assert code == 2
    assert told in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "--task nonsense",
            "There is no task 'nonsense'; The task can be cifar10, digits, folder, ivus, mnist",
        ),
        ("--strategy snm", "There is no strategy 'snm'; did you mean 'snn'?"),
        ("--generator gan", "There is no generator 'gan'"),
        ("--strategy nowhere:Thing", "'nowhere:Thing' cannot be imported"),
        ("--strategy alss_ray.tasks.digits:Digits", "alss_ray.tasks.digits:Digits"),
        ("--task", "--task needs a name behind it"),
        ("--alpha 0", "alpha is 0.0; give a finite step length above 0, or --direction none"),
        ("--alpha nan", "alpha is nan; give a finite step length"),
        ("--alpha -1", "alpha is -1.0; give a finite step length"),
        ("--direction random --alpha inf", "alpha is inf; give a finite step length"),
        ("--latent-dim 0", "latent_dim is 0; give 1 or more"),
        ("--round-size 0", "round_size is 0; give 1 or more"),
        ("--round-size 50 --label-budget 49", "budget of 49 is below one round of 50; raise --label-budget"),
        ("--learning-rate nan", "learning_rate is nan; give a finite number above 0"),
    ],
)
def test_bad_values_end_in_one_sentence_and_status_2(
    capsys: pytest.CaptureFixture[str], line: str, told: str
) -> None:
    code, said = status(capsys, *line.split())
    assert code == 2
    assert told in said
    assert said.count("\n") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--alfa 1", "--alfa"),
        ("--round-size many", "many"),
        ("--round-size 2.5", "2.5"),
        ("--direction sideways", "sideways"),
        ("--strategy random --alpha 1", "--alpha"),
        ("stray", "stray"),
        ("--seed", "--seed"),
    ],
)
def test_options_that_do_not_exist_end_with_status_2(
    capsys: pytest.CaptureFixture[str], line: str, told: str
) -> None:
    code, said = status(capsys, *line.split())
    assert code == 2
    assert told in said


def test_options_cannot_be_shortened() -> None:
    """A shortened name would be missing among those given, and a search would not keep its value fixed."""
    with pytest.raises(SystemExit):
        read("--latent", "3")


def test_help_shows_the_options_of_the_components_named(capsys: pytest.CaptureFixture[str]) -> None:
    texts = {}
    for words in (("--strategy", "random"), ("--task", "mnist")):
        with pytest.raises(SystemExit) as ended:
            read(*words, "--help")
        assert ended.value.code == 0
        texts[words[1]] = capsys.readouterr().out
    assert "--round-size" in texts["random"]
    assert "--rounds" in texts["random"]
    assert "--alpha" not in texts["random"]
    for option in ("--alpha", "--data-dir", "--latent-dim", "--direction"):
        assert option in texts["mnist"]
    assert "length of the step" in " ".join(texts["mnist"].replace("│", " ").split())


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("Bad alpha."), 2, "Bad alpha.\n"),
        (ExperimentFailed("It diverged."), 1, "It diverged.\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_exit_statuses(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    def work() -> int:
        raise error

    assert guarded(work) == code
    assert capsys.readouterr().err == said


def test_faults_of_the_program_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)
    assert guarded(lambda: 0) == 0


def test_the_help_names_every_shipped_component() -> None:
    """The texts of Components are written by hand."""
    from alss_ray.catalogue import SHIPPED

    with open(cli.__file__, encoding="utf-8") as source:
        text = source.read().split("class Components", 1)[1].split("class Parsed", 1)[0]
    for known in SHIPPED.values():
        for name in known:
            assert name in text
