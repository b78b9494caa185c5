"""The API for people: Swagger UI to try calls, ReDoc to read. Every byte comes from here, under a strict policy."""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from fed_compute.server.dashboard.render import POLICY, render

TRY_POLICY = POLICY.replace("img-src 'self'", "img-src 'self' data:")
"""Swagger UI sets styles through the CSSOM, which a policy allows; its icons are data URLs within its style sheet."""

_REDOC_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"
)
READ_POLICY = TRY_POLICY.replace("style-src 'self'", f"style-src 'self' {_REDOC_STYLES}") + "; worker-src blob:"
"""ReDoc makes two style elements, known by their hashes: an empty one, which it fills through the CSSOM, and that of
its scroll bars. Its search runs in a worker that it makes from a blob, under the same policy as the page."""

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def try_it(request: Request) -> HTMLResponse:
    """Show every call, with a form to try it."""
    return _page(request, "api_try.html", TRY_POLICY)


@router.get("/redoc")
def read(request: Request) -> HTMLResponse:
    """Show every call on one long page, with a table of contents and a search."""
    return _page(request, "api_read.html", READ_POLICY)


def _page(request: Request, template: str, policy: str) -> HTMLResponse:
    page = render(request, template, None)
    page.headers["Content-Security-Policy"] = policy
    return page
