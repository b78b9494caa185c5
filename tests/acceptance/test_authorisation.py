"""Every route for every kind of key: the table is the promise, and a route without a row in it fails."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest

from fed_compute.coordinator.keys import new_key
from fed_compute.ids import ClientId
from fed_compute.rounds.records import Client, ClientState
from fed_compute.storage.sql.store import Records
from tests.acceptance.conftest import Member, Serve, Served

CALLERS = (
    "nobody", "malformed", "unknown", "foreign", "own", "pending", "banned", "revoked", "expired", "observer",
    "operator",
)  # fmt: skip
MANY = 1_000_000
NO_KEY_NAME = "0000000000"

Row = dict[str, int]


def row(*, nobody: int, foreign: int, own: int, observer: int, operator: int, bad: int = 401, out: int = 403) -> Row:
    """Return the expected status for each caller. `bad` is a key that opens nothing, `out` one that must not act."""
    return {
        "nobody": nobody,
        "malformed": bad,
        "unknown": bad,
        "foreign": foreign,
        "own": own,
        "pending": out,
        "banned": out,
        "revoked": bad,
        "expired": bad,
        "observer": observer,
        "operator": operator,
    }


def public(status: int = 200) -> Row:
    """Return the row of a route that asks nobody for a key, and looks at none."""
    return row(nobody=status, foreign=status, own=status, observer=status, operator=status, bad=status, out=status)


def clients_own(status: int, *, foreign: int = 401, staff: int = 401) -> Row:
    """Return the row of a route for one client about itself."""
    return row(nobody=401, foreign=foreign, own=status, observer=staff, operator=staff)


def staff_reads(status: int = 200) -> Row:
    """Return the row of an operator's view, which observers share."""
    return row(nobody=401, foreign=403, own=403, observer=status, operator=status)


def operator_acts(status: int) -> Row:
    """Return the row of an operator's act."""
    return row(nobody=401, foreign=403, own=403, observer=403, operator=status)


