"""The four policies of registration, and what an invitation changes about them."""

import pytest

from fed_compute.coordinator.invites import Terms
from fed_compute.coordinator.registration import RegistrationPolicy
from fed_compute.errors import (
    ClientNameInvalid,
    ClientPending,
    InviteInvalid,
    InviteRequired,
    ProofOfWorkRequired,
    SettingInvalid,
)
from fed_compute.ids import ClientId
from fed_compute.protocol.messages import Proof
from fed_compute.protocol.proof_of_work import solve
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand

POLICIES = [policy.value for policy in RegistrationPolicy]
BITS = 8


def proof_for(asked: ProofOfWorkRequired) -> Proof:
    solution = solve(asked.challenge, difficulty_bits=asked.difficulty_bits)
    assert solution is not None
    return Proof(challenge=asked.challenge, solution=solution)


def challenge(stand: Stand) -> ProofOfWorkRequired:
    """Ask for a challenge as a newcomer gets it."""
    with pytest.raises(ProofOfWorkRequired) as asked:
        stand.core.registrar.register("anna")
    return asked.value


def test_where_the_door_is_open_a_name_is_enough(open_stand: OpenStand) -> None:
    registered = open_stand().core.registrar.register("anna")
    assert (registered.client_id, registered.is_pending) == ("anna", False)


def test_by_invitation_only_nobody_else_comes_in(open_stand: OpenStand) -> None:
    stand = open_stand(registration="invite")
    with pytest.raises(InviteRequired, match="join URL --invite"):
        stand.core.registrar.register("anna")
    assert stand.journal("client_registered") == []


def test_by_approval_a_client_waits_until_an_operator_lets_it_in(open_stand: OpenStand) -> None:
    stand = open_stand(registration="approval")
    registered = stand.core.registrar.register("anna")
    assert registered.is_pending
    with pytest.raises(ClientPending):
        stand.core.auth.require_client(registered.key, "anna")
    stand.core.clients.approve(ClientId("anna"), by="ops")
    assert stand.core.auth.require_client(registered.key, "anna") == "anna"


def test_by_proof_of_work_the_refusal_brings_all_that_is_needed(open_stand: OpenStand) -> None:
    stand = open_stand(registration="proof-of-work", difficulty_bits=BITS)
    asked = challenge(stand)
    assert asked.difficulty_bits == BITS
    assert asked.details["expires_at"] == pytest.approx(stand.clock.now() + 600, abs=1)
    assert all(word in asked.message for word in (asked.challenge, "SHA-256", "8 zero bits", '"proof"'))
    registered = stand.core.registrar.register("anna", proof=proof_for(asked))
    assert stand.core.auth.require_client(registered.key, "anna") == "anna"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_good_invitation_opens_under_every_policy(open_stand: OpenStand, policy: str) -> None:
    stand = open_stand(registration=policy)
    text = stand.core.invites.create(Terms(), by="ops").text
    registered = stand.core.registrar.register("anna", invite=text)
    assert stand.core.auth.require_client(registered.key, "anna") == "anna"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_bad_invitation_is_refused_under_every_policy(open_stand: OpenStand, policy: str) -> None:
    """Who shows one wants its quota and its inviter; letting him in without would hide the mistake."""
    stand = open_stand(registration=policy)
    with pytest.raises(InviteInvalid):
        stand.core.registrar.register("anna", invite="inv_wrong")
    assert stand.journal("client_registered") == []


@pytest.mark.parametrize("setting", [{"registration": "closed"}, {"difficulty_bits": 0}, {"difficulty_bits": 33}])
def test_a_policy_that_cannot_be_understood_stops_the_start(open_stand: OpenStand, setting: dict[str, object]) -> None:
    with pytest.raises(SettingInvalid):
        open_stand(**setting)


