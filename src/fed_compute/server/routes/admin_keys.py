"""Keys, for operators; observers may look."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response

from fed_compute.coordinator.key_desk import KeyView
from fed_compute.errors import KeyEnded, KeyNotFound, LastOperatorKey
from fed_compute.ids import ClientId
from fed_compute.protocol.messages import RotateAnswer, RotateRequest
from fed_compute.server.admin_answers import (
    IssuedKeyAnswer,
    IssueRequest,
    KeyAnswer,
    KeysAnswer,
    key_answer,
    rotated,
)
from fed_compute.server.bodies import json_body, optional_json_body
from fed_compute.server.dependencies import Core, KeyName, Observer, OfClient, Operator, PageSize
from fed_compute.server.documentation import BODY, DISK, STAFF, refusals, takes_json

router = APIRouter(prefix="/admin/keys", tags=["admin"])

AfterKey = Annotated[
    str | None, Query(pattern=r"^[0-9A-Za-z]{10}$", description="Return what comes after the key of this id.")
]


@router.get("", summary="List keys, newest first", responses=refusals(*STAFF))
def list_keys(
    core: Core,
    _: Observer,
    scope: Annotated[
        Literal["client", "observer", "operator"] | None, Query(description="Only keys of this scope.")
    ] = None,
    client_id: OfClient = None,
    after: AfterKey = None,
    limit: PageSize = 100,
) -> KeysAnswer:
    """Return keys without their secrets, all or those of one scope or one client."""
    owner = None if client_id is None else ClientId(client_id)
    keys = core.keys.page(limit=limit, after=after, scope=scope, client_id=owner)
    more = keys[-1].key.key_id if len(keys) == limit else None
    return KeysAnswer(keys=[key_answer(key) for key in keys], next=more)


@router.post(
    "",
    summary="Make a key for an operator or an observer",
    status_code=201,
    responses=refusals(*STAFF, *DISK, *BODY),
    openapi_extra=takes_json(IssueRequest),
)
def issue_key(
    core: Core, by: Operator, response: Response, body: Annotated[IssueRequest, Depends(json_body(IssueRequest))]
) -> IssuedKeyAnswer:
    """Make a key and return it, once. An observer reads everything that an operator does, and changes nothing."""
    lifetime = None if body.days is None else body.days * 86_400
    issued = core.keys.issue(body.scope, label=body.label, lifetime_seconds=lifetime, by=by.key_id)
    response.headers["Cache-Control"] = "no-store"
    return IssuedKeyAnswer(**key_answer(KeyView(issued.key, "live")).model_dump(), api_key=issued.text)


@router.post(
    "/{key_id}/rotate",
    summary="Renew a key",
    responses=refusals(*STAFF, *DISK, *BODY, KeyNotFound, KeyEnded),
    openapi_extra=takes_json(RotateRequest, required=False),
)
def rotate_key(
    core: Core,
    by: Operator,
    response: Response,
    key_id: KeyName,
    body: Annotated[RotateRequest, Depends(optional_json_body(RotateRequest))],
) -> RotateAnswer:
    """Make the successor of any key and return it, once. The old one stays good for `overlap_hours`."""
    issued = core.keys.rotate(key_id, overlap_seconds=body.overlap_hours * 3600, by=by.key_id)
    response.headers["Cache-Control"] = "no-store"
    return rotated(core, issued, [key_id], body)


@router.post(
    "/{key_id}/revoke", summary="End a key now", responses=refusals(*STAFF, *DISK, KeyNotFound, LastOperatorKey)
)
def revoke_key(core: Core, by: Operator, key_id: KeyName) -> KeyAnswer:
    """End a key: its next request is refused. May be repeated. The last operator key cannot be ended."""
    return key_answer(core.keys.revoke(key_id, by=by.key_id))
