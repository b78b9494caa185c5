"""The screen of `fed-compute serve`."""

from fed_compute.cli.serve import taken_up
from fed_compute.coordinator.recovery import RecoveryReport


def test_the_screen_says_what_the_last_process_left_and_nothing_of_what_it_did_not() -> None:
    report = RecoveryReport(rounds_collecting=1, rounds_to_publish=0, updates_kept=3, leases_kept=2, leases_revived=1)
    assert taken_up(report) == "1 open round, 3 accepted updates, 2 leases, 1 revived lease"
