"""The client's loop: what it does, what its owner's limits keep it from, and what leaves the machine."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fed_compute.client.client import LONGEST_REST_SECONDS, SHORTEST_REST_SECONDS, rest_seconds
from fed_compute.client.departures import read_sent, sent_folder
from fed_compute.client.trainer import set_threads
from fed_compute.clock import ManualClock
from fed_compute.errors import CallRefused, PolicyRefusal, StateUnusable
from fed_compute.learning.vectors import l2_norm
from fed_compute.protocol.digests import sha256_hex
from tests.unit.client.fake_coordinator import FakeCoordinator, answering, problem
from tests.unit.client.recipes import recipe_for, start_of
from tests.unit.client.volunteer import NOON, volunteer_at

DAY = 24 * 3600.0


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


def test_a_client_registers_trains_evaluates_and_ends_with_its_job(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(kinds=("train", "evaluate"), tasks_to_give=4)
    volunteer = volunteer_at(coordinator, tmp_path)
    assert volunteer.run(until_finished=True) == 4
    assert volunteer.watcher.names() == [
        "signed_in",
        *["task_received", "trained", "sending", "update_accepted", "task_received", "evaluated"] * 2,
        "job_finished",
    ]
    assert (len(coordinator.updates), len(coordinator.evaluations), coordinator.released) == (2, 2, [])


def test_after_five_refused_updates_in_a_row_the_client_ends(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(tasks_to_give=9, faults={"PUT update": [answering(422, "update_malformed")] * 9})
    with pytest.raises(CallRefused, match="update_malformed"):
        volunteer_at(coordinator, tmp_path).run()
    assert len(coordinator.released) == 5


# --- limits ------------------------------------------------------------------------------------

BROKEN_BY_THE_JOB: list[dict[str, Any]] = [
    {"client_min_cohort": 3},
    {"client_max_auditors": 2},
    {"client_models": "small_cnn"},
    {"client_pinned_digests": "ab" * 32},
    {"client_max_model_megabytes": 0.001},
    {"client_min_samples": 81},
    {"client_min_steps": 4},
    {"client_max_samples": 79},
]


@pytest.mark.parametrize("limits", BROKEN_BY_THE_JOB, ids=lambda limits: next(iter(limits)))
def test_a_job_that_breaks_a_limit_gets_its_lease_back_at_once_and_nothing_else(
    tmp_path: Path, limits: dict[str, Any]
) -> None:
    coordinator = FakeCoordinator(tasks_to_give=9)
    volunteer = volunteer_at(coordinator, tmp_path, **limits)
    volunteer.stop_at("policy_refused")
    assert volunteer.run() == 0
    assert coordinator.released == ["t_1"]
    assert set(coordinator.calls) == {"POST register", "GET task", "DELETE tasks"}, "no model, no update"
    (refused,) = volunteer.watcher.all("policy_refused")
    assert refused["limit"] == next(iter(limits)).upper()
    assert "\n" not in refused["why"]
    assert [one.kind for one in volunteer.sent.departures] == ["registration"]


@pytest.mark.parametrize(
    "limits",
    [
        {"client_min_cohort": 2, "client_max_auditors": 3, "client_models": "linear, simple_mlp",
         "client_min_samples": 80, "client_min_steps": 3,
         "client_max_samples": 80, "client_max_local_epochs": 1, "client_max_rounds_per_day": 1,
         "client_hours": "12-13", "client_max_model_megabytes": 1, "client_max_training_seconds": 600},
        {"client_pinned_digests": recipe_for().schema_digest.upper()},
    ],
    ids=["every limit just kept", "schema pinned"],
)  # fmt: skip
def test_a_job_within_the_limits_is_done(tmp_path: Path, limits: dict[str, Any]) -> None:
    volunteer = volunteer_at(FakeCoordinator(), tmp_path, **limits)
    assert volunteer.run(max_tasks=1) == 1


def test_a_forbidden_job_is_asked_for_ever_more_rarely(tmp_path: Path) -> None:
    """A coordinator must not be hammered by machines that will never help it."""
    coordinator = FakeCoordinator(tasks_to_give=1000)
    volunteer = volunteer_at(coordinator, tmp_path, client_min_cohort=3)
    volunteer.watcher.on = lambda name, fields: volunteer.clock.now() > NOON + DAY and volunteer.stop.set()
    volunteer.run()
    assert 25 <= coordinator.calls["GET task"] <= 32, "six growing rests, then one an hour"
    rests = [fields["rest"] for fields in volunteer.watcher.all("policy_refused")]
    assert rests[:8] == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_the_rest_grows_from_a_minute_to_an_hour() -> None:
    """As BOINC's clients wait for a scheduler, who double from a minute on to four hours."""
    boinc = [60, 120, 240, 480, 960, 1920, 3840, 7680, 14_400]
    assert [rest_seconds(n) for n in range(1, 10)] == [min(wait, LONGEST_REST_SECONDS) for wait in boinc]
    assert rest_seconds(1) == SHORTEST_REST_SECONDS
    assert rest_seconds(10**6) == LONGEST_REST_SECONDS


