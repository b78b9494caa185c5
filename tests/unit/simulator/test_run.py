"""Whole simulations, small ones: the same seed gives the same bytes, and nothing gets lost on the way."""

import csv
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fed_compute.client.trainer import evaluate
from fed_compute.coordinator.round_manager import RoundManager
from fed_compute.errors import (
    CohortUnsupported,
    DatasetInvalid,
    FleetInvalid,
    JobFileInvalid,
    ModelMismatch,
    ModelUnknown,
    SimulationImpossible,
)
from fed_compute.protocol.job import load_job
from fed_compute.protocol.messages import Recipe
from fed_compute.simulator import Report, simulate
from fed_compute.simulator.attacks import ATTACKS
from fed_compute.simulator.history import RoundRow
from fed_compute.simulator.population.description import FleetSpec, parse_fleet_text
from fed_compute.simulator.run import MOST_ABANDONED

SHAKY = """
[[device]]
name = "pc"
samples_per_second = 20.0
speed_spread = 6.0
down_mbps = 1.0
up_mbps = 0.5
dropout_probability = 0.2
lateness_probability = 0.2
lateness_seconds = 90.0
coordinator_delay = 0.5
startup_delay = 5.0
away_seconds = 60.0
"""


SLOW = {"device": [{"name": "slow", "overhead_seconds": 60.0}]}
"""Each task takes longer than a silent client counts as present."""


def shaky(more: str = "") -> FleetSpec:
    return parse_fleet_text(SHAKY + more)


def job(*, mode: str = "sync", total: int = 6, **sections: Any) -> dict[str, Any]:
    rounds = {"total": total, "target_updates": 6, "min_updates": 2, "deadline_seconds": 120.0, "mode": mode}
    return {"rounds": rounds, "training": {"batch_size": 8}, **sections}


def run(spec: dict[str, Any] | None = None, **more: Any) -> Report:
    given: dict[str, Any] = {"clients": 24, "behavior": shaky(), "seed": 3, "samples_per_client": 12, **more}
    return simulate(spec or job(), **given)


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[bool]:
    """Return a list that grows by what a method of the round manager answers."""
    answers: list[bool] = []
    method = getattr(RoundManager, name)

    def answered(self: RoundManager, *given: Any) -> bool:
        answers.append(method(self, *given))
        return answers[-1]

    monkeypatch.setattr(RoundManager, name, answered)
    return answers


