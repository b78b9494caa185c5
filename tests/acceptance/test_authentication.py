"""Keys that must open nothing, in every form and at every place a key can come in: refused, and nothing changes."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest

from fed_compute.coordinator.keys import InviteText, KeyText, new_invite, new_key, parse_key
from fed_compute.ids import ClientId
from fed_compute.rounds.records import Client, ClientState
from fed_compute.storage.sql.store import Records
from tests.acceptance.conftest import SMALL_JOB, Member, Serve, Served, problem

MANY = 1_000_000
FAILED = (401, "authentication_failed")
Headers = list[tuple[str | bytes, str | bytes]]


@dataclass
class House:
    """A server with one member, anna, and keys of everybody else."""

    served: Served
    anna: Member
    bob: Member
    good: KeyText
    keys: dict[str, str]
    state: str

    def post(self, path: str, body: dict[str, Any], headers: Headers | None = None) -> httpx2.Response:
        """Send a message in ASCII, since it may hold what UTF-8 cannot carry."""
        given = [*(headers or []), ("Content-Type", "application/json")]
        return self.served.http.post(path, content=json.dumps(body), headers=given)

    def get_task(self, headers: Headers, **query: Any) -> httpx2.Response:
        """Ask for anna's task."""
        return self.served.http.get("/task/anna", headers=headers, params=query)


@pytest.fixture(scope="module")
def house(serve_job: Serve) -> House:
    served = serve_job(failed_authentications_per_minute=MANY, requests_per_minute=MANY, updates_per_minute=MANY)
    core = served.coordinator
    members = {name: served.join(name) for name in ("anna", "bob", "banned", "revoked", "expired")}
    core.clients.ban(ClientId("banned"), reason=None, with_invited=False, by="test")
    core.keys.revoke(members["revoked"].key.split("_")[1], by="test")
    core.keys.rotate(members["expired"].key.split("_")[1], overlap_seconds=0, by="test")
    good = parse_key(members["anna"].key)
    assert good is not None
    _, pending = core.auth.admit("pending", capabilities="{}", entry=let_wait)
    keys = {
        **{name: member.key for name, member in members.items()},
        "pending": pending,
        "operator": served.operator_key,
        "observer": core.keys.issue("observer", label="", lifetime_seconds=None, by="test").text,
    }
    members["anna"].task()
    return House(served, members["anna"], members["bob"], good, keys, served.records_digest())


def let_wait(records: Records, client: Client) -> Client:
    return replace(client, state=ClientState.PENDING)


def changed(text: str, place: int) -> str:
    """Return a text with one letter replaced by the next one."""
    letter = "B" if text[place] != "B" else "C"
    return text[:place] + letter + text[place + 1 :]


