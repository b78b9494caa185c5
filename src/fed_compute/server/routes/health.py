"""Who is here, is it alive, is it ready."""

from importlib.metadata import version

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from fed_compute.coordinator.queries import live_round
from fed_compute.errors import JobNotFound
from fed_compute.ids import format_version
from fed_compute.server.answers import HealthAnswer, ProtocolRange, ServiceAnswer
from fed_compute.server.dashboard.pages import overview
from fed_compute.server.dashboard.render import wants_html
from fed_compute.server.dashboard.visitors import Visitor
from fed_compute.server.dependencies import HIGHEST_PROTOCOL, LOWEST_PROTOCOL, State
from fed_compute.server.documentation import RECORDS, refusals

VERSION = version("fed-compute")
LINKS = {
    "documentation": "/docs",
    "jobs": "/jobs",
    "metrics": "/metrics",
    "reputation": "/reputation",
    "incentives": "/incentives",
    "leaderboard": "/leaderboard",
    "teams": "/teams",
    "events": "/events",
    "health": "/healthz",
    "readiness": "/readyz",
}

router = APIRouter(tags=["health"])


@router.get(
    "/",
    summary="Say who is here",
    response_model=ServiceAnswer,
    responses={200: {"content": {"text/html": {}}}, **refusals(*RECORDS)},
)
def front(request: Request, state: State, visitor: Visitor) -> Response:
    """Return name, version, protocol and the default job's present round; browsers get the dashboard."""
    if wants_html(request):
        return overview(request, state.coordinator, visitor)
    return JSONResponse(service(state).model_dump(mode="json"), headers={"Vary": "Accept"})


def service(state: State) -> ServiceAnswer:
    """Return name, version, protocol and the default job's present round; None where there is no job yet."""
    core = state.coordinator
    name = round_id = model_version = None
    try:
        job = core.jobs.default()
        live = live_round(core.store, job.job_id)
        name, round_id = job.name, None if live is None else live.round_id
        model_version = format_version(core.jobs.version(job, "latest").version)
    except JobNotFound:
        pass  # a coordinator without a job is healthy
    return ServiceAnswer(
        name="fed-compute",
        version=VERSION,
        status="draining" if state.news.closing else "running",
        protocol=ProtocolRange(lowest=LOWEST_PROTOCOL, highest=HIGHEST_PROTOCOL),
        job=name,
        round_id=round_id,
        model_version=model_version,
        links=LINKS,
    )


@router.get("/healthz", summary="Is the process alive", responses=refusals())
async def healthz() -> HealthAnswer:
    """Answer as long as the event loop runs."""
    return HealthAnswer(status="alive")


@router.get(
    "/readyz",
    summary="Should requests be sent here",
    responses={503: {"model": HealthAnswer, "description": "Draining, or a background duty fails"}, **refusals()},
)
async def readyz(state: State, response: Response) -> HealthAnswer:
    """Answer 503 while the server stops, and while a background duty fails."""
    failing = sorted(state.coordinator.worker.failing())
    status = "draining" if state.news.closing else "failing" if failing else "ready"
    response.status_code = 200 if status == "ready" else 503
    return HealthAnswer(status=status, failing=failing)
