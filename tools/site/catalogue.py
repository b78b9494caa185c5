"""Tables of the code's own lists: errors, the journal's kinds of entries, metrics."""

from inspect import isclass
from itertools import groupby

from fed_compute import errors
from fed_compute.rounds.events import EVENTS
from fed_compute.server.metric_names import METRICS, Origin
from tools.site.markdown import code, first_line, plain, table

_BRANCHES = {
    errors.Refused: "## Refused: change the request\n\nSending the same thing again cannot help.",
    errors.NotNow: "## Not now: wait\n\nNothing is wrong. Try again after `Retry-After` or `retry_after_seconds`.",
    errors.Misuse: "## Misuse: change the command\n\nWhoever started the program asked for what cannot be done.",
    errors.Broken: "## Broken: the fault is ours\n\nThe log of the process says more. Report it.",
}

_ORIGINS = {
    Origin.STORE: "## Of the records\n\nThe same at every replica: take one, `max by (job) (…)`.",
    Origin.PROCESS: "## Of the process\n\nEach replica's own, since it began: add them up, `sum(rate(…))`.",
}


def error_kinds() -> list[type[errors.FedComputeError]]:
    """Return every error that has a code, in the order of the source."""
    root = errors.FedComputeError
    return [kind for kind in vars(errors).values() if isclass(kind) and issubclass(kind, root) and kind is not root]


def error_codes() -> str:
    """Return a table for each branch of the errors, and an anchor for each code."""
    parts = []
    for branch, title in _BRANCHES.items():
        rows = [
            (f'<span id="{kind.code}"></span>`{kind.code}`', str(kind.status), first_line(kind.__doc__))
            for kind in error_kinds()
            if issubclass(kind, branch)
        ]
        parts.append(f"{title}\n\n{table(('code', 'status', 'meaning'), rows)}")
    return "\n\n".join(parts)


def event_kinds() -> str:
    """Return a table of the journal's kinds of entries for each thing that they are about."""
    parts = []
    for subject, kinds in groupby(EVENTS, key=lambda kind: kind.subject):
        rows = [(code(kind.name), kind.meaning, ", ".join(map(code, kind.fields))) for kind in kinds]
        parts.append(f"## {subject.capitalize()}\n\n{table(('kind', 'what happened', 'fields'), rows)}")
    return "\n\n".join(parts)


def metrics() -> str:
    """Return a table of the metrics of the records, and one of those of the process."""
    parts = []
    for origin, title in _ORIGINS.items():
        rows = [
            (code(metric.name), metric.kind, metric.unit, ", ".join(map(code, metric.labels)), plain(metric.help))
            for metric in METRICS
            if metric.origin is origin
        ]
        parts.append(f"{title}\n\n{table(('metric', 'kind', 'unit', 'labels', 'meaning'), rows)}")
    return "\n\n".join(parts)
