"""What the processes of a demonstration are started with."""

from fed_compute.cli.demo.feed import entry_of
from fed_compute.cli.demo.fleet import child_environment


def test_what_the_user_has_set_for_other_coordinators_and_clients_does_not_count() -> None:
    """A key or a database of a real deployment must never get into a demonstration."""
    theirs = {
        "COORDINATOR_URL": "https://train.example.org",
        "CLIENT_API_KEY": "sk_secret",
        "client_name": "lab-1",
        "FED_COMPUTE_DATABASE_URL": "postgresql://u@h/db",
        "ENABLE_ASYNC_ROUNDS": "1",
        "FED_COMPUTE_SOMETHING_NEW": "1",
        "FORCE_COLOR": "1",
    }
    environment = child_environment({**theirs, "HOME": "/home/me", "PATH": "/bin"})
    assert theirs.keys().isdisjoint(environment)
    assert (environment["HOME"], environment["PATH"]) == ("/home/me", "/bin")


def test_training_is_repeatable_and_stays_on_this_machine() -> None:
    environment = child_environment({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "", "OMP_NUM_THREADS": "8"})
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["NO_PROXY"] == environment["no_proxy"] == "127.0.0.1"


def test_only_the_data_lines_of_the_feed_are_entries() -> None:
    assert entry_of('data: {"seq": 3, "kind": "job_created"}') == {"seq": 3, "kind": "job_created"}
    for line in ("", ": ping", "event: job_created", "id: 3", "retry: 15"):
        assert entry_of(line) is None