def test_a_forbidden_job_ends_a_client_that_waits_for_its_end(tmp_path: Path) -> None:
    """It would wait in vain; the reason is the error."""
    coordinator = FakeCoordinator(tasks_to_give=9)
    with pytest.raises(PolicyRefusal, match="CLIENT_MIN_COHORT wants 3"):
        volunteer_at(coordinator, tmp_path, client_min_cohort=3).run(until_finished=True)
    assert coordinator.released == ["t_1"]


def test_after_the_day_s_last_update_nothing_is_asked_until_the_next_day(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(tasks_to_give=5)
    volunteer = volunteer_at(coordinator, tmp_path, client_max_rounds_per_day=2)
    assert volunteer.run(until_finished=True) == 5
    days = [(one.at - NOON + DAY / 2) // DAY for one in volunteer.sent.departures if one.kind == "update"]
    assert days == [0, 0, 1, 1, 2]
    rests = volunteer.watcher.all("resting")
    assert [rest["limit"] for rest in rests] == ["CLIENT_MAX_ROUNDS_PER_DAY"] * 2, "said once for each night"
    assert coordinator.calls["GET task"] == 6


def test_the_day_s_number_is_kept_through_a_restart(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(tasks_to_give=9)
    assert volunteer_at(coordinator, tmp_path).run(max_tasks=2) == 2
    again = volunteer_at(coordinator, tmp_path, client_max_rounds_per_day=2)
    again.stop_at("resting")
    assert again.run() == 0
    assert len(coordinator.updates) == 2


def test_outside_its_hours_a_client_waits_without_a_word(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(tasks_to_give=1)
    arrivals: list[float] = []
    clock = ManualClock(NOON)
    coordinator.on_arrival = lambda request: arrivals.append((clock.now() - NOON) / 3600)
    volunteer = volunteer_at(coordinator, tmp_path, clock=clock, client_hours="22-6")
    assert volunteer.run(until_finished=True) == 1
    assert arrivals[1:] == pytest.approx([10.0] * 4, abs=0.01), "all but the registration came at ten in the evening"


def test_measurements_that_are_forbidden_are_not_asked_for_and_not_made(tmp_path: Path) -> None:
    """This coordinator hands them out all the same; they must not keep the machine from training."""
    coordinator = FakeCoordinator(kinds=("evaluate", "train"), tasks_to_give=4)
    volunteer = volunteer_at(coordinator, tmp_path, client_share_loss="hidden")
    assert volunteer.run(until_finished=True) == 2
    polls = [request for request in coordinator.requests if request.url.path.startswith("/task/")]
    assert {request.url.params["evaluate"] for request in polls} == {"false"}
    assert (coordinator.evaluations, coordinator.released) == ({}, ["t_1", "t_3"])
    assert volunteer.clock.now() - NOON < SHORTEST_REST_SECONDS


def test_only_the_named_jobs_are_asked_for_in_turn(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(tasks_to_give=0)
    volunteer = volunteer_at(coordinator, tmp_path, client_jobs="digits,default")
    assert volunteer.run(until_finished=True) == 0
    polls = [request for request in coordinator.requests if request.url.path.startswith("/task/")]
    assert [request.url.params["job"] for request in polls] == ["default", "digits"], "both are finished"


def test_a_training_that_takes_too_long_is_given_back(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(tasks_to_give=9)
    volunteer = volunteer_at(coordinator, tmp_path, client_max_training_seconds=10)

    def slow(name: str, fields: dict[str, Any]) -> None:
        if name == "progress":
            volunteer.clock.advance(6)

    volunteer.watcher.on = slow
    assert volunteer.run(max_tasks=1) == 0
    assert (coordinator.released, coordinator.updates) == (["t_1"], {})
    assert "CLIENT_MAX_TRAINING_SECONDS=10" in volunteer.watcher.all("policy_refused")[0]["why"]


# --- what leaves -------------------------------------------------------------------------------


def test_nothing_arrives_that_was_not_written_down_before(tmp_path: Path) -> None:
    """Looked at from the other end: when a body arrives, its digest is in the log already."""
    coordinator = FakeCoordinator(kinds=("train", "evaluate"), tasks_to_give=4)
    seen: list[str] = []

    def arrived(request: httpx2.Request) -> None:
        if request.content and not request.url.path.endswith("/heartbeat"):
            logged = {one.sha256: one for one in read_sent(sent_folder(tmp_path)).departures}
            found = logged[sha256_hex(request.content)]
            assert found.num_bytes == len(request.content)
            seen.append(found.kind)

    coordinator.on_arrival = arrived
    assert volunteer_at(coordinator, tmp_path).run(until_finished=True) == 4
    assert seen == ["registration", *["update", "evaluation"] * 2]


def test_an_update_that_is_sent_again_is_logged_and_counted_once(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(
        lost_replies={"PUT update": 3}, faults={"POST register": [answering(503, "busy")] * 3}
    )
    volunteer = volunteer_at(coordinator, tmp_path, client_max_rounds_per_day=1)
    assert volunteer.run(max_tasks=1) == 1
    assert (coordinator.calls["PUT update"], coordinator.calls["POST register"]) == (4, 4)
    assert [one.kind for one in volunteer.sent.departures] == ["registration", "update"]


def test_the_log_says_the_update_s_fields_and_norms_and_they_are_what_arrived(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(recipe=recipe_for(training={"lr": 1.0}))
    volunteer = volunteer_at(
        coordinator, tmp_path, client_max_update_norm=0.01, client_share_sample_count="rounded",
        client_share_seconds="rounded", client_keep_updates=1,
    )  # fmt: skip
    assert volunteer.run(max_tasks=1) == 1
    entry, (_, update) = volunteer.sent.departures[1], coordinator.updates["t_1"]
    assert entry.says == {"num_samples": 64, "loss": update.loss, "train_seconds": update.train_seconds}
    assert (update.num_samples, update.train_seconds) == (64, 0.0)
    assert (entry.job, entry.round_id, entry.model_version, entry.task_id) == ("default", 1, "v1", "t_1")
    assert entry.norm is not None
    assert entry.norm["sent"] == pytest.approx(l2_norm(update.delta))
    assert l2_norm(update.delta) <= 0.01 == entry.norm["limit"]
    assert entry.norm["trained"] is not None
    assert entry.norm["trained"] > 0.1
    assert entry.kept is not None
    body = next(request.content for request in coordinator.requests if request.method == "PUT")
    assert (sent_folder(tmp_path) / "updates" / entry.kept).read_bytes() == body


@pytest.mark.parametrize(("own", "recipes"), [(0.01, 0.5), (0.5, 0.01), (0.01, None)])
@pytest.mark.parametrize("encoding", ["f32", "int8", "topk"])
def test_the_smaller_of_both_limits_on_the_norm_holds_for_what_arrives(
    tmp_path: Path, own: float, recipes: float | None, encoding: str
) -> None:
    recipe = recipe_for(training={"lr": 1.0}, max_update_norm=recipes, encoding=encoding)
    coordinator = FakeCoordinator(recipe=recipe, tasks_to_give=2)
    volunteer_at(coordinator, tmp_path, client_max_update_norm=own).run(until_finished=True)
    assert [l2_norm(update.delta) <= 0.01 for _, update in coordinator.updates.values()] == [True, True]
    assert l2_norm(coordinator.vector - start_of(recipe)) > 0.001


def test_steps_are_told_to_a_job_that_counts_them_and_such_a_job_is_left_alone_by_who_hides_its_samples(
    tmp_path: Path,
) -> None:
    coordinator = FakeCoordinator(recipe=recipe_for(training={"report_steps": True, "batch_size": 10}), tasks_to_give=2)
    volunteer = volunteer_at(coordinator, tmp_path / "open")
    volunteer.run(max_tasks=1)
    ((_, update),) = coordinator.updates.values()
    assert (update.num_samples, update.num_steps) == (80, 8)
    assert volunteer.sent.departures[-1].says["num_steps"] == 8
    hiding = volunteer_at(coordinator, tmp_path / "hiding", client_share_sample_count="hidden")
    hiding.stop_at("policy_refused")
    assert hiding.run() == 0
    (refused,) = hiding.watcher.all("policy_refused")
    assert refused["limit"] == "CLIENT_SHARE_SAMPLE_COUNT"
    assert len(coordinator.updates) == 1


def test_a_registration_tells_nothing_of_the_machine_but_the_program_s_version(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(tasks_to_give=2)
    volunteer = volunteer_at(coordinator, tmp_path / "a", client_invite="welcome-word")
    volunteer.run(max_tasks=1)
    body = json.loads(coordinator.requests[0].content)
    assert set(body) == {"client_name", "invite", "capabilities"}
    assert set(body["capabilities"]) == {"client_version"}
    assert volunteer.sent.departures[0].says == {**body, "invite": "(not logged)"}
    assert b"welcome-word" not in (sent_folder(tmp_path / "a") / "log.jsonl").read_bytes()
    volunteer_at(coordinator, tmp_path / "b", client_share_machine="none").run(max_tasks=1)
    last = next(request for request in reversed(coordinator.requests) if request.url.path == "/client/register")
    assert set(json.loads(last.content)) == {"client_name"}


def test_if_the_log_cannot_be_written_nothing_is_sent_and_the_lease_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = FakeCoordinator()
    volunteer = volunteer_at(coordinator, tmp_path)

    def act(name: str, fields: dict[str, Any]) -> None:
        if name == "trained":
            monkeypatch.setattr("os.fsync", _full)

    volunteer.watcher.on = act
    with pytest.raises(StateUnusable, match="no space left"):
        volunteer.run()
    assert (coordinator.calls["PUT update"], coordinator.released) == (0, ["t_1"])


def test_a_damaged_count_stops_a_client_before_it_asks_for_work(tmp_path: Path) -> None:
    coordinator = FakeCoordinator()
    sent_folder(tmp_path).mkdir()
    (sent_folder(tmp_path) / "today.json").write_text("?")
    with pytest.raises(StateUnusable, match=r"today\.json"):
        volunteer_at(coordinator, tmp_path, client_max_rounds_per_day=1).run()
    assert coordinator.calls["GET task"] == 0


def test_a_name_that_is_taken_is_not_used_again(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(faults={"POST register": [lambda request: problem(409, "client_name_taken")]})
    volunteer = volunteer_at(coordinator, tmp_path)
    assert volunteer.run(max_tasks=1) == 1
    names = [json.loads(request.content)["client_name"] for request in coordinator.requests[:2]]
    assert len(set(names)) == 2


def _full(descriptor: int) -> None:
    raise OSError("no space left on device")
