"""What people see when something is refused: a page in a browser that looks at pages, else a problem document."""

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

import anyio.to_thread
from fastapi import Request
from starlette.responses import Response

from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import AuthenticationFailed, Broken, FedComputeError
from fed_compute.server.dashboard.render import render, wants_html
from fed_compute.server.dashboard.visitors import visitor_of
from fed_compute.server.dependencies import coordinator_of
from fed_compute.server.problems import problem_response

WAYS = {
    "/ui/jobs": ("All jobs", "/ui/jobs"),
    "/ui/compare": ("All jobs", "/ui/jobs"),
    "/ui/data": ("All jobs", "/ui/jobs"),
    "/ui/rounds": ("All jobs and their rounds", "/ui/jobs"),
    "/ui/clients": ("All clients", "/ui/clients"),
    "/ui/teams": ("All teams", "/ui/leaderboard"),
    "/ui/events": ("All events", "/ui/events"),
}
"""Where what was looked for in vain can be found, by the beginning of the address."""


async def answer(request: Request, error: FedComputeError, headers: Mapping[str, str]) -> Response:
    """Return the answer for an error, with further `headers`."""
    problem = problem_response(error, headers=headers)
    if not (request.url.path.startswith("/ui/") and wants_html(request)):
        return problem
    core = await coordinator_of(request)
    page = await anyio.to_thread.run_sync(_page, core, request, error)
    page.headers.update({name: value for name, value in problem.headers.items() if name == "retry-after"})
    return page


def _page(core: Coordinator, request: Request, error: FedComputeError) -> Response:
    told = "The coordinator failed; its log says why." if isinstance(error, Broken) else error.message
    visitor = visitor_of(request, core)
    return render(
        request,
        "error.html",
        visitor,
        status=error.status,
        title=HTTPStatus(error.status).phrase,
        message=told,
        ways=ways_out(request.url.path, needs_login=isinstance(error, AuthenticationFailed)),
    )


def ways_out(path: str, *, needs_login: bool) -> tuple[tuple[str, str], ...]:
    """Return where to go on from a page that could not be shown, each as (words, address)."""
    login = (("Log in", f"/ui/login?next={quote(path, safe='/')}"),) if needs_login else ()
    found = next((way for start, way in WAYS.items() if path.startswith(start)), None)
    return (*login, *(() if found is None else (found,)), ("Overview", "/"))
