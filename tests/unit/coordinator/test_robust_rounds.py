"""Rounds with liars in them, through the whole coordinator: versions, manifests, journal, replacement, verification."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.coordinator.folding import read_manifest, rule_of
from fed_compute.coordinator.publisher import LEASE_SECONDS, VersionPublisher
from fed_compute.errors import JobFileInvalid, UpdateRefused
from fed_compute.ids import ClientId, JobId, RoundId
from fed_compute.learning.aggregation import registry
from fed_compute.learning.aggregation.influence import ESTABLISHED_AFTER
from fed_compute.learning.aggregation.influence import Weighting as LearningWeighting
from fed_compute.protocol import aggregation_section
from fed_compute.protocol.aggregation_section import AggregationSection
from fed_compute.rounds.records import RoundState, UpdateState
from fed_compute.simulator.attacks import ATTACKS, View, attack_named
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_of, tiny_job

HONEST = {"anna": 0.10, "bob": 0.11, "carl": 0.12, "dora": 0.13, "emil": 0.14, "fred": 0.15}
LIAR = {"zack": -9.0}
RULES: list[dict[str, Any]] = [
    {"rule": "median"},
    {"rule": "trimmed_mean", "f": 1},
    {"rule": "krum", "f": 2},
    {"rule": "multi_krum", "f": 2},
    {"rule": "geometric_median"},
    {"rule": "centered_clipping", "clip_radius": 0.2},
    {"rule": "fltrust", "trusted_client": "bob"},
    {"rule": "robust"},
    {"rule": "median", "pre": ["norm_clipping", "nnm"]},
    {"rule": "median", "pre": ["bucketing"]},
    {"rule": "robust", "weighting": "capped"},
    {"rule": "robust", "server_optimizer": "adam", "server_lr": 0.1},
]


def open_job(
    open_stand: OpenStand, aggregation: Mapping[str, Any], *, updates: int = 7, folder: str = "data", **rounds: Any
) -> Stand:
    """Open a coordinator whose job closes a round at `updates` updates."""
    stand = open_stand(folder)
    wanted = {"total": 99, "target_updates": updates, "min_updates": updates, **rounds}
    stand.create(tiny_job(sections={"aggregation": dict(aggregation)}, **wanted))
    return stand


def report(stand: Stand, values: Mapping[str, float], *, samples: int = 10, work: bool = True) -> None:
    """Let each client send three values near its own."""
    stand.join(*(name for name in values if name not in stand.keys))
    leases = {name: stand.lease(name) for name in values}
    for name, value in values.items():
        delta = [value, value * 1.01, value * 0.99]
        stand.send(name, leases[name], body_of(leases[name], delta, samples=samples))
    if work:
        stand.work()


def aggregated(stand: Stand) -> list[dict[str, Any]]:
    """Return what the journal tells of each round that was aggregated."""
    return [json.loads(entry.payload) for entry in stand.journal("round_aggregated")]


def moved(stand: Stand, version: int = 2) -> float:
    """Return how far the first parameter moved to a version."""
    return stand.model(version)[0] - stand.model(version - 1)[0]


@pytest.mark.parametrize("aggregation", RULES, ids=lambda rule: "-".join(str(value) for value in rule.values()))
def test_one_liar_among_seven_moves_nothing_and_every_version_can_be_rebuilt(
    open_stand: OpenStand, aggregation: dict[str, Any]
) -> None:
    stand = open_job(open_stand, aggregation)
    for version in (2, 3):
        report(stand, {**HONEST, **LIAR})
        if "server_optimizer" not in aggregation:
            assert 0.05 <= moved(stand, version) <= 0.2
    assert [round_.state for round_ in stand.rounds()][:2] == [RoundState.CLOSED, RoundState.CLOSED]
    assert stand.breaches() == ()


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - {"none", "mimic", "free_rider", "disguised_free_rider"}))
def test_what_a_simulated_attacker_sends_moves_a_real_version_nowhere(open_stand: OpenStand, name: str) -> None:
    """The attacks of the table are not of a simulator's own world: any client can send what they say."""
    stand = open_job(open_stand, {"rule": "robust"})
    report(stand, HONEST, work=False)
    lie = attack_named(name).send(view_of_one_attacker(), np.random.default_rng(0))
    stand.join("zack")
    lease = stand.lease("zack")
    stand.send("zack", lease, body_of(lease, lie.delta.tolist(), samples=lie.num_samples))
    stand.work()
    assert 0.05 <= moved(stand) <= 0.2
    assert stand.breaches() == ()


