"""Audits over real HTTP: volunteers find out who does harm, and nobody else suffers for it."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fed_compute.client.client import Client
from fed_compute.client.config import load_settings
from fed_compute.client.departures import read_sent, sent_folder
from fed_compute.client.trainer import set_threads
from fed_compute.client.wiring import build_client
from fed_compute.coordinator.verify import verify_data_dir
from fed_compute.protocol.updates import encode_update
from fed_compute.rounds.scoring import NEWCOMER_RESULTS
from tests.acceptance.conftest import Member, Serve, Served
from tests.unit.client.volunteer import Watcher

AUDITED = """
[rounds]
total = 500
target_updates = 4
min_updates = 4
over_selection = 1
[aggregation]
rule = "median"
[privacy]
adaptive_norm_limit = false
[evaluation]
every_rounds = 0
[audits]
auditors = 3
"""
"""Digits, from four clients; the median lets none of them spoil the model, but only audits tell who tries. Without an
adaptive limit, the harm of the last round is as great as that of the first."""

HONEST, LIAR = ("anna", "bob", "carl"), "liar"
PATIENCE_SECONDS = 100


def harm(task: dict[str, Any]) -> bytes:
    """Return an update that no check finds wrong, and that ruins a model."""
    recipe = task["recipe"]
    rng = np.random.default_rng(recipe["seed"])
    num_parameters = sum(int(np.prod(shape)) for _, shape in recipe["parameters"])
    return encode_update(
        rng.standard_normal(num_parameters).astype(np.float32),
        encoding=recipe["encoding"],
        compression=recipe["compression"],
        topk_fraction=recipe["topk_fraction"],
        schema_digest=recipe["schema_digest"],
        num_samples=100,
        loss=0.1,
        train_seconds=1.0,
        rng=rng,
    )


def lie(member: Member, stop: threading.Event) -> str | None:
    """Send harm until there is nothing more to do for this client; say why."""
    while not stop.is_set():
        answer = member.get_task(wait=1)
        if answer.status_code == 200:
            assert member.put(answer.json(), harm(answer.json())).status_code == 201
        elif answer.headers["Fed-Compute-Reason"] != "waiting":
            return answer.headers["Fed-Compute-Reason"]
    return None


@pytest.fixture
def volunteers(tmp_path: Path) -> Iterator[Callable[[Served, threading.Event], list[Client]]]:
    """Make the honest clients, `volunteers(server, stop)`, each with a part of the digits."""
    set_threads(1)
    with ExitStack() as undo:

        def make(server: Served, stop: threading.Event) -> list[Client]:
            settings = [
                load_settings(
                    coordinator_url=server.url, client_name=name, client_state_dir=tmp_path / name,
                    client_device="cpu", client_data=f"digits,part={part}/9", sleep_between_rounds=0, retry_delay=0.05,
                )
                for part, name in enumerate(HONEST, start=1)
            ]  # fmt: skip
            return [undo.enter_context(closing(build_client(one, Watcher(), stop=stop))) for one in settings]

        yield make


def reputation(server: Served, name: str) -> dict[str, Any]:
    """Ask for a client's reputation."""
    return dict(server.http.get(f"/reputation/{name}").json())


def audits_of(server: Served, name: str) -> list[dict[str, Any]]:
    """Return the decided audits of a client's updates, oldest first."""
    last = server.http.get("/metrics").json()["total_rounds"]
    answers = [server.http.get(f"/rounds/{number}/audits").json()["audits"] for number in range(1, last + 1)]
    return [one for audits in answers for one in audits if one["client_id"] == name and one["verdict"] is not None]


@pytest.mark.timeout(PATIENCE_SECONDS + 60)
def test_whoever_does_harm_is_found_by_the_others_and_they_keep_their_good_name(
    serve_job: Serve, volunteers: Callable[[Served, threading.Event], list[Client]], tmp_path: Path
) -> None:
    server, stop = serve_job(AUDITED), threading.Event()
    clients, before = volunteers(server, stop), dict[str, dict[str, Any]]()
    with ThreadPoolExecutor() as pool:
        try:
            working = [pool.submit(client.run, stop=stop) for client in clients]
            lying = pool.submit(lie, server.join(LIAR), stop)
            give_up_at = time.monotonic() + PATIENCE_SECONDS
            while reputation(server, LIAR)["audits_failed"] == 0:
                assert time.monotonic() < give_up_at
                assert not any(one.done() for one in working)
                if reputation(server, HONEST[0])["valid_in_a_row"] < NEWCOMER_RESULTS:
                    before = {name: reputation(server, name) for name in (*HONEST, LIAR)}
                time.sleep(0.1)
            assert lying.result(PATIENCE_SECONDS) == "quota_used", "a failed audit leaves one task a day"
            after = {name: reputation(server, name) for name in (*HONEST, LIAR)}
            audits = {name: audits_of(server, name) for name in (*HONEST, LIAR)}
        finally:
            stop.set()
            server.stop()  # which ends the long polls
        assert all(one.result() > NEWCOMER_RESULTS for one in working)

    verdicts = [one["verdict"] for one in audits[LIAR]]
    assert verdicts.count("doubtful") >= 2, "one bad score proves nothing"
    assert set(verdicts) == {"doubtful", "failed"}
    assert all(one["score"] < -1 and one["reported"] >= 2 for one in audits[LIAR])
    assert after[LIAR]["integrity"]["score"] < before[LIAR]["integrity"]["score"]
    assert "audit_failed" in [reason["event"] for reason in after[LIAR]["integrity"]["reasons"]]
    assert (after[LIAR]["phase"], after[LIAR]["may_audit"]) == ("newcomer", False)
    assert after[LIAR]["quota"]["per_day"] <= 2 < before[LIAR]["quota"]["per_day"]
    for name in HONEST:
        assert {one["verdict"] for one in audits[name]} <= {"passed"}
        assert (after[name]["audits_failed"], after[name]["phase"]) == (0, "established")
        assert after[name]["integrity"]["score"] >= before[name]["integrity"]["score"] - 1e-3, "time fades it a little"
        assert after[name]["quota"]["per_day"] >= before[name]["quota"]["per_day"]
        assert after[name]["may_audit"]
    sent = [one.kind for name in HONEST for one in read_sent(sent_folder(tmp_path / name)).departures]
    assert sent.count("audit") >= 3 * 2, "three doubts, of two auditors each at least"
    assert verify_data_dir(server.data_dir).breaches == ()
