"""Builds a client from its settings: the only place in this room that knows all its parts."""

import threading

import numpy as np

from fed_compute.client import trainer
from fed_compute.client.account import Account
from fed_compute.client.api import CoordinatorApi
from fed_compute.client.behavior import Behavior
from fed_compute.client.client import Client, Surroundings
from fed_compute.client.config import ClientSettings
from fed_compute.client.datasets import load_dataset
from fed_compute.client.observer import ClientObserver
from fed_compute.client.security import CredentialStore
from fed_compute.client.work import Workbench
from fed_compute.clock import Clock, SystemClock


def build_client(
    settings: ClientSettings, observer: ClientObserver, *, stop: threading.Event, clock: Clock | None = None
) -> Client:
    """Load the data and put a client together; nothing is sent yet.

    `stop` also ends retries inside a call; give the same event to `Client.run`.

    Raises:
        DatasetInvalid, DatasetMissing: if there is no data to train on.
        SettingInvalid: if the coordinator's address cannot be used.
        ExtraMissing: if CUDA or a library is wanted and not there.
    """
    clock = clock or SystemClock()
    if settings.client_threads is not None:
        trainer.set_threads(settings.client_threads)
    trainer.choose_device(settings.client_device)  # fail now rather than in the first task
    dataset = load_dataset(settings.client_data)
    behavior = _behavior(settings)
    own_chance, network_chance = np.random.SeedSequence(settings.client_behavior_seed).spawn(2)
    api = CoordinatorApi(
        settings.coordinator_url,
        max_retries=settings.max_retries,
        retry_delay=settings.retry_delay,
        before_try=_Latency(behavior, clock, np.random.Generator(np.random.PCG64(network_chance))).wait,
        give_up=stop.is_set,
    )
    surroundings = Surroundings(
        clock=clock,
        observer=observer,
        rng=np.random.Generator(np.random.PCG64(own_chance)),
        behavior=behavior,
        sleep_between_rounds=settings.sleep_between_rounds,
        retry_delay=settings.retry_delay,
    )
    account = Account(settings, CredentialStore(settings.client_state_dir), api, give_up=stop.is_set)
    return Client(api, Workbench(dataset, clock, device=settings.client_device), surroundings, account.sign_in)


class _Latency:
    """Simulated network delay before each call. The heartbeat thread calls too, hence the lock around chance."""

    def __init__(self, behavior: Behavior, clock: Clock, rng: np.random.Generator) -> None:
        self._behavior = behavior
        self._clock = clock
        self._rng = rng
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            seconds = self._behavior.decide_call(self._rng)
        if seconds > 0:
            self._clock.sleep(seconds)


def _behavior(settings: ClientSettings) -> Behavior:
    return Behavior(
        startup_delay=settings.client_startup_delay,
        dropout_probability=settings.client_dropout_probability,
        speed_factor=settings.client_speed_factor,
        coordinator_delay=settings.client_coordinator_delay,
    )
