"""The operator's commands: where the key comes from, what errors look like, what goes over the wire."""

import json
import stat
from pathlib import Path

import httpx2
import pytest

from fed_compute.cli import admin_api
from fed_compute.cli.admin_api import KEY_VARIABLE, AdminApi, OperatorKey, find_key, id_in_path, name_in_path
from fed_compute.cli.main import main
from fed_compute.cli.shown import show_table, span, when
from fed_compute.coordinator.keys import new_invite, new_key
from fed_compute.errors import AnswerUnusable, CallRefused, CoordinatorBusy, CoordinatorUnreachable, SettingInvalid

KEY = OperatorKey("sk_secret_key", "a file", None)


def api_answering(status: int, body: object) -> AdminApi:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    transport = httpx2.MockTransport(lambda request: httpx2.Response(status, content=content))
    return AdminApi("http://coordinator.test", KEY, transport=transport)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[httpx2.Request]:
    """Let commands speak to a coordinator that knows one key and one client; return what they sent."""
    sent: list[httpx2.Request] = []
    made = {"key_id": "0123456789", "api_key": "sk_0123456789_made", "expires_at": None, "scope": "observer"}

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        old = {"old_keys": ["abcdefghij"], "old_keys_end_at": 0.0}
        return httpx2.Response(200, json={**made, **old, "clients": [], "keys": [], "next": None})

    original = httpx2.Client.__init__

    def with_transport(self: httpx2.Client, **options: object) -> None:
        original(self, **{**options, "transport": httpx2.MockTransport(answer)})  # type: ignore[arg-type]

    monkeypatch.setattr(admin_api.httpx2.Client, "__init__", with_transport)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(KEY_VARIABLE, "sk_from_environment")
    return sent


def test_the_key_is_looked_for_in_three_places_in_turn(tmp_path: Path) -> None:
    named, own = tmp_path / "named.key", tmp_path / "operator.key"
    named.write_text("sk_named\n")
    own.write_text("sk_own\n")
    assert find_key(named, tmp_path, variable="sk_variable").text == "sk_named"
    assert find_key(None, tmp_path, variable="sk_variable").text == "sk_variable"
    assert find_key(None, tmp_path, variable=None).text == "sk_own"


def test_without_a_key_every_place_that_was_looked_at_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match=rf"operator\.key.*{KEY_VARIABLE}.*--key-file"):
        find_key(None, tmp_path, variable=None)
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SettingInvalid, match="is empty"):
        find_key(tmp_path / "empty", tmp_path, variable=None)


def test_a_coordinator_that_does_not_answer_is_named_with_the_option_that_helps() -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("connection refused", request=request)

    api = AdminApi("http://coordinator.test", KEY, transport=httpx2.MockTransport(refuse))
    with pytest.raises(CoordinatorUnreachable, match=r"coordinator\.test: connection refused; .*--url"):
        api.get("/admin/keys")


