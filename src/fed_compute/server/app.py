"""The application: every route, every layer, and what lives as long as the server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import Depends, FastAPI

from fed_compute.coordinator.journal_log import JournalLog
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.server.dashboard import (
    acts,
    api_pages,
    joining,
    live,
    new_job,
    pages,
    refusals,
    visitors,
    volunteer,
)
from fed_compute.server.dashboard import clients as client_pages
from fed_compute.server.dashboard import jobs as job_pages
from fed_compute.server.dashboard import rounds as round_pages
from fed_compute.server.dashboard.render import Assets
from fed_compute.server.dependencies import ServerState, note_path, spoken_protocol
from fed_compute.server.documentation import describe_problems
from fed_compute.server.limits import NetworkLimits
from fed_compute.server.logs import AccessLog
from fed_compute.server.news import News
from fed_compute.server.problems import UnexpectedErrors, install_problem_handlers
from fed_compute.server.routes import (
    admin_clients,
    admin_invites,
    admin_keys,
    clients,
    community,
    contribution,
    events,
    health,
    incentives,
    jobs,
    measures,
    models,
    rounds,
    tasks,
    updates,
)
from fed_compute.server.seats import Seats
from fed_compute.server.tracing import TraceRequests
from fed_compute.server.traffic import CountRequests
from fed_compute.server.uploads import Uploads

THREADS = 64
"""How many plain functions run at once. The database's pool of connections is larger."""

_PUBLIC = (
    health,
    clients,
    tasks,
    updates,
    models,
    rounds,
    measures,
    incentives,
    community,
    contribution,
    jobs,
    events,
)
_ADMIN = (admin_keys, admin_invites, admin_clients)
DASHBOARD = (pages, job_pages, round_pages, client_pages, volunteer, joining, new_job, acts, live, visitors, api_pages)
_ABOUT = """The coordinator of a federated training: machines of volunteers ask for tasks, train on their own
data, and send weight updates, which become the next model. Errors are problem documents (RFC 9457)
with a stable `code`."""


def create_app(coordinator: Coordinator) -> FastAPI:
    """Return the application around a coordinator that is open and not started.

    The application's lifespan starts the background duties and stops them. It does not close the
    coordinator: whoever opened it does.
    """
    settings = coordinator.settings
    seats = Seats(per_client=settings.uploads_per_client, in_all=settings.uploads_at_once)
    coordinator.store.on_entries(JournalLog(coordinator.store).write)
    state = ServerState(coordinator, News(coordinator), Uploads(coordinator), seats)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        await anyio.to_thread.run_sync(coordinator.start)
        try:
            async with state.news.running():
                yield
        finally:
            await anyio.to_thread.run_sync(coordinator.stop)

    app = FastAPI(
        title="fed-compute",
        summary="Open federated learning on volunteer and edge machines",
        description=_ABOUT,
        version=health.VERSION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(spoken_protocol), Depends(note_path)],
        # The framework's own telemetry would tell whole queries, in which old clients send their keys.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.server = state
    for room in (*_PUBLIC, *_ADMIN, *DASHBOARD):
        app.include_router(room.router)
    app.mount("/static", Assets(packages=[("fed_compute.server.dashboard", "static")]), name="static")
    install_problem_handlers(app, refusals.answer)
    describe_problems(app)
    app.add_middleware(NetworkLimits, coordinator=coordinator)
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(AccessLog, trusted=settings.trusted_proxies)
    app.add_middleware(TraceRequests)
    app.add_middleware(CountRequests, instruments=state.instruments)
    return app
