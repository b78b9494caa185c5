"""A client inside a Python program or notebook."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fed_compute.client.config import load_settings
from fed_compute.client.datasets import Dataset, RawSamples, settle
from fed_compute.client.observer import ClientObserver, LogObserver
from fed_compute.client.stop_sign import StopSign
from fed_compute.errors import ExtraMissing, NotRunning
from fed_compute.facade.logs import keep_quiet

Data = str | Dataset | tuple[npt.ArrayLike, npt.ArrayLike]


class Client:
    """Takes part in a training, with data of this program.

        Client("https://train.example.org", data=(x, y)).run()

    or on a thread of its own, while the program does something else:

        with Client(coordinator.url, data="digits,part=1/2", name="left"):
            coordinator.wait()

    It is the client that `fed-compute join` starts: a finished update is kept on disk until it is answered, and all
    that leaves the machine is noted there.
    """

    def __init__(
        self,
        url: str,
        *,
        data: Data = "digits",
        name: str | None = None,
        key: str | None = None,
        invite: str | None = None,
        state_dir: str | Path | None = None,
        observer: ClientObserver | None = None,
        **settings: Any,
    ) -> None:
        """Check the settings and the data; nothing is sent yet.

        Args:
            url: address of the coordinator.
            data: samples and labels (x, y) with one row per sample (arrays, lists, tensors on the CPU), a `Dataset`,
                or a data specification such as `digits,part=1/5`. Pixels of type uint8 are scaled to 0..1.
            name: name to register under; made up and kept if not given.
            key: a key to use instead of registering; needs a name.
            invite: an invitation, where the coordinator wants one.
            state_dir: folder of the credential, of unsent work and of the log of what was sent; your user's state
                folder if not given.
            observer: hears each event as it happens, on the client's thread; without one, the log does.
            settings: any other setting of the client by its name, such as `client_threads=1`. One that is not given
                comes from the environment, else from its default, but for `sleep_between_rounds`, which is 0 here.

        Raises:
            SettingInvalid: if a setting does not exist or cannot be used.
            DatasetInvalid: if x and y do not fit each other or hold no usable numbers.
        """
        self._settings = load_settings(
            coordinator_url=url,
            client_name=name,
            client_api_key=key,
            client_invite=invite,
            client_state_dir=state_dir if state_dir is None else Path(state_dir),
            client_data=data if isinstance(data, str) else None,
            **{"sleep_between_rounds": 0.0, **settings},
        )
        self._dataset = _dataset(data)
        self._observer = observer or LogObserver()
        self._stop = StopSign()
        self._running: Future[int] | None = None

    def run(self, *, max_tasks: int | None = None, until_finished: bool = True) -> int:
        """Train until the job is finished, and return how many tasks the coordinator accepted.

        Args:
            max_tasks: end after so many tasks, whatever became of them.
            until_finished: end when the coordinator says that its job is finished; without it, the client waits for
                the next job, until Ctrl-C.

        Raises:
            DatasetMissing, DatasetInvalid: if the data specification names no usable data.
            ClientMustAct: if the coordinator will not serve this client until something is changed.
            CredentialUnsafe: if another running client has this name here.
            ExtraMissing: if PyTorch is not installed.
            PolicyRefusal: if the limits of this machine forbid the job.
        """
        return self._train(StopSign(), max_tasks=max_tasks, until_finished=until_finished)

    def start(self, *, until_finished: bool = True) -> Self:
        """Run on a thread of its own. A program does not end before its clients do: call `stop` or `wait`."""
        if self._running is None:
            self._stop = StopSign()
            pool = ThreadPoolExecutor(1, thread_name_prefix="client")
            self._running = pool.submit(self._train, self._stop, max_tasks=None, until_finished=until_finished)
            pool.shutdown(wait=False)
        return self

    def wait(self, *, timeout_seconds: float | None = None) -> int:
        """Return how many tasks were accepted, once the started client has ended by itself.

        Raises:
            TimeoutError: if it has not ended after so many seconds. It goes on.
            NotRunning: if it was not started.
            FedComputeError: whatever `run` ended with.
        """
        if self._running is None:
            raise NotRunning("client")
        return self._running.result(timeout_seconds)

    def stop(self) -> int:
        """End the started client: its task is given back first, and a finished update is kept. Return as `wait`.

        Takes up to half a minute while it waits for work: the coordinator answers that question first.
        """
        self._stop.set()
        try:
            return self.wait()
        finally:
            self._running = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _train(self, stop: StopSign, *, max_tasks: int | None, until_finished: bool) -> int:
        keep_quiet()
        try:
            from fed_compute.client.client import stop_on_signals
            from fed_compute.client.wiring import build_client
        except ModuleNotFoundError as error:
            raise ExtraMissing(what="training", extra="client") from error
        with closing(build_client(self._settings, self._observer, stop=stop, dataset=self._dataset)) as client:
            is_main = threading.current_thread() is threading.main_thread()
            with stop_on_signals(client, stop) if is_main else nullcontext():
                return client.run(stop=stop, max_tasks=max_tasks, until_finished=until_finished)


def _dataset(data: Data) -> Dataset | None:
    """Return data that is in memory as a data set; None for a specification, which is read later."""
    if isinstance(data, str):
        return None
    if isinstance(data, Dataset):
        return data
    x, y = data
    return settle(RawSamples(np.asarray(x), np.asarray(y)), "memory")