class TestProofOfWork:
    """What a challenge promises: good once, for ten minutes, and only if the coordinator made it."""

    @pytest.fixture
    def stand(self, open_stand: OpenStand) -> Stand:
        return open_stand(registration="proof-of-work", difficulty_bits=BITS)

    def refused(self, stand: Stand, proof: Proof, found: str) -> None:
        with pytest.raises(ProofOfWorkRequired, match=found) as again:
            stand.core.registrar.register("bob", proof=proof)
        assert again.value.challenge != proof.challenge, "a fresh challenge comes with every refusal"

    def test_a_proof_is_good_once(self, stand: Stand) -> None:
        proof = proof_for(challenge(stand))
        stand.core.registrar.register("anna", proof=proof)
        self.refused(stand, proof, "met before")

    def test_a_registration_that_fails_otherwise_does_not_spend_the_proof(self, stand: Stand) -> None:
        proof = proof_for(challenge(stand))
        with pytest.raises(ClientNameInvalid):
            stand.core.registrar.register("no name", proof=proof)
        stand.core.registrar.register("anna", proof=proof)

    def test_a_challenge_is_good_for_ten_minutes(self, stand: Stand) -> None:
        early, late = (proof_for(challenge(stand)) for _ in range(2))
        stand.clock.advance(599)
        stand.core.registrar.register("anna", proof=early)
        stand.clock.advance(2)
        self.refused(stand, late, "expired")

    def test_an_easier_challenge_cannot_be_made_up(self, stand: Stand) -> None:
        parts = challenge(stand).challenge.split(".")
        for changed in (
            [*parts[:3], "1", parts[4]],
            [*parts[:2], str(int(parts[2]) + 3600), *parts[3:]],
            [parts[0], "0" * 32, *parts[2:]],
            [*parts[:4], "0" * 64],
        ):
            text = ".".join(changed)
            solution = solve(text, difficulty_bits=1)
            assert solution is not None
            self.refused(stand, Proof(challenge=text, solution=solution), "not one of this coordinator's")

    @pytest.mark.parametrize("text", ["", "pow1", "x" * 200, "pow1.a.b.c.d", "pow2." + "0" * 32 + ".1.1." + "0" * 64])
    def test_what_is_no_challenge_is_refused(self, stand: Stand, text: str) -> None:
        self.refused(stand, Proof(challenge=text, solution="1"), "not one of this coordinator's")

    @pytest.mark.parametrize("solution", ["", "-1", "one", "0x1", "٣", " 1", "1.0"])
    def test_what_is_no_number_solves_nothing(self, stand: Stand, solution: str) -> None:
        self.refused(stand, Proof(challenge=challenge(stand).challenge, solution=solution), "does not solve")

    def test_a_number_that_does_not_solve_it_is_refused(self, stand: Stand) -> None:
        asked = challenge(stand)
        right = proof_for(asked).solution
        for wrong in range(20):
            if str(wrong) != right:
                self.refused(stand, Proof(challenge=asked.challenge, solution=str(wrong)), "does not solve")
                break

    def test_replicas_with_one_pepper_know_each_others_challenges(self, open_stand: OpenStand) -> None:
        first = open_stand("a", registration="proof-of-work", difficulty_bits=BITS, pepper="0d" * 32)
        second = open_stand("b", registration="proof-of-work", difficulty_bits=BITS, pepper="0d" * 32)
        second.core.registrar.register("anna", proof=proof_for(challenge(first)))

    def test_a_challenge_of_another_coordinator_is_worth_nothing(self, stand: Stand, open_stand: OpenStand) -> None:
        other = open_stand("other", registration="proof-of-work", difficulty_bits=BITS)
        self.refused(stand, proof_for(challenge(other)), "not one of this coordinator's")

    def test_spent_challenges_are_forgotten_when_they_have_run_out(self, stand: Stand) -> None:
        for name in ("anna", "bob"):
            stand.core.registrar.register(name, proof=proof_for(challenge(stand)))
        assert self.num_spent(stand) == 2
        stand.clock.advance(601)
        stand.core.registrar.register("carl", proof=proof_for(challenge(stand)))
        assert self.num_spent(stand) == 1

    def num_spent(self, stand: Stand) -> int:
        with stand.core.store._database.read() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM spent_challenges").scalar_one())
