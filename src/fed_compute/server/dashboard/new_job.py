"""The form for a new job: a job file with fields beside it, checked while it is written."""

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from fed_compute.coordinator.sessions import Session
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import FedComputeError, JobFileInvalid
from fed_compute.protocol.job import parse_job_text
from fed_compute.server.dashboard.job_form import FIELDS, GROUPS, Draft, fields_of
from fed_compute.server.dashboard.render import Notice, render, size
from fed_compute.server.dashboard.visitors import Form, OperatorVisitor
from fed_compute.server.dependencies import Core

EXAMPLE = """\
name = "my-job"
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
rule = "robust"   # bears a fifth of liars
"""

router = APIRouter(include_in_schema=False)


@router.get("/ui/new-job")
def new_job_page(request: Request, core: Core, visitor: OperatorVisitor) -> Response:
    """Show the form with a job file to change."""
    return _page(request, visitor, Draft.of_text(EXAMPLE), _check(core, EXAMPLE))


@router.post("/ui/new-job/check")
def check_job(request: Request, core: Core, visitor: OperatorVisitor, form: Form) -> Response:
    """Bring file and fields together and say whether the job could be created, without creating anything."""
    draft = _draft(form)
    try:
        draft = draft.settled(in_fields=request.headers.get("hx-trigger") == "fields")
        checked = _check(core, draft.text)
    except JobFileInvalid as error:
        checked = Notice("bad", error.message)
    return _page(request, visitor, draft, checked)


@router.post("/ui/new-job")
def create_job(request: Request, core: Core, visitor: OperatorVisitor, form: Form) -> Response:
    """Create the job."""
    draft = _draft(form)
    try:
        draft = draft.settled(in_fields=False)
        job = core.jobs.create(parse_job_text(draft.text))
    except FedComputeError as error:
        return _page(request, visitor, draft, Notice("bad", error.message), status=error.status)
    return RedirectResponse(f"/ui/jobs/{job.name}?did=created", status_code=303)


def _page(request: Request, visitor: Session, draft: Draft, checked: Notice, *, status: int = 200) -> Response:
    return render(request, "new_job.html", visitor, status=status, groups=GROUPS, draft=draft, checked=checked)


def _draft(form: dict[str, str]) -> Draft:
    """Return what was sent; a form of the file alone has the fields that the example has, which nobody changed."""
    text, base = (form.get(name, "").replace("\r\n", "\n") for name in ("job", "base"))
    base = base or EXAMPLE
    untouched = fields_of(base)
    return Draft(text, {field.key: form.get(field.name, untouched[field.key]) for field in FIELDS}, base)


def _check(core: Coordinator, text: str) -> Notice:
    try:
        spec = parse_job_text(text)
        schema = spec.schema_of_model()
    except JobFileInvalid as error:
        return Notice("bad", error.message)
    if spec.name in {job.name for job in core.jobs.all()}:
        return Notice("bad", f"There is a job {spec.name!r} already; choose another name.")
    return Notice(
        "good",
        f"{spec.name} can be created: {schema.num_parameters:,} parameters ({size(4 * schema.num_parameters)} as "
        f"float32), {spec.rounds.total:,} rounds of {spec.rounds.target_updates:,} updates.",
    )
