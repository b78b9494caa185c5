"""What came of a campaign: for people on a screen and on a page, and for programs."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.soak import Course

BEGIN, END = "<!-- {}: written by make fault -->\n", "<!-- end of {} -->\n"
_FAULT_HEADINGS = (
    "fault",
    "trials",
    "acknowledged",
    "lost",
    "doubled",
    "broken",
    "unexpected",
    "503, 507",
    "start p50 / max",
    "bound 3/n",
)


@dataclass(frozen=True)
class Report:
    """A table, and what it was made from.

    `section` names the marks between which a page holds the table.
    """

    section: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    outcomes: Sequence[Outcome]
    course: dict[str, object] = field(default_factory=dict)

    @classmethod
    def of_faults(cls, outcomes: Sequence[Outcome]) -> "Report":
        """Return one line for each kind of fault, and one for all.

        The bound is on the rate of trials that break a promise, at 95 %.
        """
        everything = Outcome("all")
        for outcome in outcomes:
            everything.add(outcome)
        return cls("faults", _FAULT_HEADINGS, [_row(outcome) for outcome in (*outcomes, everything)], outcomes)

    @classmethod
    def of_soak(cls, outcome: Outcome, course: Course) -> "Report":
        """Return one line for each thing that was measured."""
        rows = [["acknowledged updates", str(outcome.acknowledged)], ["lost, doubled", _misses(outcome)]]
        rows += [[name, str(value)] for name, value in course.facts().items()]
        return cls("soak", ("measured", "value"), rows, [outcome], {**course.facts(), "samples": course.samples()})

    @classmethod
    def of_restarts(cls, seconds: Mapping[str, Sequence[float]]) -> "Report":
        """Return one line for each thing that was started again and again."""
        rows = [
            [name, str(len(taken)), f"{statistics.median(taken):.2f} s", f"{max(taken):.2f} s"]
            for name, taken in seconds.items()
        ]
        return cls("restarts", ("started", "times", "p50", "max"), rows, ())

    @property
    def complaints(self) -> list[str]:
        """Every sort of broken promise."""
        return [f"{o.kind}: {complaint}" for o in self.outcomes for complaint in o.complaints()]

    def table(self) -> Table:
        """Return the table for a screen."""
        made = Table()
        for place, heading in enumerate(self.headings):
            made.add_column(heading, justify="right" if place else "left")
        for row in self.rows:
            made.add_row(*row)
        return made

    def markdown(self) -> str:
        """Return the table for a page."""
        rules = ["---", *["---:"] * (len(self.headings) - 1)]
        return "".join(f"| {' | '.join(row)} |\n" for row in (self.headings, rules, *self.rows))

    def facts(self) -> dict[str, object]:
        """Return everything as plain data."""
        return {"kinds": [_facts(outcome) for outcome in self.outcomes], "course": self.course}


def write_into(page: Path, report: Report, *, machine: str) -> None:
    """Put a report between its marks on a page, in place of what stands there.

    Raises:
        ValueError: if the page has no such marks.
    """
    begin, end = BEGIN.format(report.section), END.format(report.section)
    text = page.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no lines {begin!r} and {end!r} between which the table would go")
    page.write_text(f"{before}{begin}\n{report.markdown()}\nMeasured on {machine}.\n\n{end}{after}", encoding="utf-8")


def _row(outcome: Outcome) -> list[str]:
    refusals = outcome.answers[503] + outcome.answers[507]
    middle, longest = _starts(outcome)
    counts = (outcome.trials, outcome.acknowledged, *map(len, _sorts(outcome)), refusals)
    bound = "–" if outcome.bound is None else f"{outcome.bound:.2%}"
    return [outcome.kind, *map(str, counts), f"{middle:.1f} s / {longest:.1f} s", bound]


def _sorts(outcome: Outcome) -> tuple[list[str], ...]:
    return (outcome.lost, outcome.doubled, outcome.broken, outcome.unexpected)


def _misses(outcome: Outcome) -> str:
    return f"{len(outcome.lost)}, {len(outcome.doubled)}"


def _starts(outcome: Outcome) -> tuple[float, float]:
    """Return the middle and the longest time to a process that is ready."""
    starts = sorted(outcome.start_seconds) or [0.0]
    return starts[len(starts) // 2], starts[-1]


def _facts(outcome: Outcome) -> dict[str, Any]:
    middle, longest = _starts(outcome)
    lost, doubled, broken, unexpected = map(len, _sorts(outcome))
    return {
        "kind": outcome.kind,
        "trials": outcome.trials,
        "variants": dict(sorted(outcome.details.items())),
        "acknowledged": outcome.acknowledged,
        "lost": lost,
        "doubled": doubled,
        "broken": broken,
        "unexpected": unexpected,
        "complaints": outcome.complaints(),
        "answers": {str(status): count for status, count in sorted(outcome.answers.items())},
        "start_seconds": {"p50": round(middle, 2), "max": round(longest, 2)},
        "bound": outcome.bound,
    }
