"""Registration of clients."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from fed_compute.errors import ClientNameInvalid, ClientNameTaken, RateLimited, RateStoreUnreachable
from fed_compute.protocol.messages import RegisterAnswer, RegisterRequest
from fed_compute.server.bodies import json_body
from fed_compute.server.dependencies import Core
from fed_compute.server.documentation import BODY, DISK, RECORDS, refusals, takes_json

router = APIRouter(tags=["clients"])


@router.post(
    "/client/register",
    summary="Register a client and get its key, once",
    responses=refusals(*RECORDS, *DISK, *BODY, ClientNameInvalid, ClientNameTaken, RateLimited, RateStoreUnreachable),
    openapi_extra=takes_json(RegisterRequest),
)
def register(
    core: Core,
    request: Request,
    response: Response,
    body: Annotated[RegisterRequest, Depends(json_body(RegisterRequest))],
) -> RegisterAnswer:
    """Register under `client_name`, or under a name that is made up if there is none. The name is the client's id."""
    core.rate_limiter.registration(request.client.host if request.client is not None else "unknown")
    told = body.capabilities.model_dump_json(exclude_none=True) if body.capabilities is not None else "{}"
    client_id, key = core.auth.register(body.client_name, capabilities=told)
    response.headers["Cache-Control"] = "no-store"
    return RegisterAnswer(
        success=True,
        message=f"Client {client_id} registered successfully. Save your API key!",
        client_id=client_id,
        api_key=key,
    )
