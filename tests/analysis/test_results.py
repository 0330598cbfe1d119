"""The results kept in analysis/results/ say what the README says of them, through the scripts that people use."""

import re
import statistics
from itertools import pairwise

import pytest
from synthetic import ROOT, script

from alss_ray import reading
from alss_ray.league import Curves
from alss_ray.metrics import display_unit
from alss_ray.summary import spread

RESULTS = ROOT / "analysis" / "results"
LEAGUES = {
    "digits": "digits",
    "digits, retrained": "digits_retrained",
    "MNIST, J = 20": "mnist_j20",
    "MNIST, J = 100": "mnist_j100",
    "MNIST, J = 500": "mnist_j500",
    "IVUS, n = 8": "ivus_n8",
    "IVUS, n = 3": "ivus",
}
WORSE = " ↓"
SNN = {
    "strategy": "snn", "direction": "gradient", "normalise": True, "redraw_every": 1, "exclude_labelled": True,
    "decoded": False, "augment": False, "retrain": False, "codes": "mean",
}  # fmt: skip
VARIANTS = {
    "random selection": ("ablation", {"strategy": "random"}),
    "SNN": ("ablation", SNN),
    "SNN, random direction": ("ablation", SNN | {"direction": "random"}),
    "SNN, α = 0": ("ablation", SNN | {"direction": "none"}),
    "SNN, duplicates counted as labels": ("ablation", SNN | {"exclude_labelled": False}),
    "SNN, decoded images in place of real ones": ("ablation", SNN | {"decoded": True}),
    "SNN, decoded images beside real ones": ("decoded", SNN | {"decoded_beside": True}),
    "SNN, a fresh network every round": ("ablation", SNN | {"retrain": True}),
    "SNN, 450 iterations a round": ("iterations", {"strategy": "snn"}),
    "random selection, 450 iterations a round": ("iterations", {"strategy": "random"}),
    "SNN, augmentation": ("augmented", {"strategy": "snn"}),
    "random selection, augmentation": ("augmented", {"strategy": "random"}),
}
CIFAR10 = {
    "cifar10", "cifar10_vgg_iterations", "cifar10_generators", "cifar10_lenet",
    *(f"cifar10_{folder}" for folder, _ in VARIANTS.values()),
}  # fmt: skip


@pytest.fixture(scope="module")
def table():
    """The README's league: column -> arm -> cell."""
    (league,) = tables("What saves labels")
    return league


