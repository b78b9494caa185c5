"""What operators do on pages. Each act is a form of an own page; the answer leads back to where it was sent from."""

from collections.abc import Callable, Mapping

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from fed_compute.coordinator.sessions import Session
from fed_compute.errors import FedComputeError, PathNotFound, RequestInvalid
from fed_compute.ids import ClientId, RoundId
from fed_compute.server.dashboard.render import render
from fed_compute.server.dashboard.visitors import Form, OperatorVisitor
from fed_compute.server.dependencies import ClientName, Core, JobName, RoundNumber

OVERLAP_HOURS = 24
"""So long the old keys of a client stay good beside a new one, unless they are ended at once."""

_Act = tuple[Callable[[], object], str]
"""What to do, and the word that the next page says it with."""

router = APIRouter(include_in_schema=False)


@router.post("/ui/rounds/{round_id}/close")
def close_round(request: Request, core: Core, visitor: OperatorVisitor, form: Form, round_id: RoundNumber) -> Response:
    """Close a collecting round early."""
    return _act(
        request, visitor, lambda: core.rounds.request_close(RoundId(round_id)), f"/ui/rounds/{round_id}", "closed"
    )


@router.post("/ui/jobs/{name}/{act}")
def steer_job(request: Request, core: Core, visitor: OperatorVisitor, form: Form, name: JobName, act: str) -> Response:
    """Pause a job, let it go on, or stop it for good."""
    by = visitor.principal.key_id
    acts: Mapping[str, _Act] = {
        "pause": (lambda: core.steering.pause(name, by=by), "paused"),
        "resume": (lambda: core.steering.resume(name, by=by), "resumed"),
        "stop": (lambda: core.steering.stop(name, by=by), "stopped"),
    }
    run, done = _known(request, acts, act)
    return _act(request, visitor, run, f"/ui/jobs/{name}", done)


@router.post("/ui/clients/{client_id}/rotate")
def rotate_key(request: Request, core: Core, visitor: OperatorVisitor, form: Form, client_id: ClientName) -> Response:
    """Make a new key for a client and show it, this once."""
    at_once = form.get("at_once") == "yes"
    issued = core.keys.rotate_client(
        ClientId(client_id), overlap_seconds=0 if at_once else OVERLAP_HOURS * 3600.0, by=visitor.principal.key_id
    )
    return render(
        request,
        "new_key.html",
        visitor,
        client_id=client_id,
        key=issued.text,
        overlap_hours=0 if at_once else OVERLAP_HOURS,
    )


@router.post("/ui/clients/{client_id}/{act}")
def move_client(
    request: Request, core: Core, visitor: OperatorVisitor, form: Form, client_id: ClientName, act: str
) -> Response:
    """Approve a client, shut it out, or let it in again."""
    by, client = visitor.principal.key_id, ClientId(client_id)
    reason, with_invited = _reason(form), form.get("with_invited") == "yes"
    acts: Mapping[str, _Act] = {
        "approve": (lambda: core.clients.approve(client, by=by), "approved"),
        "ban": (lambda: core.clients.ban(client, reason=reason, with_invited=with_invited, by=by), "banned"),
        "unban": (lambda: core.clients.unban(client, by=by), "unbanned"),
    }
    run, done = _known(request, acts, act)
    return _act(request, visitor, run, f"/ui/clients/{client_id}", done)


def _known(request: Request, acts: Mapping[str, _Act], act: str) -> _Act:
    if act not in acts:
        raise PathNotFound(request.url.path)
    return acts[act]


def _reason(form: dict[str, str]) -> str | None:
    text = form.get("reason", "").strip()
    if len(text) > 200:
        raise RequestInvalid(f"the reason has {len(text)} characters, wanted at most 200")
    return text or None


def _act(request: Request, visitor: Session, act: Callable[[], object], back: str, done: str) -> Response:
    try:
        act()
    except FedComputeError as error:
        ways = (("Back", back),)
        return render(
            request, "error.html", visitor, status=error.status, title="Not done", message=error.message, ways=ways
        )
    return RedirectResponse(f"{back}?did={done}", status_code=303)
