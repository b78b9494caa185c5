"""Signing in: by a given key, by the stored one, or by registering as the coordinator's policy wants it."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from fed_compute.client.account import HARDEST_BITS, Account
from fed_compute.client.api import CoordinatorApi
from fed_compute.client.config import ClientSettings
from fed_compute.errors import ClientMustAct, NotNow, SettingInvalid
from fed_compute.protocol.proof_of_work import is_solution
from tests.unit.client.fake_coordinator import problem
from tests.unit.client.parts import account_in

URL = "http://coordinator.test"


class Door:
    """A coordinator that only registers: after proofs of work, by invitation, or not at all."""

    def __init__(self, *, bits: int = 0, takes_after: int = 1, refuses: str | None = None, taken: int = 0) -> None:
        self.bits, self.takes_after, self.refuses, self.taken = bits, takes_after, refuses, taken
        self.bodies: list[dict] = []
        self.asked = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        self.bodies.append(body)
        if self.refuses is not None:
            return problem(403, self.refuses)
        if self.bits and not self._proven(body):
            self.asked += 1
            members = {"challenge": f"c{self.asked}", "difficulty_bits": self.bits}
            told = {"code": "proof_of_work_required", "detail": "work", "algorithm": "sha-256", "expires_at": 1.0}
            return httpx2.Response(428, json={"type": "t", "title": "t", "status": 428, **told, **members})
        if self.taken:
            self.taken -= 1
            return problem(409, "client_name_taken")
        answer = {"success": True, "message": "ok", "client_id": body["client_name"], "api_key": "sk_a_b"}
        return httpx2.Response(200, json=answer)

    def _proven(self, body: dict) -> bool:
        if "proof" not in body or self.asked < self.takes_after:
            return False
        proof = body["proof"]
        return proof["challenge"] == f"c{self.asked}" and is_solution(
            proof["challenge"], proof["solution"], difficulty_bits=self.bits
        )


def account(door: Door, tmp_path: Path, *, give_up: Callable[[], bool] = lambda: False, **settings: object) -> Account:
    given = ClientSettings(coordinator_url=URL, client_state_dir=tmp_path, **settings)  # type: ignore[arg-type]
    api = CoordinatorApi(URL, max_retries=0, transport=httpx2.MockTransport(door))
    return account_in(tmp_path, api, given, give_up=give_up)


def test_a_proof_of_work_is_done_without_anybody_being_asked(tmp_path: Path) -> None:
    door = Door(bits=8)
    me = account(door, tmp_path, client_name="anna")
    assert me.sign_in() == "anna"
    assert [sorted(body) for body in door.bodies] == [
        ["capabilities", "client_name"],
        ["capabilities", "client_name", "proof"],
    ]
    me.sign_out()
    assert account(door, tmp_path, client_name="anna").sign_in() == "anna"
    assert len(door.bodies) == 2, "a stored credential needs no second proof"


def test_a_proof_that_came_too_late_is_done_again_and_not_for_ever(tmp_path: Path) -> None:
    door = Door(bits=4, takes_after=3)
    assert account(door, tmp_path, client_name="anna").sign_in() == "anna"
    assert door.asked == 3
    never = Door(bits=4, takes_after=99)
    with pytest.raises(ClientMustAct, match="none of 3 proofs"):
        account(never, tmp_path / "b", client_name="anna").sign_in()
    assert len(never.bodies) == 4


def test_a_name_that_is_taken_meanwhile_is_replaced_by_another_with_a_proof_of_its_own(tmp_path: Path) -> None:
    door = Door(bits=4, taken=1)
    assert account(door, tmp_path).sign_in().startswith("client-")
    assert len({body["client_name"] for body in door.bodies}) == 2


def test_work_that_would_take_for_ever_is_not_begun(tmp_path: Path) -> None:
    """The coordinator is not trusted with this machine's time."""
    door = Door(bits=HARDEST_BITS + 1)
    with pytest.raises(ClientMustAct, match=f"{HARDEST_BITS + 1} bits.*at most {HARDEST_BITS}"):
        account(door, tmp_path, client_name="anna").sign_in()
    assert len(door.bodies) == 1


def test_the_work_ends_when_the_owner_wants_to_stop(tmp_path: Path) -> None:
    door = Door(bits=HARDEST_BITS)
    with pytest.raises(NotNow):
        account(door, tmp_path, client_name="anna", give_up=lambda: True).sign_in()


def test_an_invitation_is_sent_along(tmp_path: Path) -> None:
    door = Door()
    account(door, tmp_path, client_name="anna", client_invite="inv_x").sign_in()
    assert door.bodies[0]["invite"] == "inv_x"


@pytest.mark.parametrize("code", ["invite_required", "invite_invalid", "client_banned"])
def test_a_closed_door_is_for_the_owner_to_open(tmp_path: Path, code: str) -> None:
    with pytest.raises(ClientMustAct, match=code):
        account(Door(refuses=code), tmp_path, client_name="anna").sign_in()
    assert not list(tmp_path.rglob("credentials/*.json")), "no credential was stored"


def test_the_key_is_stored_before_it_is_used_and_for_its_owner_only(tmp_path: Path) -> None:
    account(Door(), tmp_path, client_name="anna").sign_in()
    (file,) = tmp_path.rglob("credentials/*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["api_key"] == "sk_a_b"


def test_a_given_key_needs_the_name_it_was_given_to(tmp_path: Path) -> None:
    door = Door()
    assert account(door, tmp_path, client_api_key="sk_x", client_name="anna").sign_in() == "anna"
    with pytest.raises(SettingInvalid, match="CLIENT_NAME"):
        account(door, tmp_path, client_api_key="sk_x").sign_in()
    assert door.bodies == []
