"""Builds a client from its settings: the only place in this room that knows all its parts."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from fed_compute.client import trainer
from fed_compute.client.account import Account
from fed_compute.client.api import CoordinatorApi
from fed_compute.client.backoff import Backoff
from fed_compute.client.behavior import Behavior
from fed_compute.client.client import Client
from fed_compute.client.config import ClientSettings
from fed_compute.client.datasets import Dataset, load_dataset
from fed_compute.client.departures import DepartureLog, sent_folder
from fed_compute.client.errands import Errands
from fed_compute.client.guard import Guard
from fed_compute.client.history import DayBook
from fed_compute.client.limits import disclosure_of, policy_of
from fed_compute.client.machine import on_battery
from fed_compute.client.memory import WorkMemory
from fed_compute.client.observer import ClientObserver, Observers
from fed_compute.client.outbox import Outbox
from fed_compute.client.own_folder import OwnFolder, own_folder
from fed_compute.client.patience import pause
from fed_compute.client.security import CredentialStore
from fed_compute.client.spool import Spool
from fed_compute.client.status_board import StatusBoard
from fed_compute.client.stop_sign import StopSign
from fed_compute.client.surroundings import Surroundings
from fed_compute.client.wishes import Wishes
from fed_compute.client.work import OwnRules, Workbench
from fed_compute.clock import Clock, SystemClock


def build_client(
    settings: ClientSettings,
    observer: ClientObserver,
    *,
    stop: StopSign,
    clock: Clock | None = None,
    dataset: Dataset | None = None,
) -> Client:
    """Load the data and put a client together; nothing is sent yet.

    A `dataset` that is in memory already is taken instead of the one that the settings name. `stop` also ends the
    pauses inside a call; give the same one to `Client.run`.

    Raises:
        DatasetInvalid, DatasetMissing: if there is no data to train on.
        SettingInvalid: if the coordinator's address cannot be used.
        CredentialUnsafe, StateUnusable: as `assemble`.
        ExtraMissing: if CUDA or a library is wanted and not there.
    """
    clock = clock or SystemClock()
    if settings.client_threads is not None:
        trainer.set_threads(settings.client_threads)
    trainer.choose_device(settings.client_device)  # fail now rather than in the first task
    dataset = load_dataset(settings.client_data) if dataset is None else dataset
    behavior = _behavior(settings)
    own_chance, network_chance, retry_chance = (
        np.random.Generator(np.random.PCG64(seed))
        for seed in np.random.SeedSequence(settings.client_behavior_seed).spawn(3)
    )
    api = CoordinatorApi(
        settings.coordinator_url,
        max_retries=settings.max_retries,
        backoff=Backoff(clock, retry_chance, base=settings.retry_delay),
        before_try=_Latency(behavior, clock, network_chance, stop).wait,
        pause=partial(pause, clock=clock, stop=stop),
        give_up=stop.is_set,
        piece_bytes=round(settings.client_upload_piece_megabytes * 1e6),
    )
    surroundings = Surroundings(
        clock=clock,
        observer=observer,
        rng=own_chance,
        behavior=behavior,
        sleep_between_rounds=settings.sleep_between_rounds,
    )
    return assemble(settings, api, dataset, surroundings, give_up=stop.is_set)


def assemble(
    settings: ClientSettings,
    api: CoordinatorApi,
    dataset: Dataset,
    surroundings: Surroundings,
    *,
    give_up: Callable[[], bool] = lambda: False,
) -> Client:
    """Put a client together around its way to a coordinator, its data and its surroundings.

    Its name on this machine is claimed from here until it is closed. `give_up` may end a long
    computation early.

    Raises:
        CredentialUnsafe: if another running client has this name.
        StateUnusable: if the state folder cannot be used.
    """
    clock, sent = surroundings.clock, sent_folder(settings.client_state_dir)
    store = CredentialStore(settings.client_state_dir)
    credential = store.claim(settings.coordinator_url, settings.client_name)
    own, run = own_folder(settings.client_state_dir, credential.stem), secrets.token_hex(8)
    own.make()
    board = StatusBoard(own.status, clock, coordinator=settings.coordinator_url, run=run)
    board.begin()
    surroundings = replace(surroundings, observer=Observers(surroundings.observer, board))
    guard = Guard(policy_of(settings), DayBook(sent), Wishes(own.wish, clock, run=run), clock, on_battery=on_battery)
    log = DepartureLog(
        sent,
        clock,
        coordinator=settings.coordinator_url,
        max_bytes=round(settings.client_sent_log_megabytes * 1e6),
        keep_updates=settings.client_keep_updates,
    )
    spool = Spool(own, surroundings.observer, max_bytes=round(settings.client_spool_megabytes * 1e6))
    outbox = Outbox(api, log, guard, spool)
    errands = Errands(api, outbox, _workbench(settings, dataset, own, surroundings), surroundings)
    account = Account(settings, store, credential, api, outbox, give_up=give_up)
    return Client(api, errands, guard, surroundings, sign_in=account.sign_in, sign_out=account.sign_out)


def _workbench(settings: ClientSettings, dataset: Dataset, own: OwnFolder, surroundings: Surroundings) -> Workbench:
    clock = surroundings.clock
    memory = WorkMemory(own, clock, surroundings.observer, checkpoint_seconds=settings.client_checkpoint_seconds)
    rules = OwnRules(
        device=settings.client_device,
        disclosure=disclosure_of(settings),
        max_update_norm=settings.client_max_update_norm,
    )
    return Workbench(dataset, clock, memory, rules=rules)


class _Latency:
    """Simulated network delay before each call. The heartbeat thread calls too, hence the lock around chance."""

    def __init__(self, behavior: Behavior, clock: Clock, rng: np.random.Generator, stop: StopSign) -> None:
        self._behavior = behavior
        self._clock = clock
        self._rng = rng
        self._stop = stop
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            seconds = self._behavior.decide_call(self._rng)
        self._clock.wait(seconds, self._stop)


def _behavior(settings: ClientSettings) -> Behavior:
    return Behavior(
        startup_delay=settings.client_startup_delay,
        dropout_probability=settings.client_dropout_probability,
        speed_factor=settings.client_speed_factor,
        coordinator_delay=settings.client_coordinator_delay,
    )
