"""The results kept in analysis/results/ say what the README says of them, through the scripts that people use."""

import re
import statistics

import pytest
from synthetic import ROOT, script

from alss_ray import reading
from alss_ray.league import Curves
from alss_ray.summary import spread

DIGITS = ROOT / "analysis" / "results" / "digits"


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8").split("## What saves labels")[1].split("\n## ")[0]


def test_the_readmes_league_is_that_of_the_records(readme):
    rows = reading.read("rounds", [DIGITS]).table.to_pylist()
    told = re.findall(r"^\| `(\w+)`(, random direction)? \| ([^|]+) \| ([^|]+) \|", readme, re.MULTILINE)
    assert {name for name, *_ in told} == {row["strategy"] for row in rows}
    for name, control, area, final in told:
        direction = "random" if control else "gradient"
        own = [row for row in rows if row["strategy"] == name and row["direction"] in (None, direction)]
        curves = Curves(own, 100)
        assert len(curves.areas) == 10
        assert area.strip() == spread(list(curves.areas.values()), 2), name
        assert final.strip() == spread(list(curves.finals.values()), 2), name
    areas = [statistics.fmean([float(area.split()[0])]) for *_, area, _ in told]
    assert areas == sorted(areas, reverse=True)


def test_the_readmes_verdict_is_that_of_compare(readme):
    done = script("compare.py", DIGITS, "--baseline", "latent_margin")
    verdict = done.stdout.split("\n\n")[0].strip()
    quoted = " ".join(line.removeprefix("> ") for line in readme.splitlines() if line.startswith("> "))
    assert quoted == " ".join(verdict.split())
    assert "…" not in done.stdout  # twelve arms side by side, whole


def test_table1_reads_them(readme):
    done = script("table1.py", DIGITS, "--by", "strategy")
    assert done.returncode == 0, done.stderr
    assert "latent_margin" in done.stdout
