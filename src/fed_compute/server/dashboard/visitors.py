"""Who looks at a page: logging in and out, and what must be true of a form before it acts."""

import hmac
import re
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from fed_compute.coordinator.sessions import SESSION_SECONDS, Session
from fed_compute.errors import AuthenticationFailed, ClientBanned, PermissionDenied, RequestInvalid
from fed_compute.server.bodies import read_body, require_type
from fed_compute.server.dashboard.render import Notice, render
from fed_compute.server.dependencies import Core
from fed_compute.server.limits import charge_sender, note_failure, sender_network

PLAIN = r"^[^\x00]*$"
"""What text in an address looks like: no database keeps a NUL."""

SESSION_COOKIE = "fed-compute-session"
FORM = "application/x-www-form-urlencoded"
LONGEST_FORM_BYTES = 256 << 10
MOST_FIELDS = 100
_OWN_PAGE = re.compile(r"/(ui/[A-Za-z0-9._/-]{0,200})?")

router = APIRouter(include_in_schema=False)


def visitor_of(request: Request, core: Core) -> Session | None:
    """Return who is logged in; a session that has ended is nobody."""
    token = request.cookies.get(SESSION_COOKIE)
    if not token:
        return None
    try:
        session = core.sessions.read(token)
    except (AuthenticationFailed, ClientBanned):
        return None
    charge_sender(core, request, session.principal.client_id or f"key:{session.principal.key_id}")
    return session


Visitor = Annotated[Session | None, Depends(visitor_of)]


async def form_of(request: Request, visitor: Visitor) -> dict[str, str]:
    """Return the fields of a form that was sent from one of our own pages by whoever is logged in.

    Raises:
        AuthenticationFailed: if nobody is logged in, or the form is not from a page of this session.
    """
    fields = await _fields(request)
    if visitor is None or not hmac.compare_digest(fields.get("form_secret", "").encode(), visitor.form_secret.encode()):
        raise AuthenticationFailed("this form is not from a page of your session; open the page again and repeat it")
    return fields


Form = Annotated[dict[str, str], Depends(form_of)]


def operator_of(visitor: Visitor) -> Session:
    """Let only a logged-in operator pass.

    Raises:
        AuthenticationFailed, PermissionDenied: for everybody else.
    """
    if visitor is None:
        raise AuthenticationFailed("log in with an operator's key first")
    if not visitor.is_operator:
        raise PermissionDenied(scope="operator")
    return visitor


OperatorVisitor = Annotated[Session, Depends(operator_of)]


@router.get("/ui/login")
def login_page(request: Request, visitor: Visitor) -> Response:
    """Show the form that takes a key, and goes on to the page `next`."""
    return render(request, "login.html", visitor, next=own_page(request.query_params.get("next", "/")))


@router.post("/ui/login")
async def login(request: Request, core: Core) -> Response:
    """Exchange a key for a session. The key is kept nowhere."""
    _require_own_origin(request)
    fields = await _fields(request)
    key, goes_on = fields.get("key", "").strip(), own_page(fields.get("next", "/"))
    try:
        token = core.sessions.open(key)
        is_client = core.sessions.read(token).principal.client_id is not None
    except (AuthenticationFailed, ClientBanned) as error:
        note_failure(core, sender_network(request))
        notice = Notice("bad", f"This key opens nothing here: {error.message}")
        return render(request, "login.html", None, status=401, notice=notice, next=goes_on)
    response = RedirectResponse("/ui/me" if is_client and goes_on == "/" else goes_on, status_code=303)
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
    )
    return response


@router.post("/ui/logout")
def logout(form: Form) -> Response:
    """Forget the session."""
    response = RedirectResponse("/", status_code=303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


def own_page(path: str) -> str:
    """Return an address if it is one of our pages, else that of the overview: nobody is led elsewhere."""
    return path if _OWN_PAGE.fullmatch(path) else "/"


async def _fields(request: Request) -> dict[str, str]:
    require_type(request, FORM)
    body = await read_body(request, limit=LONGEST_FORM_BYTES)
    try:
        fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise RequestInvalid(f"the form has more than {MOST_FIELDS} fields") from error
    return {name: value.replace("\x00", "\N{REPLACEMENT CHARACTER}") for name, value in fields}


def _require_own_origin(request: Request) -> None:
    """Check that a form without a session comes from our own page.

    Raises:
        AuthenticationFailed: if a browser says that it comes from another site.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise AuthenticationFailed("this form comes from another site; open the page here")