def tables(title):
    """The tables of a section of the README, each as column -> row -> cell."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split(f"## {title}")[1].split("\n## ")[0]
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
        heading, _, *rows = (
            [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()
        )
        found.append(
            {
                column: {row[0].replace("`", ""): row[k] for row in rows if row[k]}
                for k, column in enumerate(heading)
                if k
            }
        )
    return found


def test_every_league_that_is_kept_is_told(table):
    assert list(table) == list(LEAGUES)
    assert {path.name for path in RESULTS.iterdir()} == {*LEAGUES.values(), *CIFAR10, "digits_untuned"}


@pytest.mark.parametrize("column", LEAGUES)
def test_the_readmes_league_is_that_of_the_records(table, column):
    rows = reading.read("rounds", [RESULTS / LEAGUES[column]]).table.to_pylist()
    arms = {}
    for row in rows:
        arms.setdefault(arm(row["strategy"], row.get("direction")), []).append(row)
    scale, _ = display_unit(rows[0]["metric"])
    curves = {name: Curves(own, scale) for name, own in arms.items()}
    assert all(len(own.areas) == 10 for own in curves.values())
    assert {name: cell.removesuffix(WORSE) for name, cell in table[column].items()} == {
        name: spread(list(own.areas.values()), 2) for name, own in curves.items()
    }

    sign = 1 if rows[0]["higher_is_better"] else -1
    best = max(curves, key=lambda name: sign * statistics.fmean(curves[name].areas.values()))
    done = script("compare.py", RESULTS / LEAGUES[column], "--baseline", best)
    assert "…" not in done.stdout  # twelve arms side by side, whole
    verdict = done.stdout.split("\n\n")[0]
    worse = re.findall(r"[:;] (\w+)((?:, \w+=\w+)*) is worse", verdict)
    marked = {name for name, cell in table[column].items() if cell.endswith(WORSE)}
    assert marked == {
        arm(name, dict(re.findall(r"(\w+)=(\w+)", own)).get("direction")) for name, own in worse
    }


@pytest.mark.parametrize(
    ("league", "told"),
    [
        ("digits", {"latent_margin": 108, "cluster_margin": 114, "margin": 117, "badge": 119, "least_confidence": 120}),
        ("digits_retrained", {"latent_margin": 73, "margin": 82, "badge": 87, "cluster_margin": 87}),
        ("mnist_j100", {"latent_margin": 385, "least_confidence": 400, "cluster_margin": 400}),
        ("mnist_j500", {"latent_margin": 1411, "margin": 1441, "badge": 1449}),
        ("ivus_n8", {"lcmd": 135, "typiclust": 140, "core_set": 147, "latent_core_set": 162}),
        ("ivus", {"lcmd": 135, "core_set": 147, "typiclust": 162}),
    ],
)  # fmt: skip
def test_labels_for_what_random_selection_reaches_are_those_of_the_text(league, told):
    """Where the mean curve, straight between rounds, first reaches the last value of random selection."""
    rows = reading.read("rounds", [RESULTS / league]).table.to_pylist()
    # The network that has all labels comes to them in one round.
    size = min(row["round_size"] for row in rows)
    rows = [row for row in rows if row["round_size"] == size]
    sign = 1 if rows[0]["higher_is_better"] else -1

    def curve(name):
        scores = {}
        for row in rows:
            if row["strategy"] == name:
                scores.setdefault(row["n_labels"], []).append(sign * row["test_metric"])
        return sorted((labels, statistics.fmean(values)) for labels, values in scores.items())

    level = curve("random")[-1][1]
    for name, labels in told.items():
        (x0, y0), (x1, y1) = next(pair for pair in pairwise(curve(name)) if pair[1][1] >= level)
        assert round(x0 + (level - y0) / (y1 - y0) * (x1 - x0)) == labels, name


@pytest.mark.parametrize(("league", "behind_at"), [("mnist_j100", [7]), ("mnist_j500", [])])
def test_latent_margins_mean_is_the_best_at_every_t_but_those_of_the_text(league, behind_at):
    scores = {}
    for row in reading.read("rounds", [RESULTS / league]).table.to_pylist():
        scores.setdefault(row["t"], {}).setdefault(arm(row["strategy"], row["direction"]), []).append(
            row["test_metric"]
        )
    means = {t: {name: statistics.fmean(of) for name, of in arms.items()} for t, arms in scores.items()}
    assert [t for t in range(2, 11) if max(means[t], key=means[t].get) != "latent_margin"] == behind_at


def test_table_1_on_cifar10_is_that_of_the_records():
    told, *_ = tables("CIFAR-10, measured")
    scores = {}
    folders = [RESULTS / "cifar10", RESULTS / "cifar10_vgg_iterations"]
    arms = {}
    for row in reading.read("rounds", folders).table.to_pylist():
        name = {"snn": "SNN"}.get(row["strategy"], row["strategy"])
        name += ", 450 iterations" if row["iterations"] == 450 else ""
        name += ", random direction" if row["direction"] == "random" else ""
        name += {"vae": ", VAE", "alpha_gan": ", α-GAN"}.get(row.get("generator"), "")
        scores.setdefault(name, {}).setdefault(str(row["t"]), []).append(100 * row["test_metric"])
        arms.setdefault(name, []).append(row)
    assert {column: told[column] for column in scores} == {
        column: {t: spread(values, 1) for t, values in rounds.items()} for column, rounds in scores.items()
    }
    areas = {name: Curves(rows, 100).area for name, rows in arms.items()}
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    vae, alpha_gan, vae_control, alpha_gan_control = (
        f"{areas[name] - areas['random']:+.2f}"
        for name in ("SNN, VAE", "SNN, α-GAN", "SNN, random direction, VAE", "SNN, random direction, α-GAN")
    )
    assert (
        f"the AULC differs from random selection's by {vae} (VAE) and {alpha_gan} (α-GAN), a random direction's by "
        f"{vae_control} and {alpha_gan_control}" in text
    )


def test_the_variants_on_cifar10_are_those_of_the_records():
    _, told, *_ = tables("CIFAR-10, measured")
    assert set(told["t = 10"]) == {*VARIANTS, "paper: Rand", "paper: Ours"}
    for name, (folder, wanted) in VARIANTS.items():
        rows = reading.read("rounds", [RESULTS / f"cifar10_{folder}"]).table.to_pylist()
        own = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
        assert len({row["seed"] for row in own}) == 3
        balance = statistics.fmean(row["class_balance"] for row in own if row["t"] == 10)
        assert told["balance"][name] == f"{balance:.3f}"
        for column, cells in told.items():
            if column.startswith("t = "):
                at = [100 * row["test_metric"] for row in own if column == f"t = {row['t']}"]
                assert cells[name] == spread(at, 1), (name, column)


def test_the_generators_on_cifar10_are_those_of_the_records():
    told = tables("CIFAR-10, measured")[2]
    rows = {}
    for row in reading.read("generators", [RESULTS / "cifar10_generators"]).table.to_pylist():
        kind = {"vae": "VAE", "alpha_gan": "α-GAN"}[row["generator"]]
        loss = row["adversarial_loss"]
        other = f", --adversarial-loss {loss}" if loss == "non_saturating" else ""
        name = f"{kind}, n = {row['latent_dim']}"
        rows[name + other] = row
        assert row["generator_iterations"] == (4000 if name in ("α-GAN, n = 16", "α-GAN, n = 64") else 5000)
        assert (f"{row['mean_image_rmse']:.3f}", f"{row['near_by_chance']:.2f}") == ("0.246", "0.10")
    assert told["sd of E(D)"] == {
        name: f"{row['code_sd_least']:.2f} - {row['code_sd_most']:.2f}" for name, row in rows.items()
    }
    for column, key, digits in (
        ("error", "reconstruction_rmse", 3), ("energy", "energy_coefficient", 3), ("near", "near_same_class", 2),
        ("F agrees", "decoded_agreement", 3), ("left", "gradient_left_share", 2), ("stuck", "gradient_stuck_share", 2),
    ):  # fmt: skip
        assert told[column] == {name: f"{row[key]:.{digits}f}" for name, row in rows.items()}, column


def test_the_league_on_cifar10_is_that_of_the_records():
    told = tables("CIFAR-10, measured")[3]
    arms = {}
    for row in reading.read("rounds", [RESULTS / "cifar10_lenet"]).table.to_pylist():
        arms.setdefault(arm(row["strategy"], row["direction"]), []).append(row)
    assert told["test AULC"] == {
        name: spread(list(Curves(own, 100).areas.values()), 2) for name, own in arms.items()
    }
    assert told["at 5,000 labels"] == {
        name: spread([100 * row["test_metric"] for row in own if row["n_labels"] == 5000], 2)
        for name, own in arms.items()
    }


def arm(strategy, direction):
    return f"{strategy}, random direction" if direction == "random" else strategy


def test_table1_reads_them():
    done = script("table1.py", RESULTS / "digits", "--by", "strategy")
    assert done.returncode == 0, done.stderr
    assert "latent_margin" in done.stdout
