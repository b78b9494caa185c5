"""Long bodies in pieces over lines that break."""

from collections.abc import Callable

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.api import CoordinatorApi
from fed_compute.client.api_uploads import BLOCK_BYTES, send_in_pieces
from fed_compute.client.backoff import Backoff
from fed_compute.clock import ManualClock
from fed_compute.errors import AnswerUnusable, CallRefused, CoordinatorUnreachable, NotNow, TaskOver
from fed_compute.protocol.messages import SAFETENSORS
from tests.unit.client.fake_coordinator import FakeCoordinator, answering, problem
from tests.unit.client.recipes import recipe_for
from tests.unit.client.test_api import an_update, api_to
from tests.unit.client.test_backoff import Loaded

CUT = CoordinatorUnreachable("cut", retry_after_seconds=0.0)


class Line:
    """A coordinator at the end of a line; it is cut after so many bytes, again and again, or holds."""

    def __init__(self, num_bytes: int, cuts: list[int], *, stored: int = 0) -> None:
        self.num_bytes, self.cuts, self.arrived, self.asked = num_bytes, cuts, stored, 0

    def stored(self) -> int:
        self.asked += 1
        return self.arrived

    def send(self, start: int, end: int) -> str | None:
        assert start == self.arrived, "a piece begins where the last one ended"
        through = self.cuts.pop(0) if self.cuts else end - start
        self.arrived += min(through, end - start)
        if through < end - start:
            raise CUT
        return "accepted" if end >= self.num_bytes else None


@given(
    num_bytes=st.integers(1, 40 * BLOCK_BYTES),
    piece_bytes=st.integers(1, 20 * BLOCK_BYTES).map(lambda size: max(size, BLOCK_BYTES)),
    cuts=st.lists(st.integers(BLOCK_BYTES, 3 * BLOCK_BYTES), max_size=9),
    stored=st.floats(0, 1),
)
def test_a_line_that_breaks_again_and_again_is_good_enough(
    num_bytes: int, piece_bytes: int, cuts: list[int], stored: float
) -> None:
    line = Line(num_bytes, cuts, stored=int(stored * num_bytes))
    answer = send_in_pieces(num_bytes, piece_bytes=piece_bytes, stored=line.stored, send=line.send)
    assert (answer, line.arrived) == ("accepted", num_bytes)


def test_a_line_that_lets_nothing_through_is_given_up_for_now() -> None:
    line = Line(10 * BLOCK_BYTES, [BLOCK_BYTES, 2 * BLOCK_BYTES, 10, 0, 0])
    with pytest.raises(NotNow):
        send_in_pieces(line.num_bytes, piece_bytes=5 * BLOCK_BYTES, stored=line.stored, send=line.send)
    assert line.asked == 4, "after ten bytes it is not worth going on at once"
    assert line.arrived == 3 * BLOCK_BYTES + 10, "and yet they need not be sent again"


def test_a_coordinator_that_claims_to_have_more_than_there_is_does_not_keep_a_client_busy() -> None:
    claims = iter(range(2**62, 2**62 + 10**6, BLOCK_BYTES))

    def refuse(start: int, end: int) -> None:
        raise CUT

    with pytest.raises(NotNow):
        send_in_pieces(1000, piece_bytes=100, stored=lambda: next(claims), send=refuse)


# --- over HTTP ---------------------------------------------------------------------------------


def pieces_to(coordinator: FakeCoordinator, *, piece_bytes: int = 5000, max_retries: int = 0) -> CoordinatorApi:
    coordinator.keys["me"] = "sk_me_secret"
    return CoordinatorApi(
        "http://coordinator.test", api_key="sk_me_secret", max_retries=max_retries, pause=lambda seconds: None,
        piece_bytes=piece_bytes, transport=coordinator.transport(),
    )  # fmt: skip


