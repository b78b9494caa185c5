"""Pages that anybody may read."""

import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import HTMLResponse

from fed_compute.coordinator.overview import JobStanding, course_of, standing_of_job, standings_of_jobs, updates_since
from fed_compute.coordinator.queries import population
from fed_compute.coordinator.recipes import spec_of
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.server.dashboard.render import render
from fed_compute.server.dependencies import Core, JobName

LATELY_SECONDS = 60.0

router = APIRouter(include_in_schema=False)


def overview(request: Request, core: Coordinator) -> HTMLResponse:
    """Show every job, who is here, and what was refused."""
    jobs, totals, now = standings_of_jobs(core.store), core.metrics.totals(), core.clock.now()
    refusals = {kind.removeprefix("refused:"): n for kind, n in totals.items() if kind.startswith("refused:")}
    return render(
        request,
        "overview.html",
        jobs=jobs,
        totals=totals,
        clients=population(core.store, seen_since=now - core.settings.active_seconds),
        live_rounds=sum(standing.live is not None for standing in jobs),
        working=sum(standing.live.num_leased for standing in jobs if standing.live is not None),
        updates_lately=updates_since(core.store, now - LATELY_SECONDS),
        refused=sum(refusals.values()),
        refusals=sorted(refusals.items(), key=lambda item: -item[1]),
    )


@router.get("/ui/jobs/{name}")
def job(request: Request, core: Core, name: JobName) -> HTMLResponse:
    """Show one job: how it stands, its curves, its rounds, its recipe."""
    standing = standing_of_job(core.store, core.jobs.named(name))
    return render(
        request,
        "job.html",
        standing=standing,
        points=course_of(core.store, standing.job.job_id),
        recipe=_recipe(standing),
    )


@router.get("/ui/data/jobs/{name}")
def course(core: Core, name: JobName) -> JSONResponse:
    """Return the columns that a job's charts are drawn from."""
    points = course_of(core.store, core.jobs.named(name).job_id)
    names = ("accuracy", "loss", "train_loss", "num_updates")
    columns: dict[str, list[Any]] = {"round": [point.number for point in points]}
    columns |= {column: [getattr(point, column) for point in points] for column in names}
    return JSONResponse(columns, headers={"Cache-Control": "no-store"})


def _recipe(standing: JobStanding) -> str:
    return json.dumps(spec_of(standing.job).model_dump(mode="json", exclude_defaults=True), indent=2)
