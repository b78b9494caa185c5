"""What each client contributed to a round, and what others found when they looked at its update."""

from typing import Annotated

from fastapi import APIRouter, Query

from fed_compute.errors import ContributionUnavailable, RoundNotFound
from fed_compute.server.credit_answers import AuditAnswer, AuditsAnswer, ContributionAnswer, ContributionsAnswer
from fed_compute.server.dependencies import Core, RoundNumber
from fed_compute.server.documentation import BLOBS, RECORDS, refusals

router = APIRouter(tags=["rounds"])


@router.get(
    "/rounds/{round_id}/contribution",
    summary="Get what each client contributed to a round",
    responses=refusals(*RECORDS, *BLOBS, RoundNotFound, ContributionUnavailable),
)
def contribution(
    core: Core,
    round_id: RoundNumber,
    exact: Annotated[bool, Query(description="Work out the exact Shapley value too; up to 8 updates.")] = False,
) -> ContributionsAnswer:
    """Return each update's pull along with the others, from the updates alone. It says who agrees, not who is right."""
    views = core.contributions.of_round(round_id, exact=exact)
    return ContributionsAnswer(
        round_id=round_id,
        measure="cosine to the sum of all updates, each of length 1",
        num_updates=len(views),
        contributions=[
            ContributionAnswer(
                client_id=view.part.client_id,
                update_id=view.part.update_id,
                cosine=view.part.cosine,
                cosine_to_others=view.part.to_others,
                share=view.part.share,
                leave_one_out=view.leave_one_out,
                shapley=view.shapley,
            )
            for view in views
        ],
    )


@router.get(
    "/rounds/{round_id}/audits",
    summary="Get the audits of a round's updates",
    responses=refusals(*RECORDS, RoundNotFound),
)
def audits(core: Core, round_id: RoundNumber) -> AuditsAnswer:
    """Return which updates of a round others looked at, and what they found."""
    return AuditsAnswer(
        round_id=round_id,
        audits=[
            AuditAnswer(
                audit_id=view.audit.audit_id,
                update_id=view.audit.update_id,
                client_id=view.audit.client_id,
                auditors=view.audit.auditors,
                reported=view.reported,
                opened_at=view.audit.opened_at,
                closed_at=view.audit.closed_at,
                verdict=view.audit.verdict,
                score=view.audit.score,
            )
            for view in core.audits.of_round(round_id)
        ],
    )