@pytest.mark.parametrize("name", ["mimic", "free_rider"])
def test_copies_and_zeros_do_not_even_reach_a_rule(open_stand: OpenStand, name: str) -> None:
    """The table lets them through, so that it shows what the rule alone does with them."""
    stand = open_job(open_stand, {"rule": "robust"})
    report(stand, HONEST, work=False)
    lie = attack_named(name).send(view_of_one_attacker(), np.random.default_rng(0))
    stand.join("zack")
    lease = stand.lease("zack")
    with pytest.raises(UpdateRefused):
        stand.send("zack", lease, body_of(lease, lie.delta.tolist(), samples=lie.num_samples))


def view_of_one_attacker() -> View:
    """Return what an attacker sees whose own training went the other way."""
    honest = np.array([[value, value * 1.01, value * 0.99] for value in HONEST.values()], dtype=np.float32)
    own, nowhere = -honest.mean(axis=0), np.zeros(3, dtype=np.float32)
    return View(honest, own, nowhere, num_samples=10, num_clients=7, num_attackers=1)


def test_the_same_liar_carries_a_plain_average_away(open_stand: OpenStand) -> None:
    stand = open_job(open_stand, {"rule": "fedavg"})
    report(stand, {**HONEST, **LIAR})
    assert moved(stand) < -1
    assert stand.breaches() == ()


def test_the_journal_tells_what_the_rule_found(open_stand: OpenStand) -> None:
    stand = open_job(open_stand, {"rule": "multi_krum", "f": 2, "pre": ["norm_clipping"]})
    report(stand, {**HONEST, **LIAR})
    (told,) = aggregated(stand)
    assert (told["rule"], told["pre"], told["f"], told["f_wanted"]) == ("multi_krum", ["norm_clipping"], 2, 2)
    assert told["clients"] == [*HONEST, *LIAR]
    assert told["updates"] == [update.update_id for update in stand.updates()]
    assert told["influence"][-1] == 0.0
    assert sum(value > 0 for value in told["influence"]) == 5
    assert told["cosines"] == pytest.approx([1, 1, 1, 1, 1, 1, -1], abs=0.01)
    assert told["norms"][0] == pytest.approx(0.1 * 3**0.5, rel=0.01)
    assert told["weights"] == [0.1429] * 7


def test_a_rule_that_goes_by_parameter_has_cosines_and_no_influence_to_tell(open_stand: OpenStand) -> None:
    stand = open_job(open_stand, {"rule": "robust"})
    report(stand, {**HONEST, **LIAR})
    (told,) = aggregated(stand)
    assert (told["influence"], told["f"], told["f_wanted"]) == (None, 1, 1)
    assert told["cosines"][-1] == pytest.approx(-1, abs=0.01)


def test_under_plain_averaging_the_weights_are_told(open_stand: OpenStand) -> None:
    stand = open_job(open_stand, {}, updates=2)
    report(stand, {"anna": 0.1, "bob": 0.2})
    (told,) = aggregated(stand)
    assert (told["weights"], told["cosines"], told["f"]) == ([0.5, 0.5], None, None)


