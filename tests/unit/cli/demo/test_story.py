"""What the journal tells about a run."""

import pytest

from tests.unit.cli.demo.journal import NAMES, entry, measured, new_story, one_round, opened, update


def test_a_round_is_told_from_its_opening_to_its_result() -> None:
    story = new_story(*one_round())
    (round_,) = story.closed
    assert (round_.number, round_.state, round_.updates) == (1, "closed", 2)
    assert (round_.started_at, round_.closed_at) == (11.0, 13.0)


def test_means_are_weighted_by_samples() -> None:
    story = new_story(
        opened(1, 0.0),
        update("client-1", 1.0, num_samples=30, loss=1.0),
        update("client-2", 1.0, num_samples=10, loss=2.0),
        measured("client-1", 2.0, accuracy=1.0, num_samples=3),
        measured("client-2", 2.0, accuracy=0.0, num_samples=1),
    )
    assert story.rounds[1].train_loss == pytest.approx(1.25)
    assert story.rounds[1].accuracy == pytest.approx(0.75)
    assert story.rounds[1].loss == pytest.approx(0.5)


def test_figures_that_nobody_has_reported_are_not_made_up() -> None:
    round_ = new_story(opened(1, 0.0)).rounds[1]
    assert (round_.train_loss, round_.loss, round_.accuracy) == (None, None, None)


def test_a_round_is_settled_when_all_have_measured_or_the_next_has_closed() -> None:
    story = new_story(*one_round(1))
    assert not story.is_settled(story.rounds[1])
    story.take(measured("client-1", 20.0, accuracy=0.9))
    assert not story.is_settled(story.rounds[1])
    story.take(measured("client-2", 20.0, accuracy=0.9))
    assert story.is_settled(story.rounds[1])

    lazy = new_story(*one_round(1), *one_round(2))
    assert lazy.is_settled(lazy.rounds[1])
    assert not lazy.is_settled(lazy.rounds[2])


def test_the_run_is_complete_when_everybody_has_measured_the_last_model() -> None:
    story = new_story(*one_round(1), *one_round(2), *(measured(name, 30.0, accuracy=0.9) for name in NAMES))
    story.take(entry("job_finished", 40.0, round_id=None))
    assert story.is_finished
    assert not story.is_complete  # it was the model of the round before
    for name in NAMES:
        story.take(measured(name, 41.0, accuracy=0.9, round_id=2))
    assert story.is_complete
    assert [client.doing for client in story.clients.values()] == ["done", "done"]


def test_a_round_that_was_given_up_has_no_result_and_its_number_comes_again() -> None:
    story = new_story(opened(1, 0.0), entry("round_abandoned", 5.0), opened(1, 5.0, round_id=2))
    assert [round_.state for round_ in story.rounds.values()] == ["given up", "open"]
    assert story.closed == []


def test_what_each_client_does_follows_the_journal() -> None:
    story = new_story()
    client = story.clients["client-1"]
    assert (client.joined, client.doing) == (False, "starting: loading PyTorch")
    doings = []
    for one in (
        entry("client_registered", 1.0, client="client-1", round_id=None),
        opened(1, 2.0),
        entry("task_assigned", 3.0, client="client-1", task="train"),
        update("client-1", 4.0, num_samples=70),
        entry("task_assigned", 5.0, client="client-1", task="evaluate"),
        measured("client-1", 6.0, accuracy=0.8),
    ):
        story.take(one)
        doings.append(client.doing)
    assert doings == [
        "joined",
        "joined",
        "training, round 1",
        "update sent, round 1",
        "measuring the new model",
        "waiting for a task",
    ]
    assert (client.updates, client.samples, client.accuracy) == (1, 70, 0.8)


def test_a_client_is_back_when_it_is_heard_of_after_its_restart() -> None:
    """What it did right before its death arrives after it, and is no sign of life."""
    story = new_story(opened(1, 0.0), entry("task_assigned", 1.0, client="client-1", task="train"))
    client = story.clients["client-1"]
    story.died("client-1")
    story.restarted("client-1", at=5.0)
    story.take(update("client-1", 1.9))
    story.take(entry("task_cancelled", 6.0, client="client-1"))  # the coordinator's doing, not the client's
    assert (client.died, client.came_back, client.is_at_work) == (1, 0, False)
    assert client.doing == "starting again"
    assert client.updates == 1
    story.take(entry("task_assigned", 9.0, client="client-1", task="train"))
    assert (client.came_back, client.is_at_work, client.doing) == (1, True, "training, round 1")
    assert story.rounds[1].deaths == 1


def test_strangers_and_other_lines_of_the_journal_do_no_harm() -> None:
    story = new_story(
        entry("job_created", round_id=None), *one_round(), update("a-guest", 12.0), entry("something_new", round_id=77)
    )
    assert story.rounds[1].updates == 3
    assert set(story.clients) == set(NAMES)