@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (401, {"code": "authentication_failed", "detail": "no"}, CallRefused, "does not know the key of a file"),
        (403, {"code": "permission_denied", "detail": "needs 'operator'"}, CallRefused, "needs 'operator'"),
        (404, {"code": "client_not_found", "detail": "no client"}, CallRefused, "no client"),
        (429, {"code": "rate_limited", "detail": "slow"}, CoordinatorBusy, "slow"),
        (503, {"code": "storage_busy", "detail": "busy"}, CoordinatorBusy, "busy"),
        (200, b"<html>", AnswerUnusable, "is this a fed-compute coordinator"),
        (500, b"", AnswerUnusable, "status 500"),
    ],
)
def test_each_answer_is_told_in_words(status: int, body: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        api_answering(status, body).get("/admin/keys")
    assert "sk_secret" not in str(caught.value)


def test_pages_are_followed_to_their_end_or_to_the_limit() -> None:
    asked: list[dict[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        query = dict(request.url.params)
        asked.append(query)
        start = int(query.get("after", 0))
        items = [{"n": n} for n in range(start, min(start + int(query["limit"]), 230))]
        return httpx2.Response(200, json={"items": items, "next": str(start + 100) if start + 100 < 230 else None})

    api = AdminApi("http://coordinator.test", KEY, transport=httpx2.MockTransport(answer))
    assert [item["n"] for item in api.pages("/x", "items", limit=1000)] == list(range(230))
    assert len(asked) == 3
    assert len(list(api.pages("/x", "items", limit=120))) == 120


@pytest.mark.parametrize("secret", [new_key().write(), new_invite().write()], ids=["key", "invite"])
def test_of_a_whole_secret_only_its_public_part_is_sent(secret: str) -> None:
    assert id_in_path(secret) == secret.split("_")[1]


@pytest.mark.parametrize("text", ["", "short", "../../etc", "0123456789a", "sk_toolong_x", "sk_0123456789_x_y"])
def test_what_is_no_id_is_refused_here_already(text: str) -> None:
    with pytest.raises(SettingInvalid, match="is no id"):
        id_in_path(text)


def test_what_is_no_name_is_refused_here_already_and_a_pasted_key_is_not_repeated() -> None:
    assert name_in_path("lab-1") == "lab-1"
    secret = f"{new_key().write()}!"
    with pytest.raises(SettingInvalid) as refusal:
        name_in_path(secret)
    assert secret.split("_")[2][:20] not in refusal.value.message


@pytest.mark.parametrize(
    "command",
    [
        ["key"], ["key", "list"], ["key", "issue"], ["key", "rotate"], ["key", "revoke"],
        ["invite"], ["invite", "create"], ["invite", "list"], ["invite", "revoke"],
        ["client"], ["client", "list"], ["client", "show"], ["client", "approve"], ["client", "ban"],
        ["client", "unban"], ["client", "rotate"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert "Usage: fed-compute" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "method", "path", "body"),
    [
        (["key", "issue", "--label", "x", "--days", "2"], "POST", "/admin/keys",
         {"scope": "observer", "label": "x", "days": 2.0}),
        (["key", "rotate", "abcdefghij", "--overlap-hours", "1"], "POST", "/admin/keys/abcdefghij/rotate",
         {"overlap_hours": 1.0}),
        (["key", "revoke", "abcdefghij"], "POST", "/admin/keys/abcdefghij/revoke", {}),
        (["client", "ban", "anna", "--reason", "noise", "--with-invited"], "POST", "/admin/clients/anna/ban",
         {"reason": "noise", "with_invited": True}),
        (["client", "rotate", "anna"], "POST", "/admin/clients/anna/rotate", {"overlap_hours": 24.0}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)  # fmt: skip
def test_a_command_is_one_call(
    wire: list[httpx2.Request], command: list[str], method: str, path: str, body: dict[str, object]
) -> None:
    assert main(command) == 0
    (request,) = wire
    assert (request.method, request.url.path, json.loads(request.content)) == (method, path, body)
    assert request.headers["authorization"] == "Bearer sk_from_environment"


def test_a_new_key_can_be_handed_over_in_a_file_that_only_its_owner_reads(
    wire: list[httpx2.Request], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", "issue", "--save", "display.key"]) == 0
    file = tmp_path / "display.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().strip() not in capsys.readouterr().out


def test_no_key_is_made_that_could_not_be_written(wire: list[httpx2.Request], tmp_path: Path) -> None:
    """It would be live, and nobody would have it."""
    (tmp_path / "there").write_text("something else")
    for save in ("there", "nowhere/x.key"):
        assert main(["key", "issue", "--save", save]) == 2
        assert main(["client", "rotate", "anna", "--save", save]) == 2
    assert wire == []
    assert (tmp_path / "there").read_text() == "something else"


def test_the_key_that_is_renewed_with_itself_goes_back_into_its_file(
    wire: list[httpx2.Request], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, old = tmp_path / "my.key", new_key()
    file.write_text(old.write())
    assert main(["key", "rotate", "--key-file", "my.key"]) == 0
    assert wire[0].url.path == f"/admin/keys/{old.key_id}/rotate"
    renewed = file.read_text().strip()
    assert renewed.startswith("sk_")
    assert renewed != old.write()
    assert renewed not in capsys.readouterr().out


def test_times_are_said_as_people_say_them() -> None:
    assert [span(seconds) for seconds in (0.4, 59, 60, 3599, 3600, 86_399, 86_400, 1e7)] == [
        "0 s", "59 s", "1 min", "59 min", "1 h", "23 h", "1 d", "115 d",
    ]  # fmt: skip
    assert when(100.0, now=40.0) == "in 1 min"
    assert when(40.0, now=100.0) == "1 min ago"
    assert when(None, now=0.0) == "never"


def test_an_empty_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("id",), [], empty="no keys")
    assert capsys.readouterr().out == "no keys\n"


def test_a_key_in_an_error_never_reaches_the_screen(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    secret = new_key().write()
    assert main(["key", "list", "--key-file", str(tmp_path / secret)]) == 2
    assert secret not in capsys.readouterr().err