def test_a_worker_that_takes_over_makes_the_same_bytes(open_stand: OpenStand) -> None:
    """One kept the updates in its file and died with it; the next reads all of them again."""
    stand = open_job(open_stand, {"rule": "robust", "pre": ["bucketing"]}, updates=9)
    twin = open_job(open_stand, {"rule": "robust", "pre": ["bucketing"]}, updates=9, folder="twin")
    values = {**HONEST, **LIAR, "gina": 0.125, "hans": 0.105}
    report(twin, values)
    core = stand.core
    gone, after = (
        VersionPublisher(core.store, core.blobs, core.rounds, clock=core.clock, worker=name)
        for name in ("gone", "next")
    )
    stand.join(*values)
    leases = {name: stand.lease(name) for name in values}
    for name, value in values.items():
        stand.send(name, leases[name], body_of(leases[name], [value, value * 1.01, value * 0.99]))
        gone.advance() if len(stand.updates()) < 8 else None
    with core.store.transaction() as records:
        assert records.rounds.claim(RoundId(1), worker="gone", now=core.clock.now(), until=core.clock.now() + 60)
    stand.clock.advance(LEASE_SECONDS + 1)
    assert after.advance()
    assert stand.versions()[-1].digest == twin.versions()[-1].digest
    assert stand.breaches() == ()


def test_updates_that_wait_in_a_file_leave_none_behind(open_stand: OpenStand) -> None:
    stand = open_job(open_stand, {"rule": "median"}, updates=3)
    report(stand, {"anna": 0.1, "bob": 0.2}, work=False)
    stand.work()
    spool = stand.core.blobs.incoming("x").parent
    assert list(Path(spool).iterdir()) == []


# --- rounds that are too small, or lack the trusted one -------------------------------------------


def test_a_round_too_small_for_its_rule_is_given_up_and_says_why(open_stand: OpenStand) -> None:
    """An asynchronous round may end at its deadline with fewer updates than its minimum."""
    stand = open_job(open_stand, {"rule": "robust"}, updates=5, mode="async")
    report(stand, {"anna": 0.1, "bob": 0.2}, work=False)
    stand.clock.advance(101)
    stand.work()
    first = stand.rounds()[0]
    assert first.state is RoundState.ABANDONED
    assert "rule 'robust' bears no liar in a round of 2 update(s)" in str(first.reason)
    assert {update.state for update in stand.updates()} == {UpdateState.LATE}
    assert len(stand.versions()) == 1
    assert stand.breaches() == ()


def test_a_round_that_bears_fewer_liars_than_wanted_closes_and_tells_so(open_stand: OpenStand) -> None:
    stand = open_job(open_stand, {"rule": "trimmed_mean", "f": 3}, updates=7, mode="async")
    report(stand, {"anna": 0.1, "bob": 0.2, "carl": 0.3, "zack": 9.0}, work=False)
    stand.clock.advance(101)
    stand.work()
    (told,) = aggregated(stand)
    assert (told["f"], told["f_wanted"]) == (1, 3)
    assert moved(stand) == pytest.approx(0.25)
    assert stand.breaches() == ()


def test_a_round_without_the_trusted_client_is_given_up(open_stand: OpenStand) -> None:
    stand = open_job(open_stand, {"rule": "fltrust", "trusted_client": "nora"}, updates=2)
    report(stand, {"anna": 0.1, "bob": 0.2})
    assert stand.rounds()[0].state is RoundState.ABANDONED
    assert "no update of the trusted client" in str(stand.rounds()[0].reason)
    report(stand, {"nora": 0.1, "bob": -5.0})
    assert moved(stand) == pytest.approx(0.1)
    assert stand.breaches() == ()


# --- weights ------------------------------------------------------------------------------------


def counted(stand: Stand, *clients: str, job_id: int = 1, limit: int = 99) -> list[int]:
    """Return how many updates of each client a job has counted."""
    with stand.core.store.snapshot() as records:
        found = records.updates.counted(JobId(job_id), [ClientId(name) for name in clients], limit=limit)
    return [found[ClientId(name)] for name in clients]


