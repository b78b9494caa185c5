"""What operators do on pages. Each act is a form of an own page; the answer leads back to where it was sent from."""

from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from fed_compute.coordinator.sessions import Session
from fed_compute.errors import FedComputeError, JobFileInvalid
from fed_compute.ids import ClientId, RoundId
from fed_compute.protocol.job import parse_job_text
from fed_compute.server.dashboard.render import Notice, render
from fed_compute.server.dashboard.visitors import Form, OperatorVisitor
from fed_compute.server.dependencies import ClientName, Core, RoundNumber

EXAMPLE = """name = "my-job"
description = "What is trained, in a sentence."

[model]
name = "simple_mlp"
args = { input_dim = 64, hidden_dim = 32, output_dim = 10 }

[training]
lr = 0.1
batch_size = 32
local_epochs = 1

[rounds]
total = 20
target_updates = 10
min_updates = 5
deadline_seconds = 300

[aggregation]
rule = "robust"
"""

router = APIRouter(include_in_schema=False)


@router.post("/ui/rounds/{round_id}/close")
def close_round(request: Request, core: Core, visitor: OperatorVisitor, form: Form, round_id: RoundNumber) -> Response:
    """Close a collecting round early."""
    return _act(
        request, visitor, lambda: core.rounds.request_close(RoundId(round_id)), f"/ui/rounds/{round_id}", "closed"
    )


@router.post("/ui/clients/{client_id}/{act}")
def move_client(
    request: Request, core: Core, visitor: OperatorVisitor, form: Form, client_id: ClientName, act: str
) -> Response:
    """Approve a client, shut it out, or let it in again."""
    by, client = visitor.principal.key_id, ClientId(client_id)
    acts: dict[str, tuple[Callable[[], object], str]] = {
        "approve": (lambda: core.clients.approve(client, by=by), "approved"),
        "ban": (
            lambda: core.clients.ban(client, reason=form.get("reason") or None, with_invited=False, by=by),
            "banned",
        ),
        "unban": (lambda: core.clients.unban(client, by=by), "unbanned"),
    }
    if act not in acts:
        return render(request, "error.html", visitor, status=404, title="Not Found", message="There is no such act.")
    run, done = acts[act]
    return _act(request, visitor, run, f"/ui/clients/{client_id}", done)


@router.get("/ui/new-job")
def new_job_page(request: Request, visitor: OperatorVisitor) -> Response:
    """Show a form with a job file to change."""
    return render(request, "new_job.html", visitor, text=EXAMPLE, checked=None)


@router.post("/ui/new-job/check")
def check_job(request: Request, visitor: OperatorVisitor, form: Form) -> Response:
    """Say whether a job file could be used, without creating anything."""
    return render(request, "new_job.html", visitor, text=form.get("job", ""), checked=_check(form.get("job", "")))


@router.post("/ui/new-job")
def create_job(request: Request, core: Core, visitor: OperatorVisitor, form: Form) -> Response:
    """Create a job from a job file."""
    text = form.get("job", "")
    try:
        job = core.jobs.create(parse_job_text(text))
    except FedComputeError as error:
        notice = Notice("bad", error.message)
        return render(request, "new_job.html", visitor, status=error.status, notice=notice, text=text, checked=None)
    return RedirectResponse(f"/ui/jobs/{job.name}?did=created", status_code=303)


def _check(text: str) -> Notice:
    try:
        spec = parse_job_text(text)
        schema = spec.schema_of_model()
    except JobFileInvalid as error:
        return Notice("bad", error.message)
    return Notice(
        "good", f"{spec.name}: {schema.num_parameters:,} parameters, {spec.rounds.total} rounds. It can be created."
    )


def _act(request: Request, visitor: Session, act: Callable[[], object], back: str, done: str) -> Response:
    try:
        act()
    except FedComputeError as error:
        return render(
            request, "error.html", visitor, status=error.status, title="Not done", message=error.message, back=back
        )
    return RedirectResponse(f"{back}?did={done}", status_code=303)
