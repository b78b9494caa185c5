"""Turning what pages show into HTML: templates, filters for people, addresses of files, and strict headers."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Literal

from fastapi import Request
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse, Response

from fed_compute.coordinator.sessions import Session
from fed_compute.server.dashboard.meanings import meaning

VERSION = version("fed-compute")
STATIC = files("fed_compute.server.dashboard") / "static"
PAGES = (
    ("Overview", "/"),
    ("Jobs", "/ui/jobs"),
    ("Clients", "/ui/clients"),
    ("Leaderboard", "/ui/leaderboard"),
    ("Events", "/ui/events"),
    ("Join", "/ui/join"),
    ("My page", "/ui/me"),
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept, Cookie",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """A line at the top of a page: `kind` is `good` or `bad`."""

    kind: Literal["good", "bad"]
    text: str


DONE = {
    "closed": "The round closes.",
    "created": "The job is created; its first round is open.",
    "approved": "The client may take part.",
    "banned": "The client is shut out, and its lease is taken back.",
    "unbanned": "The client may take part again.",
    "paused": "The job is paused; no more tasks of it are given until it goes on.",
    "resumed": "The job goes on.",
    "stopped": "The job is stopped for good. Its versions stay.",
    "revoked": "The invitation opens nothing any more.",
}
"""What a page says after an act, by the word in its address."""


def render(
    request: Request,
    template: str,
    visitor: Session | None,
    *,
    status: int = 200,
    notice: Notice | None = None,
    **shown: Any,
) -> HTMLResponse:
    """Return a page. What is shown is escaped; a name that a template misses is an error."""
    if notice is None and (done := DONE.get(request.query_params.get("did", ""))) is not None:
        notice = Notice("good", done)
    text = (
        _environment()
        .get_template(template)
        .render(
            pages=PAGES,
            here=request.url.path,
            here_whole=f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path,
            version=VERSION,
            visitor=visitor,
            is_operator=visitor is not None and visitor.is_operator,
            is_staff=visitor is not None and visitor.is_staff,
            notice=notice,
            **shown,
        )
    )
    return HTMLResponse(text, status_code=status, headers=HEADERS)


def wants_html(request: Request) -> bool:
    """Say whether a request comes from a browser that wants a page, or a page that wants a part of itself anew."""
    accept = request.headers.get("accept", "")
    return "hx-request" in request.headers or ("text/html" in accept and "application/json" not in accept)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fed_compute.server.dashboard"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count, "tokens": tokens, "percent": percent, "decimal": decimal, "moment": moment,
        "duration": duration, "size": size, "place": place, "ticked": ticked, "meaning": meaning,
    }  # fmt: skip
    environment.globals["asset"] = asset
    return environment


class Assets(StaticFiles):
    """Files that pages need. Their addresses change with their contents: browsers may keep them for a year."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a file, with the headers that let it be kept."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


@cache
def asset(name: str) -> str:
    """Return the address of a file, which changes with its contents, so that browsers may keep it."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
    return f"/static/{name}?{digest[:12]}"


def count(value: int | None) -> str:
    """Write a whole number with separators."""
    return "–" if value is None else f"{value:,}"


def tokens(micro_tokens: int | None) -> str:
    """Write an amount of credit."""
    return "–" if micro_tokens is None else f"{micro_tokens / 1e6:,.2f}"


def percent(value: float | None) -> str:
    """Write a share of 1 with one decimal."""
    return "–" if value is None else f"{value:.1%}"


def decimal(value: float | None) -> str:
    """Write a number with three significant digits."""
    return "–" if value is None else f"{value:.3g}"


def size(num_bytes: float | None) -> str:
    """Write a number of bytes in the unit that suits it, of 1024 each."""
    if num_bytes is None:
        return "–"
    if num_bytes < 1024:
        return f"{num_bytes:.0f} B"
    units = ("KiB", "MiB", "GiB", "TiB")
    power = next((power for power in range(1, len(units)) if num_bytes < 1000 * 1024**power), len(units))
    amount = num_bytes / 1024**power
    return f"{amount:,.{2 if amount < 10 else 1 if amount < 100 else 0}f} {units[power - 1]}"


def place(share: float) -> str:
    """Write a place from 0 to 1 as a coordinate within a drawing: it fits whatever width the drawing has."""
    return f"{share * 100:.2f}%"


def moment(value: float | None) -> str:
    """Write a Unix time in UTC."""
    return "–" if value is None else datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ticked(seconds: float) -> str:
    """Write a round number of seconds as short as it goes."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"


def duration(seconds: float | None) -> str:
    """Write a duration in its two largest units."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
