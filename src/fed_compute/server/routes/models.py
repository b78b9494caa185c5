"""Models: as JSON for small ones, as the raw file for all."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from fed_compute.coordinator.recipes import schema_of
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import JobNotFound, ModelTooLargeForJson, RangeNotSatisfiable, VersionNotFound
from fed_compute.ids import Digest, format_version
from fed_compute.protocol.digests import format_content_digest
from fed_compute.protocol.messages import SAFETENSORS, ModelAnswer
from fed_compute.protocol.models import decode_model
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.server.dependencies import Core, OfJob
from fed_compute.server.documentation import BLOBS, RECORDS, binary, refusals
from fed_compute.server.ranges import Span, accepts, is_known, requested_span

_PIECE_BYTES = 256 << 10
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_RAW = {SAFETENSORS: {"schema": binary()}}

router = APIRouter(tags=["models"])


@router.head("/model/{version}", include_in_schema=False)
@router.get(
    "/model/{version}",
    summary="Get a model version",
    response_model=ModelAnswer,
    responses={
        200: {"content": _RAW, "description": "JSON, or the file if `Accept` names it"},
        206: {"content": _RAW, "description": "A part of the file"},
        304: {"description": "The client has it"},
        **refusals(*RECORDS, *BLOBS, JobNotFound, VersionNotFound, ModelTooLargeForJson, RangeNotSatisfiable),
    },
)
def get_model(
    request: Request,
    core: Core,
    version: Annotated[str, Path(pattern=r"^(v[1-9][0-9]{0,8}|latest)$", description="Like v3, or `latest`.")],
    job: OfJob = None,
) -> Response:
    """Return the weights by tensor name as nested lists, or with `Accept: application/vnd.safetensors` the file.

    The file has its SHA-256 as a strong `ETag`, takes `Range`, and never changes.
    """
    found_job = core.jobs.named(job)
    found, schema = core.jobs.version(found_job, version), schema_of(found_job)
    caching = _ASK_AGAIN if version == "latest" else _FOREVER
    named = format_version(found.version)
    if accepts(request.headers.get("accept"), SAFETENSORS):
        return model_file(request, core, found.digest, {"Cache-Control": caching, "Fed-Compute-Version": named})
    if schema.num_parameters > core.settings.json_max_parameters:
        raise ModelTooLargeForJson(num_parameters=schema.num_parameters, limit=core.settings.json_max_parameters)
    answer = ModelAnswer(
        model_version=named,
        job=found_job.name,
        digest=found.digest,
        parent=None if found.parent is None else format_version(found.parent),
        round_id=found.round_id,
        num_parameters=schema.num_parameters,
        weights=weights_as_json(core, found.digest, schema),
    )
    return JSONResponse(answer.model_dump(), headers={"Cache-Control": caching, "Vary": "Accept"})


def weights_as_json(core: Coordinator, digest: Digest, schema: ParameterSchema) -> dict[str, Any]:
    """Return a model's weights by tensor name as nested lists; every float32 comes through exactly."""
    tensors = schema.split(decode_model(core.models.get(digest), schema))
    return {name: tensor.tolist() for name, tensor in tensors.items()}


def model_file(request: Request, core: Coordinator, digest: Digest, headers: dict[str, str]) -> Response:
    """Return a model's safetensors file, or the part of it that was asked for, with further `headers`.

    Raises:
        RangeNotSatisfiable: if there is no such part.
    """
    etag = f'"{digest}"'
    headers |= {"ETag": etag, "Vary": "Accept"}
    if is_known(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    body = core.models.get(digest)
    span = requested_span(request.headers, size=len(body), etag=etag)
    headers |= {"Accept-Ranges": "bytes", "Repr-Digest": format_content_digest(digest)}
    if span is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{len(body)}"
    sent = span or Span(0, len(body))
    headers["Content-Length"] = str(sent.end - sent.start)
    status = 200 if span is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=SAFETENSORS)
    return StreamingResponse(_pieces(body, sent), status_code=status, headers=headers, media_type=SAFETENSORS)


async def _pieces(body: bytes, span: Span) -> AsyncIterator[bytes]:
    """Yield a part of the file, piece by piece, so that a slow reader holds one piece and not the whole."""
    for start in range(span.start, span.end, _PIECE_BYTES):
        yield body[start : min(start + _PIECE_BYTES, span.end)]