UPDATE = {"client_id": "own", "round_id": 1, "weight_delta": "{}"}
# Acts are aimed at what does not exist, so that whoever may act is told so, and nothing changes for the next caller.
TABLE: dict[tuple[str, str], Row] = {
    ("GET", "/"): public(),
    ("GET", "/healthz"): public(),
    ("GET", "/readyz"): public(),
    ("GET", "/status/{round_id}"): public(),
    ("GET", "/async/round/{round_id}/stats"): public(),
    ("GET", "/metrics"): public(),
    ("GET", "/metrics/prometheus"): public(),
    ("GET", "/metrics/latest"): public(),
    ("GET", "/metrics/round/{round_id}"): public(),
    ("GET", "/reputation"): public(),
    ("GET", "/reputation/{client_id}"): public(),
    ("GET", "/incentives"): public(),
    ("GET", "/incentives/{client_id}"): public(),
    ("GET", "/leaderboard"): public(),
    ("GET", "/teams"): public(),
    ("GET", "/teams/{name}"): public(404),
    ("GET", "/rounds/{round_id}/audits"): public(),
    ("GET", "/rounds/{round_id}/contribution"): public(409),
    ("GET", "/jobs"): public(),
    ("GET", "/jobs/{name}"): public(),
    ("GET", "/jobs/{name}/manifests"): public(),
    ("GET", "/events"): public(),
    ("GET", "/model/{version}"): public(),
    ("POST", "/client/register"): public(409),  # the name is taken
    ("GET", "/aggregate/{round_id}"): row(nobody=409, foreign=409, own=409, observer=409, operator=409),
    ("GET", "/client/{client_id}"): {**clients_own(200), "pending": 401},  # a pending client may ask about itself only
    ("POST", "/client/{client_id}/key/rotate"): clients_own(422),  # an overlap that is too long
    ("GET", "/task/{client_id}"): clients_own(200),
    ("POST", "/tasks/{task_id}/heartbeat"): clients_own(200, foreign=404),
    ("POST", "/tasks/{task_id}/evaluation"): clients_own(404, foreign=404),  # the task is one of training
    ("GET", "/tasks/{task_id}/audited"): clients_own(404, foreign=404),  # the task is one of training
    ("GET", "/tasks/{task_id}/control"): clients_own(404, foreign=404),  # the job has no control variates
    ("POST", "/tasks/{task_id}/audit"): clients_own(404, foreign=404),
    ("DELETE", "/tasks/{task_id}"): clients_own(200, foreign=404),
    ("POST", "/teams"): clients_own(422, foreign=422),  # no name
    ("POST", "/teams/join"): clients_own(404, foreign=404),  # no such code
    ("DELETE", "/teams/membership"): clients_own(404, foreign=404),  # in no team
    ("POST", "/teams/code"): clients_own(404, foreign=404),
    ("POST", "/update"): clients_own(422),  # no tensors
    ("PUT", "/tasks/{task_id}/update"): clients_own(415, foreign=404, staff=404),  # no type
    ("HEAD", "/tasks/{task_id}/update"): clients_own(200, foreign=404),
    ("PATCH", "/tasks/{task_id}/update"): clients_own(415, foreign=404, staff=404),
    ("GET", "/incentives/export"): staff_reads(),
    ("POST", "/incentives/reversals"): operator_acts(404),
    ("POST", "/jobs"): operator_acts(422),
    ("POST", "/jobs/{name}/pause"): operator_acts(404),
    ("POST", "/jobs/{name}/resume"): operator_acts(404),
    ("POST", "/jobs/{name}/stop"): operator_acts(404),
    ("GET", "/admin/keys"): staff_reads(),
    ("POST", "/admin/keys"): operator_acts(422),
    ("POST", "/admin/keys/{key_id}/rotate"): operator_acts(404),
    ("POST", "/admin/keys/{key_id}/revoke"): operator_acts(404),
    ("GET", "/admin/invites"): staff_reads(),
    ("POST", "/admin/invites"): operator_acts(422),
    ("POST", "/admin/invites/{invite_id}/revoke"): operator_acts(404),
    ("GET", "/admin/clients"): staff_reads(),
    ("GET", "/admin/clients/{client_id}"): staff_reads(),
    ("POST", "/admin/clients/{client_id}/approve"): operator_acts(404),
    ("POST", "/admin/clients/{client_id}/ban"): operator_acts(404),
    ("POST", "/admin/clients/{client_id}/unban"): operator_acts(404),
    ("POST", "/admin/clients/{client_id}/rotate"): operator_acts(404),
}
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/client/register"): {"client_name": "own"},
    ("POST", "/client/{client_id}/key/rotate"): {"overlap_hours": 1000},
    ("POST", "/tasks/{task_id}/heartbeat"): {},
    ("POST", "/tasks/{task_id}/evaluation"): {"num_samples": 1, "loss": 1.0},
    ("POST", "/tasks/{task_id}/audit"): {"num_samples": 1, "base_loss": 1.0, "loss": 1.0},
    ("POST", "/teams"): {},
    ("POST", "/teams/join"): {"code": "x" * 20},
    ("POST", "/incentives/reversals"): {"task_id": "t_000000000000000000000000", "note": "x"},
    ("POST", "/update"): UPDATE,
    ("POST", "/jobs"): {},
    ("POST", "/admin/keys"): {"scope": "client"},
    ("POST", "/admin/invites"): {"uses": 0},
}


