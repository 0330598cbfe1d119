"""Write one self-contained HTML page about a sweep or a single run: what saves labels, how sure that is, what next.

The page asks the network for nothing and opens from a file; each of its figures says by which command it is
given again.

python analysis/report.py RESULTS

python analysis/report.py RESULTS --out sweep.html
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro
from _report_compare import compared, comparison
from _report_generators import generators
from _report_importance import importance
from _report_oracle import oracle
from _report_page import Chart, Section, render
from _report_pareto import pareto
from _report_results import best, curves
from _report_run import failures, run
from _report_samples import samples
from _report_source import Source
from _report_summary import subtitle, summary, title
from _shared import guarded

from alss_ray.config import UsageError
from alss_ray.places import Place


@dataclass(frozen=True)
class ReportOptions:
    """What to tell of, and where to."""

    results: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RESULTS", help_behavior_hint="")]
    """Results folder of a sweep or a single run, here or on an object store."""
    out: str | None = None
    """The page; report.html in the results folder unless given."""


def sections(source: Source) -> list[Section]:
    """The page's parts, in the order in which they are read."""
    found = compared(source)
    drawn = curves(source)
    order = [key.label for part in drawn.parts if isinstance(part, Chart) for key in part.keys]
    return [
        summary(source, found),
        run(source),
        best(source),
        drawn,
        comparison(source, found, order),
        importance(source),
        pareto(source),
        generators(source),
        oracle(source),
        failures(source),
        samples(source),
    ]


def report(options: ReportOptions) -> None:
    """Read the results, write the page, print its path."""
    folder = Place(options.results)
    source = Source.of(folder)
    path = folder / "report.html" if options.out is None else Place(options.out)
    page = render(title(source), subtitle(source), sections(source))
    try:
        path.write(page.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error}); choose another --out.") from error
    print(path)


if __name__ == "__main__":
    given = tyro.cli(ReportOptions, description=__doc__)
    sys.exit(guarded(lambda: report(given)))
