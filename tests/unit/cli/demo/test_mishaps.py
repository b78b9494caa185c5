"""Clients that die on purpose."""

from fed_compute.cli.demo.mishaps import Mishaps, usual_seconds
from fed_compute.cli.demo.plan import LONGEST_AWAY_SECONDS, DemoPlan
from fed_compute.clock import ManualClock
from tests.unit.cli.demo.journal import NAMES, entry, new_story, one_round, opened


class Recorder:
    """Processes that only note what is done to them."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str]] = []

    def kill(self, name: str) -> None:
        self.acts.append(("killed", name))

    def start_client(self, name: str) -> None:
        self.acts.append(("started", name))


def plan(drop: float) -> DemoPlan:
    """Return a plan for the two clients of these stories."""
    return DemoPlan(clients=2, rounds=5, seed=1, drop=drop)


def at_work(round_id: int = 1) -> list[object]:
    """Return the entries after which both clients train."""
    return [
        opened(1, 0.0, round_id=round_id),
        entry("round_started", 0.0, round_id=round_id),
        *(entry("task_assigned", 0.0, client=name, round_id=round_id, task="train") for name in NAMES),
    ]


def test_a_doomed_client_is_killed_once_and_started_again() -> None:
    clock, processes, story = ManualClock(), Recorder(), new_story(*at_work())
    mishaps = Mishaps(plan(1.0), processes, clock)
    for _ in range(100):
        clock.advance(0.1)
        mishaps.look(story)
    for name in NAMES:
        assert [act for act, whom in processes.acts if whom == name] == ["killed", "started"]
    assert [client.died for client in story.clients.values()] == [1, 1]


def test_nobody_dies_without_being_asked_for() -> None:
    clock, processes, story = ManualClock(), Recorder(), new_story(*at_work())
    mishaps = Mishaps(plan(0.0), processes, clock)
    for _ in range(100):
        clock.advance(0.1)
        mishaps.look(story)
    assert processes.acts == []


def test_who_has_not_joined_yet_dies_only_after_that() -> None:
    """Before, it has no credential yet, and would come back as somebody whose name is taken."""
    clock, processes = ManualClock(), Recorder()
    story = new_story(opened(1, 0.0), entry("round_started", 0.0))
    mishaps = Mishaps(plan(1.0), processes, clock)
    mishaps.look(story)
    clock.advance(60.0)
    mishaps.look(story)
    assert processes.acts == []
    story.take(entry("task_assigned", 1.0, client="client-2", task="train"))
    mishaps.look(story)
    assert processes.acts == [("killed", "client-2")]


def test_who_is_dead_already_is_not_doomed_again() -> None:
    clock, processes, story = ManualClock(), Recorder(), new_story(*at_work())
    mishaps = Mishaps(plan(1.0), processes, clock)
    mishaps.look(story)
    clock.advance(2.0)
    mishaps.look(story)  # both are dead now
    for one in at_work(round_id=2)[:2]:
        story.take(one)
    clock.advance(LONGEST_AWAY_SECONDS)
    mishaps.look(story)
    for name in NAMES:
        story.take(entry("task_assigned", clock.now(), client=name, round_id=2, task="train"))
    clock.advance(60.0)
    mishaps.look(story)
    assert sorted(processes.acts) == sorted((act, name) for name in NAMES for act in ("killed", "started"))


def test_a_finished_job_kills_nobody_and_brings_everybody_back() -> None:
    clock, processes, story = ManualClock(), Recorder(), new_story(*at_work())
    mishaps = Mishaps(plan(1.0), processes, clock)
    mishaps.look(story)
    story.take(entry("job_finished", 0.1, round_id=None))
    clock.advance(60.0)
    mishaps.look(story)
    assert processes.acts == []

    late = new_story(*at_work())
    mishaps = Mishaps(plan(1.0), processes, clock)
    mishaps.look(late)
    clock.advance(2.0)
    mishaps.look(late)
    late.take(entry("job_finished", 0.1, round_id=None))
    clock.advance(LONGEST_AWAY_SECONDS)
    mishaps.look(late)
    assert sorted(processes.acts) == sorted((act, name) for name in NAMES for act in ("killed", "started"))


def test_a_death_comes_within_the_time_that_a_round_takes() -> None:
    assert usual_seconds(new_story()) == 1.0
    assert usual_seconds(new_story(*one_round(1))) == 2.0
