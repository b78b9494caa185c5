"""Pages about jobs: the list, one job, several over each other, and what charts and downloads take from them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import StringConstraints
from starlette.responses import HTMLResponse, Response

from fed_compute.coordinator.comparison import differences
from fed_compute.coordinator.overview import course_of, jobs_in_view, lineage_of, rounds_of, standings_of
from fed_compute.coordinator.recipes import spec_of
from fed_compute.server.dashboard.job_form import job_text
from fed_compute.server.dashboard.render import Notice, render
from fed_compute.server.dashboard.visitors import PLAIN, Visitor
from fed_compute.server.dependencies import MAX_ROUND_ID, Core, JobName
from fed_compute.server.routes.models import model_file

PAGE_LENGTH = 50
JOBS_ON_PAGE = 25
MOST_COMPARED = 4
SIGNIFICANT = ".6g"

Before = Annotated[int | None, Query(ge=1, le=MAX_ROUND_ID)]
Offset = Annotated[int, Query(ge=0, le=2**31)]
Names = Annotated[list[Annotated[str, StringConstraints(max_length=64, pattern=PLAIN)]], Query(max_length=20)]
VersionName = Annotated[str, Path(pattern=r"^v[1-9][0-9]{0,8}$", description="Like v3.")]

router = APIRouter(include_in_schema=False)


@router.get("/ui/jobs")
def jobs(request: Request, core: Core, visitor: Visitor, offset: Offset = 0) -> HTMLResponse:
    """Show every job in short, those that go on first."""
    found = jobs_in_view(core.store)
    return render(
        request,
        "jobs.html",
        visitor,
        jobs=standings_of(core.store, found[offset : offset + JOBS_ON_PAGE]),
        num_jobs=len(found),
        more=offset + JOBS_ON_PAGE if offset + JOBS_ON_PAGE < len(found) else None,
        offset=offset,
    )


@router.get("/ui/jobs/{name}")
def job(
    request: Request, core: Core, visitor: Visitor, name: JobName, before: Before = None, versions_before: Before = None
) -> HTMLResponse:
    """Show one job: how it stands, its curves, its rounds and versions in pages, its recipe."""
    found = core.jobs.named(name)
    (standing,) = standings_of(core.store, [found])
    points = rounds_of(core.store, found.job_id, limit=PAGE_LENGTH, before=before)
    versions = lineage_of(core.store, found.job_id, limit=PAGE_LENGTH, before=versions_before)
    return render(
        request,
        "job.html",
        visitor,
        standing=standing,
        points=points,
        older=points[0].round_id if len(points) == PAGE_LENGTH else None,
        is_newest=before is None and versions_before is None,
        versions=versions,
        older_versions=versions[-1].version if versions and versions[-1].version > 1 else None,
        recipe=job_text(spec_of(found)),
        others=[other.name for other in jobs_in_view(core.store) if other.name != name][:200],
    )


@router.get("/ui/jobs/{name}/model/{version}")
def download(request: Request, core: Core, name: JobName, version: VersionName) -> Response:
    """Send a model version as a file to keep."""
    found = core.jobs.named(name)
    digest = core.jobs.version(found, version).digest
    headers = {"Content-Disposition": f'attachment; filename="{found.name}-{version}.safetensors"'}
    return model_file(request, core, digest, {**headers, "Cache-Control": "public, max-age=31536000, immutable"})


@router.get("/ui/data/jobs/{name}")
def course(core: Core, name: JobName) -> JSONResponse:
    """Return the columns that a job's charts are drawn from: its closed rounds, thinned to what a chart can show."""
    found = core.jobs.named(name)
    drawn = course_of(core.store, found.job_id)
    columns: dict[str, Any] = {"job": found.name, "rounds": drawn.num_rounds}
    columns["round"] = [point.number for point in drawn.points]
    for column in ("accuracy", "loss", "train_loss", "num_updates"):
        columns[column] = [_short(getattr(point, column)) for point in drawn.points]
    return JSONResponse(columns, headers={"Cache-Control": "no-store"})


@router.get("/ui/compare")
def compare(request: Request, core: Core, visitor: Visitor, job: Names = []) -> HTMLResponse:  # noqa: B006
    """Show jobs over each other: their curves, and where their recipes differ."""
    wanted = list(dict.fromkeys(name for name in job if name))
    chosen = [core.jobs.named(name) for name in wanted[:MOST_COMPARED]]
    notice = Notice("bad", f"At most {MOST_COMPARED} jobs fit over each other; the first are shown.")
    return render(
        request,
        "compare.html",
        visitor,
        notice=notice if len(wanted) > MOST_COMPARED else None,
        jobs=standings_of(core.store, chosen),
        rows=differences([spec_of(one) for one in chosen]),
        names=[one.name for one in jobs_in_view(core.store)],
        places=range(max(2, min(MOST_COMPARED, len(chosen) + 1))),
    )


def _short(value: float | None) -> float | None:
    return None if value is None else float(format(value, SIGNIFICANT))
