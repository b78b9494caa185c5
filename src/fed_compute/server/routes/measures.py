"""Metrics and reputation: what the readers of the journal have counted."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from fed_compute.coordinator.queries import population
from fed_compute.coordinator.reputation import PartView, Reputation
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import ClientNotFound, JobNotFound, RoundNotFound
from fed_compute.server.answers import MetricsAnswer
from fed_compute.server.credit_answers import (
    BeliefAnswer,
    QuotaAnswer,
    ReasonAnswer,
    ReputationAnswer,
    ReputationsAnswer,
)
from fed_compute.server.dependencies import ClientName, Core, RoundNumber, ServerState, State
from fed_compute.server.documentation import RECORDS, refusals
from fed_compute.server.prometheus import OPENMETRICS, PLAIN_TEXT, exposition
from fed_compute.server.ranges import accepts

router = APIRouter(tags=["measures"])


@router.get(
    "/metrics",
    summary="Get all metrics",
    response_model=MetricsAnswer,
    responses={
        200: {"content": {PLAIN_TEXT: {}, OPENMETRICS: {}}, "description": "JSON, or text if `Accept` names it"},
        **refusals(*RECORDS),
    },
)
def metrics(request: Request, state: State) -> Response:
    """Return counts of the whole system and of each round; for Prometheus as text, if `Accept` asks for that."""
    accept = request.headers.get("accept")
    if accepts(accept, PLAIN_TEXT) or accepts(accept, OPENMETRICS):
        return _text(state, accept)
    return JSONResponse(_all_metrics(state.coordinator).model_dump(), headers={"Vary": "Accept"})


@router.get(
    "/metrics/prometheus",
    summary="Get all metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {PLAIN_TEXT: {}, OPENMETRICS: {}}, "description": "OpenMetrics if `Accept` names it"},
        **refusals(*RECORDS),
    },
)
def prometheus_metrics(request: Request, state: State) -> Response:
    """Return the metrics as text, whatever `Accept` says: Prometheus' format, or OpenMetrics if that is asked for."""
    return _text(state, request.headers.get("accept"))


def _text(state: ServerState, accept: str | None) -> Response:
    text, kind = exposition(state, accept=accept or "")
    return Response(text, headers={"Content-Type": kind, "Vary": "Accept", "Cache-Control": "no-store"})


def _all_metrics(core: Coordinator) -> MetricsAnswer:
    rounds = core.metrics.rounds()
    clients = population(core.store, seen_since=core.clock.now() - core.settings.active_seconds)
    accepted = sum(r.updates_accepted for r in rounds)
    refused = sum(r.updates_refused for r in rounds)
    late = sum(r.updates_late for r in rounds)
    return MetricsAnswer(
        total_rounds=len(rounds),
        rounds_closed=sum(r.state == "CLOSED" for r in rounds),
        rounds_abandoned=sum(r.state == "ABANDONED" for r in rounds),
        total_clients=clients.registered,
        active_clients=clients.active,
        total_updates=accepted + refused + late,
        updates_accepted=accepted,
        updates_refused=refused,
        updates_late=late,
        bytes_received=sum(r.bytes_received for r in rounds),
        events=core.metrics.totals(),
        rounds=[r.summary() for r in rounds],
    )


@router.get("/metrics/latest", summary="Get the latest round's metrics", responses=refusals(*RECORDS, JobNotFound))
def latest_metrics(core: Core) -> dict[str, Any]:
    """Return the newest round in which a task was handed out; before the first task, the newest round."""
    core.jobs.default()  # without any job there is no round either, and this says so
    return core.metrics.latest().summary()


@router.get("/metrics/round/{round_id}", summary="Get one round's metrics", responses=refusals(*RECORDS, RoundNotFound))
def round_metrics(core: Core, round_id: RoundNumber) -> dict[str, Any]:
    """Return what happened in one round."""
    return core.metrics.round(round_id).summary()


@router.get("/reputation", summary="Get every client's reputation", responses=refusals(*RECORDS))
def reputations(core: Core) -> ReputationsAnswer:
    """Return every registered client's reputation, by client id."""
    known = [_reputation(item) for item in core.reputation.all()]
    return ReputationsAnswer(total_clients=len(known), reputations=known)


@router.get(
    "/reputation/{client_id}", summary="Get one client's reputation", responses=refusals(*RECORDS, ClientNotFound)
)
def reputation(core: Core, client_id: ClientName) -> ReputationAnswer:
    """Return one client's reputation."""
    return _reputation(core.reputation.of(client_id))


def _reputation(item: Reputation) -> ReputationAnswer:
    measures, standing = item.measures, item.standing
    return ReputationAnswer(
        client_id=item.client_id,
        reputation_score=measures.reputation_score,
        reputation_lower_bound=measures.reputation_lower_bound,
        update_submission_rate=measures.update_submission_rate,
        update_acceptance_rate=measures.update_acceptance_rate,
        round_dropout_rate=measures.round_dropout_rate,
        consistency_score=measures.consistency_score,
        mean_latency_seconds=measures.mean_latency_seconds,
        tasks_assigned=standing.tasks_assigned,
        updates_accepted=standing.updates_accepted,
        updates_refused=standing.updates_refused,
        updates_late=standing.updates_late,
        dropouts=standing.dropouts,
        streak=standing.streak,
        phase="newcomer" if standing.is_newcomer else "established",
        valid_in_a_row=standing.valid_in_a_row,
        **{name: _belief(part) for name, part in item.parts.items()},
        quota=QuotaAnswer(per_day=standing.quota.per_day, used_today=item.used_today),
        audits_passed=standing.audits_passed,
        audits_failed=standing.audits_failed,
        audit_probability=item.audit_probability,
        may_audit=item.may_audit,
    )


def _belief(part: PartView) -> BeliefAnswer:
    return BeliefAnswer(
        score=part.score,
        lower_bound=part.lower_bound,
        good=part.good,
        bad=part.bad,
        reasons=[
            ReasonAnswer(
                event=reason.event,
                outcome=reason.outcome,
                weight=reason.weight,
                at=reason.at,
                round_id=reason.round_id,
            )
            for reason in part.reasons
        ],
    )
