"""Clients that die on purpose: the plan says who and when, here it is done."""

from typing import Protocol

from fed_compute.cli.demo.plan import DemoPlan
from fed_compute.cli.demo.story import RoundStory, Story
from fed_compute.clock import Clock

FIRST_GUESS_SECONDS = 1.0
"""How long a round is thought to take before one was seen."""


class Processes(Protocol):
    """Clients that can be killed and started."""

    def kill(self, name: str) -> None:
        """End a client at once."""
        ...

    def start_client(self, name: str) -> None:
        """Start a client again."""
        ...


class Mishaps:
    """Kills clients with SIGKILL at random moments of a round, and starts each again some seconds later."""

    def __init__(self, plan: DemoPlan, processes: Processes, clock: Clock) -> None:
        self._plan = plan
        self._processes = processes
        self._clock = clock
        self._rounds: set[int] = set()
        self._doomed: dict[str, tuple[float, float]] = {}  # client → moment of its death, seconds away
        self._returns: dict[str, float] = {}  # client → moment of its start

    def look(self, story: Story) -> None:
        """Do what is due by now. A finished job kills nobody any more."""
        now = self._clock.monotonic()
        for round_ in story.rounds.values():
            if round_.started_at is not None and round_.round_id not in self._rounds:
                self._rounds.add(round_.round_id)
                self._doom(story, round_, now)
        if story.is_finished:
            self._doomed.clear()
        for name, (moment, away_seconds) in list(self._doomed.items()):
            if now >= moment and story.clients[name].is_at_work:
                del self._doomed[name]
                self._processes.kill(name)
                self._returns[name] = now + away_seconds
                story.died(name)
        for name, moment in list(self._returns.items()):
            if now >= moment:
                del self._returns[name]
                story.restarted(name, at=self._clock.now())
                self._processes.start_client(name)

    def _doom(self, story: Story, round_: RoundStory, now: float) -> None:
        """Note who dies in a round that has just begun. Who is dead already cannot die."""
        usual = usual_seconds(story)
        for death in self._plan.deaths_in(round_.round_id):
            if not story.clients[death.client].away:
                self._doomed[death.client] = (now + death.fraction * usual, death.away_seconds)


def usual_seconds(story: Story) -> float:
    """Return how long the last round took from its first lease to its result."""
    for round_ in reversed(story.closed):
        if round_.closed_at is not None and round_.started_at is not None:
            return round_.closed_at - round_.started_at
    return FIRST_GUESS_SECONDS
