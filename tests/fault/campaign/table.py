"""What came of a campaign, for people and for programs."""

from collections.abc import Iterable

from rich.table import Table

from tests.fault.campaign.outcome import Outcome


def table(outcomes: Iterable[Outcome]) -> Table:
    """Return one line for each kind of fault. The bound is on the rate of trials that break a promise, at 95 %."""
    shown = Table(title="Faults of real processes")
    shown.add_column("fault")
    headings = ("trials", "acknowledged", "lost", "doubled", "broken", "unexpected", "5xx told", "start p50/max s", "3/n")
    for heading in headings:
        shown.add_column(heading, justify="right")
    for outcome in outcomes:
        told = facts(outcome)
        cells = [told[name] for name in ("kind", "trials", "acknowledged", "lost", "doubled", "broken", "unexpected")]
        refusals = sum(count for status, count in outcome.answers.items() if status >= 500)
        bound = "-" if outcome.bound is None else f"{outcome.bound:.2%}"
        shown.add_row(*map(str, cells), str(refusals), f"{told['start_p50']} / {told['start_max']}", bound)
    return shown


def facts(outcome: Outcome) -> dict[str, object]:
    """Return the counts of one kind as plain data."""
    starts = sorted(outcome.start_seconds) or [0.0]
    return {
        "kind": outcome.kind,
        "trials": outcome.trials,
        "variants": dict(sorted(outcome.details.items())),
        "acknowledged": outcome.acknowledged,
        "lost": len(outcome.lost),
        "doubled": len(outcome.doubled),
        "broken": len(outcome.broken),
        "unexpected": len(outcome.unexpected),
        "complaints": outcome.complaints(),
        "answers": {str(status): count for status, count in sorted(outcome.answers.items())},
        "start_p50": round(starts[len(starts) // 2], 1),
        "start_max": round(starts[-1], 1),
        "bound": outcome.bound,
    }