# What is made of anna's good key. Whatever it is, it is no key of anna's any more.
SPOILED: dict[str, Callable[[House], str]] = {
    "wrong checksum": lambda h: changed(h.anna.key, -1),
    "wrong letter in the secret": lambda h: changed(h.anna.key, 20),
    "wrong letter in the id": lambda h: changed(h.anna.key, 5),
    "one letter short": lambda h: h.anna.key[:-1],
    "one letter long": lambda h: h.anna.key + "0",
    "without its prefix": lambda h: h.anna.key.removeprefix("sk_"),
    "capital prefix": lambda h: h.anna.key.replace("sk_", "SK_"),
    "other prefix": lambda h: h.anna.key.replace("sk_", "pk_"),
    "invitation prefix": lambda h: h.anna.key.replace("sk_", "inv_"),
    "only its id": lambda h: h.good.key_id,
    "only its secret": lambda h: h.good.secret,
    "id and secret without checksum": lambda h: f"sk_{h.good.key_id}_{h.good.secret}",
    "secret of another key": lambda h: KeyText(h.good.key_id, new_key().secret).write(),
    "secret of a member's key": lambda h: KeyText(h.good.key_id, h.bob.key.split("_")[2][:43]).write(),
    "id of another key": lambda h: KeyText(new_key().key_id, h.good.secret).write(),
    "id of a member's key": lambda h: KeyText(h.bob.key.split("_")[1], h.good.secret).write(),
    "id and secret exchanged": lambda h: f"sk_{h.good.secret[:10]}_{h.good.key_id}{h.good.secret[10:]}{'0' * 6}",
    "case turned over": lambda h: h.anna.key.swapcase(),
    "reversed": lambda h: h.anna.key[::-1],
    "twice": lambda h: h.anna.key * 2,
    "two of them": lambda h: f"{h.anna.key},{h.bob.key}",
    "in quotes": lambda h: f'"{h.anna.key}"',
    "in brackets": lambda h: f"<{h.anna.key}>",
    "percent-encoded": lambda h: h.anna.key.replace("_", "%5F"),
    "with dashes": lambda h: h.anna.key.replace("_", "-"),
    "in base 64": lambda h: base64.b64encode(h.anna.key.encode()).decode(),
    "stored form of the secret": lambda h: stored_hmac(h),
    "stored form as the secret": lambda h: KeyText(h.good.key_id, stored_hmac(h)[:43]).write(),
    "never issued": lambda h: new_key().write(),
    "all zeros": lambda h: KeyText("0" * 10, "0" * 43).write(),
    "an invitation": lambda h: new_invite().write(),
    "the word null": lambda h: "null",
    "the word undefined": lambda h: "undefined",
    "a wildcard": lambda h: "%",
    "SQL": lambda h: "' OR 1=1 --",
    "SQL in the form of a key": lambda h: f"sk_{'x' * 7}'--_{h.good.secret}{'0' * 6}",
    "a path": lambda h: "../operator.key",
    "a template": lambda h: "{{7*7}}${7*7}",
    "a format": lambda h: "%s%n{0}",
    "JSON": lambda h: '{"scope": "operator"}',
    "a signed token": lambda h: "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm5hIn0.",
    "8 KB": lambda h: "sk_" + "A" * 8_000,
}
OTHERS = ["bob", "revoked", "expired", "operator", "observer"]
SHUT = {"banned": (403, "client_banned"), "pending": (403, "client_pending")}


def stored_hmac(house: House) -> str:
    with house.served.coordinator.store.snapshot() as records:
        key = records.keys.find(house.good.key_id)
    assert key is not None
    return key.secret_hmac


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_key_opens_nothing_from_the_header(house: House, name: str) -> None:
    refused(house, house.get_task([("Authorization", f"Bearer {SPOILED[name](house)}")]), *FAILED)


@pytest.mark.parametrize("name", [name for name in SPOILED if name != "8 KB"])
def test_a_spoiled_key_opens_nothing_from_the_query(house: House, name: str) -> None:
    refused(house, house.get_task([], api_key=SPOILED[name](house)), *FAILED)


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_key_opens_nothing_from_the_body(house: House, name: str) -> None:
    body = {"client_id": "anna", "round_id": 1, "weight_delta": "{}", "api_key": SPOILED[name](house)}
    refused(house, house.post("/update", body), *FAILED)


@pytest.mark.parametrize("place", ["header", "query", "body"])
@pytest.mark.parametrize("whose", [*OTHERS, *SHUT])
def test_somebody_elses_key_does_not_open_annas_door(house: House, whose: str, place: str) -> None:
    key, told = house.keys[whose], SHUT.get(whose, FAILED)
    body = {"client_id": "anna", "round_id": 1, "weight_delta": "{}", "api_key": key}
    answers = {
        "header": lambda: house.get_task([("Authorization", f"Bearer {key}")]),
        "query": lambda: house.get_task([], api_key=key),
        "body": lambda: house.post("/update", body),
    }
    refused(house, answers[place](), *told)