def test_a_short_update_is_one_put_and_a_long_one_goes_in_pieces() -> None:
    coordinator = FakeCoordinator()
    body = an_update(coordinator)
    assert pieces_to(coordinator, piece_bytes=len(body)).submit_update("t_1", body, SAFETENSORS).repeated is False
    assert coordinator.calls["PUT update"] == 1
    sent: list[int] = []
    pieces_to(coordinator).submit_update("t_2", body, SAFETENSORS, on_sent=sent.append)
    assert (coordinator.calls["HEAD update"], coordinator.calls["PATCH update"]) == (1, -(-len(body) // 5000))
    assert coordinator.updates["t_1"][0] == coordinator.updates["t_2"][0]
    assert sent == [*range(5000, len(body), 5000), len(body)]
    lengths = [int(r.headers["content-length"]) for r in coordinator.requests if r.method == "PATCH"]
    assert lengths[:-1] == [5000] * (len(lengths) - 1)


def test_what_an_earlier_process_sent_is_not_sent_again() -> None:
    coordinator = FakeCoordinator()
    body = an_update(coordinator)
    coordinator.pieces["t_1"] = body[:12_345]
    pieces_to(coordinator).submit_update("t_1", body, SAFETENSORS)
    offsets = [int(r.headers["upload-offset"]) for r in coordinator.requests if r.method == "PATCH"]
    assert offsets[0] == 12_345
    assert "t_1" in coordinator.updates


def test_a_piece_that_is_cut_goes_on_where_the_coordinator_has_it() -> None:
    coordinator = FakeCoordinator(cuts=[None, 1234, None, 7])
    body = an_update(coordinator)
    answer = pieces_to(coordinator, max_retries=2).submit_update("t_1", body, SAFETENSORS)
    assert answer.digest == coordinator.updates["t_1"][0]
    offsets = [int(r.headers["upload-offset"]) for r in coordinator.requests if r.method == "PATCH"]
    assert offsets[:4] == [0, 5000, 6234, 11_234]
    assert offsets[4] == 11_241


def test_a_line_that_lets_blocks_through_is_not_in_a_row_of_failures() -> None:
    """A long upload over a bad line is not slowed down by what it has overcome."""
    coordinator = FakeCoordinator(recipe=recipe_for(args={"input_dim": 64, "hidden_dim": 512, "output_dim": 10}))
    coordinator.cuts = [7, 7, 2 * BLOCK_BYTES, 7, 7, 2 * BLOCK_BYTES, 7]
    waits: list[float] = []
    api = CoordinatorApi(
        "http://coordinator.test", pause=waits.append, piece_bytes=10**6, transport=coordinator.transport(),
        backoff=Backoff(ManualClock(), Loaded(1.0), base=2.0),
    )  # fmt: skip
    coordinator.keys["me"] = "sk_me_secret"
    api.authenticate("sk_me_secret")
    api.submit_update("t_1", an_update(coordinator), SAFETENSORS)
    assert waits == [2, 2]


def test_an_update_whose_answer_was_lost_is_answered_without_being_sent_again() -> None:
    coordinator = FakeCoordinator()
    body = an_update(coordinator)
    pieces_to(coordinator).submit_update("t_1", body, SAFETENSORS)
    before = len(coordinator.requests)
    coordinator.pieces["t_1"] = body  # what the digest of the answer is made of
    assert pieces_to(coordinator).submit_update("t_1", body, SAFETENSORS).repeated is True
    sent = [int(r.headers["content-length"]) for r in coordinator.requests[before:] if r.method == "PATCH"]
    assert sent == [0]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(answering(410, "round_over"), TaskOver), (answering(422, "update_malformed"), CallRefused)],
)
def test_a_refusal_of_a_piece_is_final(fault: Callable[[httpx2.Request], httpx2.Response], kind: type) -> None:
    coordinator = FakeCoordinator(faults={"PATCH update": [None, fault]})
    with pytest.raises(kind):
        pieces_to(coordinator, max_retries=3).submit_update("t_1", an_update(coordinator), SAFETENSORS)
    assert coordinator.calls["PATCH update"] == 2


def test_a_head_without_a_reason_leaves_the_last_word_to_the_piece() -> None:
    """An answer to HEAD has no body that could say why; work must not be thrown away for a bare 404."""
    coordinator = FakeCoordinator(
        faults={"HEAD update": [lambda request: httpx2.Response(404)], "PATCH update": [answering(410, "round_over")]}
    )
    with pytest.raises(TaskOver):
        pieces_to(coordinator).submit_update("t_1", an_update(coordinator), SAFETENSORS)


@pytest.mark.parametrize("offset", [None, "", "-1", "1e3", "ten", "٣"])
def test_a_head_that_makes_no_sense_is_asked_again_later(offset: str | None) -> None:
    headers = {} if offset is None else {"Upload-Offset": offset.encode()}
    coordinator = FakeCoordinator(faults={"HEAD update": [lambda request: httpx2.Response(200, headers=headers)]})
    with pytest.raises(AnswerUnusable, match="Upload-Offset"):
        pieces_to(coordinator).submit_update("t_1", an_update(coordinator), SAFETENSORS)


def test_an_upload_ends_within_a_block_when_the_client_has_to_stop() -> None:
    coordinator = FakeCoordinator()
    coordinator.keys["me"] = "sk_me_secret"
    blocks: list[int] = []
    api = CoordinatorApi(
        "http://coordinator.test", api_key="sk_me_secret", max_retries=0, give_up=lambda: len(blocks) >= 2,
        transport=coordinator.transport(),
    )  # fmt: skip
    with pytest.raises(CoordinatorUnreachable, match="asked to stop"):
        api.submit_update("t_1", b"x" * 10 * BLOCK_BYTES, SAFETENSORS, on_sent=blocks.append)
    assert blocks == [BLOCK_BYTES, 2 * BLOCK_BYTES]


def test_a_whole_body_has_its_length_and_not_chunks() -> None:
    """The coordinator takes no chunked uploads."""
    coordinator = FakeCoordinator()
    api_to(coordinator).submit_update("t_1", an_update(coordinator), SAFETENSORS)
    (put,) = (request for request in coordinator.requests if request.method == "PUT")
    assert int(put.headers["content-length"]) == len(put.content)
    assert "transfer-encoding" not in put.headers


def test_a_piece_at_the_wrong_place_is_tried_again_from_the_right_one() -> None:
    coordinator = FakeCoordinator(faults={"PATCH update": [lambda request: problem(409, "upload_offset_mismatch")]})
    pieces_to(coordinator, max_retries=1).submit_update("t_1", an_update(coordinator), SAFETENSORS)
    assert "t_1" in coordinator.updates