@pytest.mark.parametrize("mode", ["sync", "fedbuff"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(mode: str) -> None:
    first, again, other = (run(job(mode=mode), seed=seed, split="dirichlet:0.3") for seed in (3, 3, 4))
    assert (first.csv(), first.model_digest, first.html()) == (again.csv(), again.model_digest, again.html())
    assert first.model_digest != other.model_digest
    assert first.csv() != other.csv()


@pytest.mark.parametrize("mode", ["sync", "fedbuff"])
def test_every_lease_is_accounted_for(mode: str) -> None:
    """Each lease ends in a counted update, a dropout, a refusal, a late update, a stop, or is out at the end."""
    spec = job(mode=mode, total=12)
    report = run(spec, behavior=shaky('[[attacker]]\nattack = "free_rider"\nshare = 0.2'))
    summary = report.summary()
    ended = sum(summary[name] for name in ("updates", "vanished", "late", "stopped")) + sum(report.refusals.values())
    out_at_the_end = summary["leases"] - ended
    assert 0 <= out_at_the_end <= 4 * spec["rounds"]["target_updates"]
    assert summary["rounds_closed"] == 12
    assert summary["updates"] >= 2 * 12
    assert min(summary["vanished"], sum(report.refusals.values())) > 0
    assert summary["late"] + summary["stopped"] > 0


def test_a_fleet_without_trouble_loses_nothing_and_learns() -> None:
    report = simulate(
        job(total=15, training={"batch_size": 8, "local_epochs": 3}), clients=12, seed=1, behavior="stable"
    )
    assert all(row.num_updates == row.num_leases == 6 for row in report.rounds)
    assert report.rounds[-1].num_contributors == 12
    assert report.accuracy is not None
    assert report.first.accuracy is not None
    assert report.accuracy > report.first.accuracy + 0.3
    assert report.loss < report.first.loss


def test_buffers_take_stale_updates_and_rounds_do_not() -> None:
    buffered, rounds = run(job(mode="fedbuff")), run(job())
    assert max(row.max_staleness for row in buffered.rounds) > 0
    assert max(row.max_staleness for row in rounds.rounds) == 0


def test_a_round_that_waits_for_clients_finds_those_there_who_have_just_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each sign of life is on record before the next round asks who is there."""
    waited = counted(monkeypatch, "begins_to_gather")
    rounds = {"total": 5, "target_updates": 6, "min_updates": 6, "start_fraction": 1.0}
    spec = {"rounds": rounds, "evaluation": {"every_rounds": 0}}
    report = run(spec, clients=6, behavior=SLOW)
    assert len(report.rounds) == 5
    assert sum(waited) == 1, "only the first round, when nobody had been heard of"


def test_nobody_looks_for_idle_clients_where_all_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = counted(monkeypatch, "look_at_all")
    spec = {"rounds": {"total": 1, "target_updates": 8, "min_updates": 4, "deadline_seconds": 3000.0}}
    report = run(spec, clients=4, behavior=SLOW)
    (row,) = report.rounds
    assert row.num_updates == 4
    assert row.duration_seconds > 60
    assert looks == []


def test_attackers_are_in_the_fleet_and_their_zeros_are_refused() -> None:
    report = run(behavior=shaky('[[attacker]]\nattack = "free_rider"\nshare = 0.25'))
    assert report.num_attackers == 6
    assert set(report.refusals) == {"update_all_zero"}
    assert sum(row.num_refused for row in report.rounds) <= report.refusals["update_all_zero"]


SCAFFOLD = {"lr": 0.05, "batch_size": 8, "local_epochs": 5, "report_steps": True}


def test_control_variates_help_where_data_are_unlike_and_any_number_of_processes_gives_the_same_bytes() -> None:
    """Five clients with two classes each: federated averaging drifts apart, SCAFFOLD less."""
    plain, drifting = (job(total=12, training={**SCAFFOLD, "control_variates": beta}) for beta in (0.0, 0.9))
    plain["rounds"] = drifting["rounds"] = {"total": 12, "target_updates": 5, "min_updates": 5}
    given = {"clients": 5, "behavior": "stable", "split": "shards:2", "samples_per_client": None}
    averaging, one = run(plain, processes=1, **given), run(drifting, processes=1, **given)
    two = run(drifting, processes=2, **given)
    assert (one.csv(), one.model_digest) == (two.csv(), two.model_digest)
    assert one.accuracy is not None
    assert averaging.accuracy is not None
    assert one.accuracy > averaging.accuracy + 0.02
    assert one.rounds[1].bytes_down == 2 * one.rounds[0].bytes_down, "model and control variate, each once"


def test_what_an_encoding_leaves_out_is_sent_later() -> None:
    """Without that memory a hundredth of the values would hardly train anything."""
    spec = job(total=15, wire={"encoding": "topk", "topk_fraction": 0.02})
    report = run(spec, clients=6, behavior="stable", samples_per_client=None)
    assert report.accuracy is not None
    assert report.accuracy > 0.6


def test_clients_measure_each_version_on_data_of_their_own_and_the_report_shows_it() -> None:
    """The mean is the one that the coordinator shows, weighted by samples, of what each client held out."""
    spec = job(total=4, evaluation={"max_clients": 8}, training={"local_epochs": 3, "batch_size": 8})
    report = simulate(spec, clients=8, behavior="stable", split="quantity:0.5", seed=1)
    last, recipe = report.rounds[-1], Recipe.of(report.setup.job, report.schema, seed=0)
    held_out = [found.samples() for client in range(8) if (found := report.holdings.held_out(client)) is not None]
    found = [evaluate(recipe, report.model, one) for one in held_out]
    weights = [one.num_samples for one in found]
    assert [row.federated_clients for row in report.rounds] == [len(found)] * 4
    assert last.federated_accuracy == pytest.approx(np.average([one.accuracy for one in found], weights=weights))
    assert last.federated_loss == pytest.approx(np.average([one.loss for one in found], weights=weights), abs=1e-6)
    assert last.federated_loss_p90 == pytest.approx(np.quantile([one.loss for one in found], 0.9), abs=1e-6)
    assert last.federated_accuracy_p10 < last.federated_accuracy < last.federated_accuracy_p90
    assert report.summary()["federated_accuracy"] == last.federated_accuracy
    assert "Accuracy on clients" in report.html()


@pytest.mark.parametrize(
    ("every", "measured"), [(0, []), (2, [2, 4, 5])], ids=["never", "every other version and the last"]
)
def test_clients_measure_as_the_job_says(every: int, measured: list[int]) -> None:
    report = run(job(total=5, evaluation={"every_rounds": every, "max_clients": 3}), behavior="stable")
    assert [row.round for row in report.rounds if row.federated_clients] == measured
    assert all(row.federated_clients in (0, 3) for row in report.rounds)
    assert (report.measured is None) == (every == 0)
    assert ("on clients" in report.html()) == (every > 0)


@pytest.mark.parametrize("mode", ["sync", "fedbuff"])
def test_measuring_clients_drop_out_like_others_and_are_replaced(mode: str) -> None:
    spec = job(mode=mode, total=12, evaluation={"max_clients": 4})
    fleet = shaky().model_copy(update={"device": [shaky().device[0].model_copy(update={"dropout_probability": 0.5})]})
    clients = [row.federated_clients for row in run(spec, behavior=fleet).rounds if row.state == "closed"]
    assert max(clients) <= 4
    assert sum(clients) > len(clients), "half of them vanish"


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_a_batch_of_nothing_but_liars_is_no_accident(attack: str) -> None:
    fleet = parse_fleet_text(f'[[device]]\nname = "pc"\n[[attacker]]\nattack = "{attack}"\nshare = 0.8\n')
    spec = job(total=2, evaluation={"every_rounds": 0})
    spec["rounds"] |= {"target_updates": 2, "min_updates": 1}
    assert run(spec, behavior=fleet, clients=10).num_attackers == 8


def test_a_night_without_clients_is_waited_out() -> None:
    night = "availability = { fraction = 0.2, peak_hour = 12.0, spread_hours = 0.1 }"
    report = run(job(total=1), behavior=parse_fleet_text(f'[[device]]\nname = "pc"\n{night}'))
    assert 9 < report.rounds[0].ended_seconds / 3600 < 11


def test_clients_who_are_all_gone_for_good_end_the_simulation() -> None:
    fleet = parse_fleet_text('[[device]]\nname = "pc"\noverhead_seconds = 20000.0\nchurn_per_day = 0.999')
    spec = job(total=50)
    spec["rounds"]["deadline_seconds"] = 50_000.0
    report = run(spec, behavior=fleet, clients=8)
    assert sum(row.state == "closed" for row in report.rounds) < 50


def test_training_that_diverges_costs_its_client_the_lease_and_a_job_that_only_diverges_is_given_up() -> None:
    spec = job(total=5, training={"lr": 1e18, "batch_size": 4, "local_epochs": 3})
    report = run(spec, behavior="stable", clients=4)
    assert set(report.refusals) == {"training_diverged"}
    assert {row.state for row in report.rounds} == {"abandoned"}
    assert len(report.rounds) == MOST_ABANDONED
    assert report.loss == round(report.first.loss, 6)


@pytest.mark.parametrize("mode", ["sync", "fedbuff"])
def test_a_model_that_is_measured_seldom_is_the_same_model(mode: str) -> None:
    """Its rows differ in nothing but what was not measured; the last one always is, as it is told."""
    told: list[RoundRow] = []
    each, seldom = run(job(mode=mode, total=5)), run(job(mode=mode, total=5), measure_every=2, on_round=told.append)
    assert seldom.model_digest == each.model_digest
    measured = [row.round for row in seldom.rounds if row.loss is not None]
    assert measured == [number for number in range(1, len(each.rounds)) if number % 2 == 0] + [len(each.rounds)]
    assert [(row.accuracy, row.loss) for row in told] == [(row.accuracy, row.loss) for row in seldom.rounds]
    for one, other in zip(each.rounds, seldom.rounds, strict=True):
        assert other == (one if other.round in measured else replace(one, accuracy=None, loss=None))
    assert (seldom.accuracy, seldom.loss) == (each.accuracy, each.loss)


def test_plots_of_a_model_that_is_measured_seldom_join_the_points_there_are() -> None:
    report = run(job(total=5), measure_every=3)
    assert [point.round for point in report.curve] == [0, 3, 5]
    lines = [axis.get_lines()[0] for axis in report.plot().axes]
    assert [list(line.get_ydata()) for line in lines] == [[point.quality.accuracy for point in report.curve]] * 2
    assert list(lines[0].get_xdata()) == [0, 3, 5]
    over_rounds = report.html().split("Accuracy over rounds")[1].split("</svg>")[0]
    assert over_rounds.count("<circle") == 3
    assert report.summary()["measure_every"] == 3


def test_a_simulation_that_is_given_up_still_measures_its_last_model() -> None:
    spec = job(total=5, training={"lr": 1e18, "batch_size": 4, "local_epochs": 3})
    report = run(spec, behavior="stable", clients=4, measure_every=100)
    assert [row.loss for row in report.rounds] == [None] * (MOST_ABANDONED - 1) + [round(report.first.loss, 6)]
    assert report.loss == round(report.first.loss, 6)


def test_arrays_with_users_can_be_simulated() -> None:
    rng = np.random.default_rng(0)
    x, y, users = rng.random((200, 64)), rng.integers(10, size=200), rng.integers(8, size=200)
    report = simulate(job(total=1), clients=8, data=(x, y, users), split="user", seed=1)
    assert report.rounds[0].num_updates == 6
    assert report.setup.data is None


def test_a_regression_has_a_loss_and_no_accuracy() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((200, 3))
    spec = job(total=3, model={"name": "linear", "args": {"input_dim": 3, "output_dim": 1}}, training={"loss": "mse"})
    report = simulate(spec, clients=8, data=(x, (x @ [1.0, 2.0, 3.0])[:, None]), seed=1)
    assert report.accuracy is None
    assert report.loss < report.first.loss
    assert "accuracy" not in report.html().split("</style>")[1].split("<details>")[0]


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"spec": {"rouds": {}}}, JobFileInvalid, "did you mean 'rounds'"),
        ({"behavior": "stabel"}, FleetInvalid, "did you mean 'stable'"),
        ({"spec": {"audits": {"auditors": 2}}}, SimulationImpossible, r"audits\.auditors is 2"),
        (
            {"spec": {"aggregation": {"rule": "fltrust", "trusted_client": "bob"}}},
            SimulationImpossible,
            r"aggregation\.trusted_client 'bob' is no virtual client; they are called as 'pc-",
        ),
        ({"spec": {"rounds": {"min_updates": 9}}, "clients": 8}, SimulationImpossible, r"rounds\.min_updates is 9"),
        ({"spec": {"training": {"optimizer": "sdg"}}}, JobFileInvalid, "did you mean 'sgd'"),
        ({"spec": {"model": {"name": "simple_mpl"}}}, ModelUnknown, "did you mean 'simple_mlp'"),
        (
            {"spec": {"model": {"name": "linear", "args": {"input_dim": 64, "output_dims": 10}}}},
            JobFileInvalid,
            r"model\.args\.output_dim of linear: it is missing",
        ),
        ({"split": "dirichlt"}, SimulationImpossible, r"did you mean 'dirichlet:0\.3'"),
        ({"split": "dirichlet=1"}, SimulationImpossible, r"did you mean 'dirichlet:0\.3'"),
        ({"split": "shards:1.5"}, SimulationImpossible, r"shards takes a whole number from 1 .* found '1\.5'"),
        ({"split": "iid:3"}, SimulationImpossible, "iid takes no number"),
        ({"data": "mine.csv"}, DatasetInvalid, r"did you mean 'csv:mine\.csv'"),
        ({"data": "digts"}, DatasetInvalid, "did you mean 'digits'"),
        ({"clients": 0}, SimulationImpossible, "clients is 0"),
        ({"samples_per_client": 0}, SimulationImpossible, "samples_per_client is 0"),
        ({"rounds": 0}, SimulationImpossible, "rounds is 0"),
        ({"seed": -1}, SimulationImpossible, "seed is -1"),
        ({"measure_every": 0}, SimulationImpossible, "measure_every is 0, wanted a whole number from 1"),
        ({"plan": "staked:3"}, CohortUnsupported, "no training path, did you mean 'stacked'"),
        ({"data": (np.zeros((9, 2)), np.zeros(9, dtype=int))}, ModelMismatch, "2 values"),
    ],
)
def test_what_cannot_be_simulated_is_said_before_any_training(
    more: dict[str, Any], error: type[Exception], said: str
) -> None:
    trained: list[object] = []

    class Engine:
        def train(self, *args: object) -> Any:
            trained.append(args)
            raise AssertionError("trained")

    with pytest.raises(error, match=said):
        run(more.pop("spec", None), engine=Engine(), **more)
    assert trained == []


def test_a_report_is_a_folder_from_which_it_can_be_done_again(tmp_path: Path) -> None:
    report = run(data="digits", split="dirichlet:0.3", measure_every=4)
    folder = report.save(tmp_path / "report")
    setup = report.setup
    again = simulate(
        load_job(folder / "job.toml"),
        clients=setup.num_clients,
        data="digits",
        behavior=folder / "fleet.toml",
        split=str(setup.split),
        samples_per_client=setup.samples_per_client,
        measure_every=setup.measure_every,
        plan=setup.plan,
        seed=setup.seed,
    )
    assert again.model_digest == report.model_digest
    assert again.csv() == (folder / "rounds.csv").read_text(encoding="utf-8")
    assert setup.command(folder) == (
        f"fed-compute simulate {folder}/job.toml --clients 24 --data digits --behavior {folder}/fleet.toml "
        "--split dirichlet:0.3 --seed 3 --samples-per-client 12 --measure-every 4 --plan stacked:64"
    )
    rows = list(csv.DictReader(StringIO(report.csv())))
    assert [int(row["round"]) for row in rows] == [row.round for row in report.rounds]
    assert {path.name for path in folder.iterdir()} >= {"report.html", "model.safetensors", "summary.json"}


def test_the_page_asks_nobody_for_anything() -> None:
    page = run(job(total=2)).html()
    assert "http" not in page.replace('<meta http-equiv="Content-Security-Policy"', "")
    assert "default-src 'none'" in page
    assert page.count("<svg") == 12
    assert "src=" not in page.replace("default-src", "").replace("style-src", "").replace("script-src", "")