WRONG_HEADERS: dict[str, Callable[[House], Headers]] = {
    "none": lambda h: [],
    "empty": lambda h: [("Authorization", "")],
    "scheme without a key": lambda h: [("Authorization", "Bearer")],
    "key without a scheme": lambda h: [("Authorization", h.anna.key)],
    "basic": lambda h: [("Authorization", f"Basic {h.anna.key}")],
    "basic, as a browser sends it": lambda h: [
        ("Authorization", f"Basic {base64.b64encode(f'anna:{h.anna.key}'.encode()).decode()}")
    ],
    "digest": lambda h: [("Authorization", f'Digest username="anna", response="{h.anna.key}"')],
    "token": lambda h: [("Authorization", f"Token {h.anna.key}")],
    "made-up scheme": lambda h: [("Authorization", f"ApiKey {h.anna.key}")],
    "no space": lambda h: [("Authorization", f"Bearer{h.anna.key}")],
    "colon": lambda h: [("Authorization", f"Bearer: {h.anna.key}")],
    "equals": lambda h: [("Authorization", f"Bearer={h.anna.key}")],
    "two schemes": lambda h: [("Authorization", f"Bearer Bearer {h.anna.key}")],
    "two keys in one": lambda h: [("Authorization", f"Bearer {h.anna.key} {h.anna.key}")],
    "something behind it": lambda h: [("Authorization", f"Bearer {h.anna.key} x")],
    "good, then bad": lambda h: [
        ("Authorization", f"Bearer {h.anna.key}"),
        ("Authorization", f"Bearer {h.bob.key}"),
    ],
    "bad, then good": lambda h: [
        ("Authorization", f"Bearer {h.bob.key}"),
        ("Authorization", f"Bearer {h.anna.key}"),
    ],
    "good twice": lambda h: [("Authorization", f"Bearer {h.anna.key}")] * 2,
    "other header": lambda h: [("X-API-Key", h.anna.key)],
    "proxy's header": lambda h: [("Proxy-Authorization", f"Bearer {h.anna.key}")],
    "cookie": lambda h: [("Cookie", f"api_key={h.anna.key}")],
    "name of a user": lambda h: [("X-Forwarded-User", "anna"), ("Remote-User", "anna")],
    "from this machine": lambda h: [("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1")],
    "not ASCII": lambda h: [(b"Authorization", f"Bearer {h.anna.key}ä".encode())],
    "not UTF-8": lambda h: [(b"Authorization", b"Bearer \xff\xfe" + h.anna.key.encode())],
    "letters that look alike": lambda h: [(b"Authorization", f"Bearer ѕk_{h.anna.key[3:]}".encode())],
    "good key in the query, bad one in the header": lambda h: [("Authorization", f"Bearer {h.bob.key}")],
}


@pytest.mark.parametrize("name", WRONG_HEADERS)
def test_a_wrong_header_opens_nothing(house: House, name: str) -> None:
    query = {"api_key": house.anna.key} if name.startswith("good key in the query") else {}
    refused(house, house.get_task(WRONG_HEADERS[name](house), **query), *FAILED)


WRONG_QUERIES: dict[str, Callable[[House], str]] = {
    "empty": lambda h: "api_key=",
    "other name": lambda h: f"key={h.anna.key}",
    "capital name": lambda h: f"API_KEY={h.anna.key}",
    "as a list": lambda h: f"api_key[]={h.anna.key}",
    "bad one behind a good one": lambda h: f"api_key={h.anna.key}&api_key={h.bob.key}",
    "with the scheme": lambda h: f"api_key=Bearer%20{h.anna.key}",
    "with a NUL behind it": lambda h: f"api_key={h.anna.key}%00",
    "with a line end behind it": lambda h: f"api_key={h.anna.key}%0a",
    "in the fragment": lambda h: f"#api_key={h.anna.key}",
}


@pytest.mark.parametrize("name", WRONG_QUERIES)
def test_a_wrong_query_opens_nothing(house: House, name: str) -> None:
    refused(house, house.served.http.get(f"/task/anna?{WRONG_QUERIES[name](house)}"), *FAILED)


WRONG_BODIES: dict[str, tuple[Any, tuple[int, str]]] = {
    "null": (None, FAILED),
    "empty": ("", FAILED),
    "number": (7, FAILED),
    "list": (["KEY"], FAILED),
    "object": ({"key": "KEY"}, FAILED),
    "true": (True, FAILED),
    "lone surrogate": ("\ud800", FAILED),
    "60 000 letters": ("sk_" + "A" * 60_000, FAILED),
}


@pytest.mark.parametrize("name", WRONG_BODIES)
def test_a_wrong_key_in_a_body_opens_nothing(house: House, name: str) -> None:
    key, told = WRONG_BODIES[name]
    body = {"client_id": "anna", "round_id": 1, "weight_delta": "{}", "api_key": key}
    refused(house, house.post("/update", body), *told)


