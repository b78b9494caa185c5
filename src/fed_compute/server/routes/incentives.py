"""Credit: balances with their reasons, the whole ledger for an operator, and taking back."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from fed_compute.coordinator.incentives import LONGEST_PAGE
from fed_compute.coordinator.ledger_export import COLUMNS, rows_of_ledger
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import ClientNotFound, GrantNotFound
from fed_compute.protocol.messages import ReversalRequest
from fed_compute.server.bodies import json_body
from fed_compute.server.credit_answers import (
    MICRO_TOKENS,
    IncentiveAnswer,
    IncentiveDetailsAnswer,
    IncentiveEntry,
    IncentivesAnswer,
    ReversalAnswer,
)
from fed_compute.server.dependencies import ClientName, Core, Observer, Operator
from fed_compute.server.documentation import BODY, DISK, RECORDS, STAFF, refusals, takes_json

CSV = "text/csv; charset=utf-8"
JSON = "application/json"

router = APIRouter(tags=["credit"])


@router.get("/incentives", summary="Get every client's balance", responses=refusals(*RECORDS))
def incentives(core: Core) -> IncentivesAnswer:
    """Return every registered client's balance, by client id."""
    holdings = core.incentives.holdings()
    return IncentivesAnswer(
        total_clients=len(holdings),
        total_tokens=sum(holding.micro_tokens for holding in holdings.values()) / MICRO_TOKENS,
        incentives=[
            IncentiveAnswer(
                client_id=client_id,
                total_tokens=holding.micro_tokens / MICRO_TOKENS,
                micro_tokens=holding.micro_tokens,
                pending_tokens=holding.pending / MICRO_TOKENS,
            )
            for client_id, holding in holdings.items()
        ],
    )


@router.get(
    "/incentives/export",
    summary="Get the whole ledger",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}, JSON: {}}}, **refusals(*STAFF)},
)
def export(
    core: Core,
    _: Observer,
    format: Annotated[Literal["csv", "json"], Query(description="CSV with a header line, or a JSON array.")] = "csv",
) -> StreamingResponse:
    """Return every entry of the ledger in the order of posting, one row each. For operators."""
    core.incentives.catch_up()
    pieces, kind = (_csv(core), CSV) if format == "csv" else (_json(core), JSON)
    headers = {"Content-Disposition": f'attachment; filename="ledger.{format}"', "Cache-Control": "no-store"}
    return StreamingResponse(pieces, media_type=kind, headers=headers)


@router.post(
    "/incentives/reversals",
    summary="Take back what was paid for a task",
    responses=refusals(*STAFF, *DISK, *BODY, GrantNotFound),
    openapi_extra=takes_json(ReversalRequest),
)
def reverse(
    core: Core, _: Operator, body: Annotated[ReversalRequest, Depends(json_body(ReversalRequest))]
) -> ReversalAnswer:
    """Post the opposite of each grant for the task; nothing is deleted. May be repeated. For operators."""
    reversal = core.incentives.reverse(body.task_id, note=body.note)
    return ReversalAnswer(
        client_id=reversal.client_id,
        task_id=reversal.task_id,
        tokens=reversal.micro_tokens / MICRO_TOKENS,
        micro_tokens=reversal.micro_tokens,
        repeated=reversal.is_repeated,
    )


@router.get(
    "/incentives/{client_id}",
    summary="Get one client's balance and its reasons",
    responses=refusals(*RECORDS, ClientNotFound),
)
def incentive(
    core: Core,
    client_id: ClientName,
    after: Annotated[int, Query(ge=0, le=2**53, description="Only entries after this group.")] = 0,
    limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="Entries on the page.")] = LONGEST_PAGE,
) -> IncentiveDetailsAnswer:
    """Return what one client has earned, with every reason and the numbers behind it."""
    balance = core.incentives.of(client_id, after=after, limit=limit)
    lines = balance.lines
    more = f"/incentives/{client_id}?after={lines[-1].group_id}&limit={limit}" if len(lines) == limit else None
    return IncentiveDetailsAnswer(
        client_id=balance.client_id,
        total_tokens=balance.holding.micro_tokens / MICRO_TOKENS,
        micro_tokens=balance.holding.micro_tokens,
        pending_tokens=balance.holding.pending / MICRO_TOKENS,
        recent_average=balance.recent_average,
        results_to_release=balance.results_to_release,
        entries=[
            IncentiveEntry(
                group_id=line.group_id,
                kind=line.kind,
                reason=line.reason,
                round_id=line.round_id,
                task_id=line.task_id,
                tokens=(line.settled + line.pending) / MICRO_TOKENS,
                micro_tokens=line.settled + line.pending,
                pending_tokens=line.pending / MICRO_TOKENS,
                at=line.at,
                refers_to=line.refers_to,
                terms=json.loads(line.terms),
            )
            for line in lines
        ],
        next=more,
    )


def _csv(core: Coordinator) -> Iterator[str]:
    page = io.StringIO()
    writer = csv.writer(page)
    writer.writerow(COLUMNS)
    for row in rows_of_ledger(core.store):
        writer.writerow(row)
        if page.tell() > 1 << 16:
            yield page.getvalue()
            page.seek(0)
            page.truncate()
    yield page.getvalue()


def _json(core: Coordinator) -> Iterator[str]:
    opening = "["
    for row in rows_of_ledger(core.store):
        entry: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
        yield opening + json.dumps({**entry, "terms": json.loads(entry["terms"])})
        opening = ",\n"
    yield "[]" if opening == "[" else "]"
