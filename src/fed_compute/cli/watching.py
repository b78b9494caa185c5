"""What a volunteer sees while the machine works: one line for each thing that happened."""

import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.text import Text

from fed_compute.cli.console import out
from fed_compute.client.answers import printable
from fed_compute.client.guard import FINISH, PAUSE
from fed_compute.client.observer import MANY

_SAME_NORM = 0.01
"""Below this relative difference a norm has not been scaled down: lossy encodings change it a little."""
_DOING = {"train": "training", "evaluate": "evaluating", "audit": "auditing an update to"}
_IDLE = {
    "job_finished": "the job is finished; waiting for a new one",
    "job_paused": "the job is paused; waiting for it to go on",
    "quota_used": "this client has done its rounds of the day; waiting for the next",
}


class ScreenObserver:
    """Writes a client's events as lines for people. Says things that repeat only when they change."""

    def __init__(self, coordinator_url: str, *, console: Console = out, now: Callable[[], float] = time.time) -> None:
        self._url = coordinator_url
        self._console = console
        self._now = now
        self._last = ""

    def event(self, name: str, **fields: object) -> None:
        """Take note of one event."""
        if name in MANY:
            return
        text, style = describe(name, self._url, fields)
        text = printable(text)  # parts of it are a coordinator's words
        if text == self._last:
            return
        self._last = text
        stamp = time.strftime("%H:%M:%S", time.localtime(self._now()))
        self._console.print(Text.assemble((stamp, "dim"), "  ", (text, style)))


def describe(name: str, url: str, fields: dict[str, object]) -> tuple[str, str]:
    """Return what an event means to the owner of the machine, and the style to show it in."""
    if (described := _of_wish(name, fields) or _of_state_folder(name, fields)) is not None:
        return described
    match name:
        case "signed_in":
            return f"joined {url} as {fields['client_id']}; Ctrl-C leaves", "bold"
        case "task_received":
            what = _DOING[str(fields["task"])]
            return f"round {fields['round_id']} of job {fields['job']}: {what} {fields['model_version']} …", ""
        case "trained":
            return (
                f"trained on {fields['num_samples']} samples in {_number(fields['seconds'])} s, "
                f"loss {_number(fields['loss'])}"
            ), ""
        case "sending":
            norm = lengths(fields["norm"], fields["norm_trained"])
            return f"sending {size(fields['bytes'])}: {told(fields['says'])}{norm}", ""
        case "update_accepted":
            return f"update accepted in round {fields['round_id']}", "green"
        case "evaluated" | "audited":
            return measured(fields), "cyan"
        case "idle":
            return _IDLE.get(str(fields["why"]), "nothing to do yet; waiting"), "dim"
        case "job_finished":
            return "the job is finished", "bold green"
        case "waiting" if fields.get("code") == "client_pending":
            return "registered; waiting until an operator approves this client", "yellow"
        case "waiting":
            return f"the coordinator cannot answer now: {fields.get('why', '')}; trying again", "yellow"
        case "update_refused" | "training_failed" | "measuring_failed":
            return f"{name.replace('_', ' ')} ({fields.get('code')}): {fields.get('why')}", "bold red"
        case "policy_refused":
            rest = fields.get("rest")
            pause = f"; resting {rest / 60:.3g} min" if isinstance(rest, float) and rest else ""
            return f"your limits refuse this task of job {fields['job']}: {fields['why']}{pause}", "yellow"
        case "resting":
            return f"resting: {fields['why']}", "yellow"
        case "task_over":
            return f"this task is over: {fields['why']}", "yellow"
        case "task_released":
            return "gave the task back", "dim"
        case "dropped_out":
            return f"simulated dropout at {_number(fields['fraction'])} of the work", "yellow"
    details = ", ".join(f"{key} {value}" for key, value in fields.items())
    return f"{name.replace('_', ' ')}{': ' if details else ''}{details}", "dim"


def _of_wish(name: str, fields: dict[str, object]) -> tuple[str, str] | None:
    """Describe what follows from the owner's own word."""
    match name:
        case "paused":
            return str(fields["why"]), "yellow"
        case "policy_refused" if fields["limit"] in (PAUSE, FINISH):
            return f"no more of this task: {fields['why']}", "yellow"
        case "resumed":
            return "going on", ""
        case "finished":
            return "finished, as you wanted", "bold"
        case "stopped":
            return "asked to stop", "dim"
    return None


def _of_state_folder(name: str, fields: dict[str, object]) -> tuple[str, str] | None:
    """Describe what was found or lost on the disk."""
    match name:
        case "update_found":
            return (
                f"an update of round {fields['round_id']} of job {fields['job']} has no answer yet: it goes first",
                "",
            )
        case "training_resumed":
            return f"going on after {fields['steps_done']} batches, where this training was cut off", ""
        case "update_set_aside" | "update_dropped":
            return f"{name.replace('_', ' ')}, {fields['file']}: {fields['why']}", "bold red"
        case "checkpoint_failed" | "residual_lost" | "control_lost":
            return f"{name.replace('_', ' ')}: {fields['why']}", "yellow"
    return None


def measured(fields: Mapping[str, object]) -> str:
    """Return what an evaluation or an audit found on this machine's data."""
    on = f"on {fields['num_samples']} held-out samples: loss"
    if "base_loss" in fields:
        after = "not a number" if fields["loss"] is None else _number(fields["loss"])
        return (
            f"an update of round {fields['round_id']} {on} {_number(fields['base_loss'])} without it, {after} with it"
        )
    accuracy = "" if fields.get("accuracy") is None else f", accuracy {_number(fields['accuracy'])}"
    return f"{fields['model_version']} {on} {_number(fields['loss'])}{accuracy}"


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def lengths(sent: object, trained: object) -> str:
    """Return the L2 norm of an update that was sent, and of what was trained if it was scaled down; or nothing."""
    if not isinstance(sent, float) or not isinstance(trained, float):
        return ""
    return f", norm {sent:.3g}" + (f" scaled down from {trained:.3g}" if sent < trained * (1 - _SAME_NORM) else "")


def told(says: object, prefix: str = "") -> str:
    """Return what left beside the values as `name value, name value`, nested names flat."""
    if not isinstance(says, Mapping):
        return f"{prefix} {_number(says)}"
    return ", ".join(told(value, str(name)) for name, value in says.items())


def size(value: object) -> str:
    """Return a number of bytes for people."""
    size = float(value) if isinstance(value, int) else 0.0
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