def test_a_bad_key_in_the_header_is_not_made_good_by_one_in_the_body(house: House) -> None:
    body = {"client_id": "anna", "round_id": 1, "weight_delta": "{}", "api_key": house.anna.key}
    headers: Headers = [("Authorization", f"Bearer {house.bob.key}")]
    refused(house, house.post("/update", body, headers), *FAILED)


def test_a_key_of_a_megabyte_is_refused_and_the_server_goes_on(house: House) -> None:
    headers = {"Authorization": f"Bearer sk_{'A' * (1 << 20)}"}
    try:
        answer = house.served.http.get("/task/anna", headers=headers)
        assert answer.status_code in (400, 401, 431)
    except httpx2.TransportError:
        pass  # cutting the line is an answer too
    assert house.anna.get_task().status_code == 200


def test_a_key_longer_than_any_is_refused_in_the_query(house: House) -> None:
    refused(house, house.get_task([], api_key="sk_" + "A" * 500), 422, "invalid_request")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_good_key_opens_whatever_the_case_of_the_scheme(house: House, scheme: str) -> None:
    """So the refusals above are not for another reason."""
    assert house.get_task([("Authorization", f"{scheme} {house.anna.key}")]).status_code == 200
    assert house.get_task([], api_key=house.anna.key).status_code == 200
    assert house.get_task([("Authorization", f"Bearer {house.anna.key}")], api_key="wrong").status_code == 200


def test_a_key_of_another_coordinator_opens_nothing(house: House, serve_job: Serve) -> None:
    other = serve_job(SMALL_JOB)
    stranger = other.join("anna")
    refused(house, house.get_task([("Authorization", f"Bearer {stranger.key}")]), *FAILED)
    operator = [("Authorization", f"Bearer {other.operator_key}")]
    refused(house, house.served.http.get("/admin/keys", headers=operator), *FAILED)


INVITES: dict[str, tuple[Any, tuple[int, str]]] = {
    "empty": ("", (403, "invite_invalid")),
    "nonsense": ("please", (403, "invite_invalid")),
    "never issued": (new_invite().write(), (403, "invite_invalid")),
    "a key": (new_key().write(), (403, "invite_invalid")),
    "wrong checksum": (changed(new_invite().write(), -1), (403, "invite_invalid")),
    "zeros": (InviteText("0" * 10, "0" * 22).write(), (403, "invite_invalid")),
    "lone surrogate": ("\ud800", (422, "invalid_request")),
    "number": (7, (422, "invalid_request")),
    "list": ([new_invite().write()], (422, "invalid_request")),
    "201 letters": ("x" * 201, (422, "invalid_request")),
}


@pytest.mark.parametrize("name", INVITES)
def test_a_wrong_invitation_opens_nothing_though_the_door_is_open(house: House, name: str) -> None:
    invite, told = INVITES[name]
    answer = house.post("/client/register", {"client_name": "newcomer", "invite": invite})
    refused(house, answer, *told)
    if isinstance(invite, str) and invite.isascii() and len(invite) > 20:
        assert invite not in answer.text


def test_a_key_as_a_name_is_refused_and_not_repeated(house: House) -> None:
    """Names are shown to everybody; a key pasted there would be too."""
    answer = house.post("/client/register", {"client_name": house.anna.key})
    refused(house, answer, 422, "client_name_invalid")
    assert house.good.secret not in answer.text


def test_switched_off_keys_in_query_and_body_open_nothing(serve_job: Serve) -> None:
    served = serve_job(allow_query_keys=False)
    anna = served.join("anna")
    problem(served.http.get("/task/anna", params={"api_key": anna.key}), *FAILED)
    body = {"client_id": "anna", "round_id": 1, "weight_delta": "{}", "api_key": anna.key}
    problem(served.http.post("/update", json=body), *FAILED)
    assert anna.get_task().status_code == 200


def refused(house: House, answer: httpx2.Response, status: int, code: str) -> None:
    """Check a refusal: its status and code, nothing of the key in it, nothing changed on record."""
    problem(answer, status, code)
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert not [name for name, key in house.keys.items() if key.split("_")[2] in answer.text]
    assert house.served.records_digest() == house.state