def test_counted_updates_make_a_client_known_to_the_job(open_stand: OpenStand) -> None:
    """A toy job must not be a cheap way to weight in a costly one."""
    stand = open_job(open_stand, {}, updates=2)
    for _ in range(3):
        report(stand, {"anna": 0.1, "bob": 0.2})
    report(stand, {"anna": 0.1})
    stand.create(tiny_job("other"))
    assert counted(stand, "anna", "bob", "carl") == [3, 3, 0]
    assert counted(stand, "anna", limit=2) == [2]
    assert counted(stand, "anna", job_id=2) == [0]


def test_updates_of_rounds_that_were_given_up_make_nobody_known(open_stand: OpenStand) -> None:
    stand = open_job(open_stand, {"server_lr": 1e300}, updates=1)
    for _ in range(3):
        report(stand, {"anna": 0.1})
    assert counted(stand, "anna") == [0]


@pytest.mark.parametrize("rule", ["fedavg", "median"])
def test_a_version_is_made_with_capped_weights_and_verified_with_them(open_stand: OpenStand, rule: str) -> None:
    stand = open_job(open_stand, {"rule": rule, "weighting": "samples"}, updates=3)
    names = ["anna", "bob", "carl"]
    for _ in range(ESTABLISHED_AFTER):
        report(stand, dict(zip(names, (0.1, 0.11, 0.12), strict=True)))
    report(stand, {"anna": 0.1, "new1": 0.9, "new2": 1.1})
    version = stand.versions()[-1]
    weights = [weight for _, _, weight in read_manifest(version.manifest)]
    assert weights == pytest.approx([10, 1.25, 1.25])
    assert sum(weights[1:]) <= 0.2 * sum(weights)
    assert moved(stand, version.version) == pytest.approx(0.1 if rule == "median" else 0.28)
    assert aggregated(stand)[-1]["weights"] == [0.8, 0.1, 0.1]
    assert (version.num_updates, version.num_samples) == (3, 30)
    assert stand.breaches() == ()


# --- the job file and the rules mean the same ---------------------------------------------------


def test_the_job_file_knows_every_rule_and_no_other() -> None:
    for names in ("RuleName", "PreName"):
        assert get_args(getattr(aggregation_section, names)) == get_args(getattr(registry, names))
    assert get_args(aggregation_section.Weighting) == get_args(LearningWeighting)


SECTIONS = st.builds(
    dict,
    rule=st.sampled_from([name for name in registry.RULES if name != "fltrust"]),
    pre=st.lists(st.sampled_from(registry.PRE), max_size=3, unique=True),
    f=st.one_of(st.integers(0, 8), st.floats(0, 0.49)),
    bucket_size=st.integers(2, 4),
)


@given(SECTIONS)
def test_a_job_is_accepted_for_exactly_the_rounds_in_which_its_rule_bears_what_it_says(wanted: dict[str, Any]) -> None:
    """The job file is checked without the rules at hand; both must draw the line in the same place."""
    if "bucketing" not in wanted["pre"]:
        del wanted["bucket_size"]
    try:
        section = AggregationSection(**wanted)
    except ValueError:
        wanted.pop("f")  # it has no use under this rule
        try:
            section = AggregationSection(**wanted)
        except ValueError:
            return  # a combination that is refused whatever the round
    rule, least = rule_of(section), section.least_updates()

    def is_met(n: int) -> bool:
        return rule.protects(n) and (not section.uses_f or rule.num_liars(n) == rule.wanted_liars(n))

    if least is None:
        assert not all(is_met(n) for n in range(900, 1_001))
    else:
        assert all(is_met(n) for n in range(least, least + 200))
        assert least == 1 or not is_met(least - 1)


def test_a_job_whose_rounds_are_too_small_for_its_rule_is_not_created() -> None:
    with pytest.raises(JobFileInvalid, match=r"set rounds\.min_updates to 5 or more"):
        tiny_job(sections={"aggregation": {"rule": "robust"}})