@dataclass
class World:
    """A server, one key of each kind, and a client whose own things are asked for."""

    served: Served
    own: Member
    keys: dict[str, str | None]
    document: dict[str, Any]

    def path(self, method: str, template: str) -> str:
        """Fill a path: what is the client's own is its own; what an operator acts on does not exist."""
        acts = method == "POST" and template.startswith(("/admin", "/jobs"))
        values = {
            "client_id": "nobody" if acts else "own",
            "task_id": self.own.task()["task_id"] if "{task_id}" in template else "",
            "round_id": 1, "version": "v1", "name": "other" if acts else "default",
            "key_id": NO_KEY_NAME, "invite_id": NO_KEY_NAME,
        }  # fmt: skip
        return template.format(**values)

    def ask(self, method: str, template: str, caller: str) -> httpx2.Response:
        """Call a route with a caller's key. Of an answer without an end only its beginning is read."""
        key, headers = self.keys[caller], {"Fed-Compute-Protocol": "1"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        if method == "PATCH":
            headers["Upload-Offset"] = "0"
        body = BODIES.get((method, template))
        with self.served.http.stream(method, self.path(method, template), headers=headers, json=body) as answer:
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                answer.read()
        return answer


@pytest.fixture(scope="module")
def world(serve_job: Serve) -> World:
    served = serve_job(failed_authentications_per_minute=MANY, requests_per_minute=MANY, updates_per_minute=MANY)
    core = served.coordinator
    own, foreign, banned, revoked, expired = (
        served.join(name) for name in ("own", "foreign", "banned", "revoked", "expired")
    )
    _, pending = core.auth.admit("pending", capabilities="{}", entry=let_wait)
    core.clients.ban(ClientId("banned"), reason=None, with_invited=False, by="test")
    core.keys.revoke(revoked.key.split("_")[1], by="test")
    core.keys.rotate(expired.key.split("_")[1], overlap_seconds=0, by="test")
    keys: dict[str, str | None] = {
        "nobody": None,
        "malformed": "sk_nonsense",
        "unknown": new_key().write(),
        "foreign": foreign.key,
        "own": own.key,
        "pending": pending,
        "banned": banned.key,
        "revoked": revoked.key,
        "expired": expired.key,
        "observer": core.keys.issue("observer", label="", lifetime_seconds=None, by="test").text,
        "operator": served.operator_key,
    }
    return World(served, own, keys, served.http.get("/openapi.json").json())


def let_wait(records: Records, client: Client) -> Client:
    return replace(client, state=ClientState.PENDING)


def operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, calls in document["paths"].items() for method in calls}


def test_every_route_has_a_row_and_every_row_has_a_route(world: World) -> None:
    """Whoever adds a route says here who may use it."""
    assert operations(world.document) == set(TABLE)


def test_every_row_says_something_for_every_caller() -> None:
    assert {name: set(found) for name, found in TABLE.items() if set(found) != set(CALLERS)} == {}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("method", "path"), TABLE, ids=lambda part: part)
def test_each_caller_gets_what_the_table_says(world: World, method: str, path: str, caller: str) -> None:
    answer = world.ask(method, path, caller)
    assert answer.status_code == TABLE[method, path][caller], answer.text if answer.is_stream_consumed else ""
    assert str(answer.status_code) in world.document["paths"][path][method.lower()]["responses"]
    if answer.status_code in (401, 403) and method != "HEAD":
        code = answer.json()["code"]
        by_caller = {"pending": {"client_pending", "authentication_failed"}, "banned": {"client_banned"}}
        assert code in by_caller.get(caller, {"authentication_failed", "permission_denied"})
        key = world.keys[caller]
        assert key is None or key not in answer.text


@pytest.mark.parametrize("path", ["/client/own", "/task/own"])
def test_a_strangers_answer_is_the_same_whether_the_client_exists_or_not(world: World, path: str) -> None:
    """Else names could be collected."""
    bearer = {"Authorization": f"Bearer {world.keys['foreign']}"}
    real, made_up = (world.served.http.get(p, headers=bearer) for p in (path, path.replace("own", "nobody")))
    assert (real.status_code, real.json()) == (made_up.status_code, made_up.json())


def test_a_pending_client_learns_its_own_state_and_nothing_else(world: World) -> None:
    bearer = {"Authorization": f"Bearer {world.keys['pending']}"}
    told = world.served.http.get("/client/pending", headers=bearer)
    assert (told.status_code, told.json()["state"]) == (200, "pending")
    refused = world.served.http.get("/task/pending", headers=bearer)
    assert (refused.status_code, refused.json()["code"]) == (403, "client_pending")
    assert int(refused.headers["retry-after"]) == 60


def test_a_refused_call_changes_nothing(world: World) -> None:
    """The refusals of a whole row leave the records as they were."""
    before = world.served.records_digest()
    refused: list[Callable[[], httpx2.Response]] = [
        lambda method=method, path=path, caller=caller: world.ask(method, path, caller)  # type: ignore[misc]
        for (method, path), found in TABLE.items()
        for caller, status in found.items()
        if status in (401, 403) and caller in ("foreign", "banned", "observer")
    ]
    for call in refused:
        call()
    assert len(refused) > 50
    assert world.served.records_digest() == before
