"""The Python API: a coordinator and clients inside one program, over real HTTP."""

import json
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fed_compute
from fed_compute import Client, Coordinator, JobSpec, register_dataset, register_model
from fed_compute.client.datasets import registry as dataset_registry
from fed_compute.client.models import registry as model_registry
from fed_compute.client.models.registry import build_plugin
from fed_compute.errors import (
    ClientMustAct,
    DatasetInvalid,
    JobFileInvalid,
    ModelUnknown,
    NameReserved,
    NotRunning,
    SettingInvalid,
)
from tests.acceptance.conftest import SMALL_JOB
from tools.write_notebook import notebook

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
ROUNDS = {"total": 1, "target_updates": 1, "min_updates": 1}
LINE = {"name": "line", "model": {"name": "linear", "args": {"input_dim": 2, "output_dim": 1}}, "rounds": ROUNDS}
LINE |= {"training": {"loss": "mse"}}
X, Y = np.random.default_rng(7).random((20, 2), dtype=np.float32), np.ones(20, dtype=np.float32)


@pytest.fixture(autouse=True)
def forgotten_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a test registers be gone when it ends."""
    monkeypatch.setattr(model_registry, "_REGISTERED", {})
    monkeypatch.setattr(dataset_registry, "_REGISTERED", {})


class Heard:
    """Notes the events of a client, and lets a test wait for one."""

    def __init__(self, awaited: str) -> None:
        self.names: list[str] = []
        self.came = threading.Event()
        self._awaited = awaited

    def event(self, name: str, **fields: object) -> None:
        self.names.append(name)
        if name == self._awaited:
            self.came.set()


def test_the_example_trains_its_own_model_on_its_own_data(tmp_path: Path) -> None:
    model, accuracies = runpy.run_path(str(EXAMPLES / "in_a_notebook.py"))["train"](str(tmp_path))
    assert isinstance(model, nn.Module)
    assert accuracies[-1] > 0.8


def test_the_notebook_is_the_example_cell_by_cell() -> None:
    """Written by `python -m tools.write_notebook`."""
    written = (EXAMPLES / "in_a_notebook.ipynb").read_text(encoding="utf-8")
    assert written == notebook((EXAMPLES / "in_a_notebook.py").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in json.loads(written)["cells"] if cell["cell_type"] == "code"]
    compile("\n".join(cells), "in_a_notebook.ipynb", "exec")
    assert len(cells) == 5


def test_a_name_is_loaded_when_it_is_used_and_never_before() -> None:
    look = "import sys, fed_compute; print(sorted({'torch', 'fastapi', 'numpy', 'pydantic'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=50)
    assert found.stdout.strip() == "[]"
    for name in fed_compute.__all__:
        assert getattr(fed_compute, name).__doc__, name
    assert dir(fed_compute) == fed_compute.__all__ == sorted(fed_compute.__all__)
    with pytest.raises(AttributeError, match="it has Client, Coordinator"):
        fed_compute.Clent  # noqa: B018


def test_a_client_runs_in_the_foreground_until_the_job_is_finished(tmp_path: Path) -> None:
    with Coordinator(tmp_path / "runs") as coordinator:
        assert coordinator.create_job(LINE) == "line"
        accepted = Client(coordinator.url, data=(X, Y), name="me", state_dir=tmp_path / "me").run()
        assert coordinator.wait("line", timeout_seconds=50) == "finished"
        (round_,) = coordinator.rounds()
    assert accepted >= 1
    assert (round_["state"], round_["clients"]) == ("CLOSED", ["me"])


def test_a_coordinator_on_the_same_folder_goes_on_where_the_first_one_stopped(tmp_path: Path) -> None:
    with Coordinator(tmp_path) as coordinator:
        coordinator.create_job(LINE)
        before, key = coordinator.model(), coordinator.operator_key
    with Coordinator(tmp_path) as coordinator:
        after = coordinator.model("line", "v1")
        assert coordinator.operator_key == key
    assert list(after) == ["output.weight", "output.bias"]
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert after["output.weight"].shape == (1, 2)


def test_a_temporary_folder_is_gone_at_the_end() -> None:
    coordinator = Coordinator().start()
    folder = coordinator._running().data_dir.path
    assert folder.is_dir()
    coordinator.close()
    coordinator.close()
    assert not folder.exists()
    with pytest.raises(NotRunning, match="coordinator is not running"):
        coordinator.model()


def test_a_job_comes_as_a_file_a_dictionary_or_a_spec(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(f'name = "small"\n{SMALL_JOB}')
    with Coordinator(tmp_path / "runs") as coordinator:
        names = [coordinator.create_job(job) for job in (file, str(file), LINE, JobSpec.model_validate(LINE))]
        assert names == ["small", "small", "line", "line"]
        with pytest.raises(JobFileInvalid, match=r"did you mean 'rounds\.total'"):
            coordinator.create_job(LINE | {"rounds": {"totl": 3}})
        with pytest.raises(ModelUnknown, match="did you mean 'linear'"):
            coordinator.create_job(LINE | {"name": "x", "model": {"name": "liner"}})


def test_a_registered_model_starts_from_the_seed_of_its_job(tmp_path: Path) -> None:
    @register_model("acceptance-model")
    def build(width: int) -> nn.Module:
        return nn.Linear(2, width)

    job = LINE | {"seed": 5, "model": {"name": "acceptance-model", "args": {"width": 1}}}
    state = torch.random.get_rng_state()
    with Coordinator(tmp_path) as coordinator:
        coordinator.create_job(job)
        coordinator.create_job(job)
        first = coordinator.model()
    assert torch.equal(torch.random.get_rng_state(), state)
    wanted = build_plugin("acceptance-model", {"width": 1}, seed=5).state_dict()
    assert {name: array.tolist() for name, array in first.items()} == {n: t.tolist() for n, t in wanted.items()}


def test_waiting_ends_with_the_time_that_was_given_to_it(tmp_path: Path) -> None:
    with Coordinator(tmp_path) as coordinator:
        coordinator.create_job(LINE)
        with pytest.raises(TimeoutError, match="'line' is still running"):
            coordinator.wait(timeout_seconds=0.05)


def test_a_job_is_paused_resumed_and_stopped(tmp_path: Path) -> None:
    with Coordinator(tmp_path) as coordinator:
        coordinator.create_job(LINE)
        coordinator.pause("line")
        with pytest.raises(TimeoutError, match="'line' is still paused"):
            coordinator.wait(timeout_seconds=0.05)
        coordinator.resume("line")
        coordinator.stop("line")
        assert coordinator.wait(timeout_seconds=50) == "stopped"


def test_a_client_on_a_thread_ends_when_it_is_stopped(tmp_path: Path) -> None:
    heard = Heard("task_received")
    job = LINE | {"rounds": {"total": 1000, "target_updates": 1, "min_updates": 1}}
    with Coordinator(tmp_path / "runs") as coordinator:
        coordinator.create_job(job)
        with Client(coordinator.url, data=(X, Y), name="me", state_dir=tmp_path, observer=heard):
            assert heard.came.wait(50)
    assert "signed_in" in heard.names
    assert heard.names[-1] == "stopped"


def test_a_client_that_was_stopped_can_run_again(tmp_path: Path) -> None:
    with Coordinator(tmp_path / "runs") as coordinator:
        client = Client(coordinator.url, data=(X, Y), name="me", state_dir=tmp_path)
        client.start()
        assert client.stop() == 0
        coordinator.create_job(LINE)
        assert client.run(max_tasks=1) == 1


def test_what_ends_a_client_is_told_to_whoever_waits_for_it(tmp_path: Path) -> None:
    with Coordinator(tmp_path / "runs", registration="invite") as coordinator:
        coordinator.create_job(LINE)
        stranger = Client(coordinator.url, data=(X, Y), state_dir=tmp_path / "a").start()
        with pytest.raises(ClientMustAct, match="invit"):
            stranger.wait(timeout_seconds=50)
        guest = Client(coordinator.url, data=(X, Y), invite=coordinator.invite(), state_dir=tmp_path / "b")
        assert guest.run(max_tasks=1) == 1


def test_what_cannot_be_used_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(DatasetInvalid, match="found 20 samples and 3 labels"):
        Client("http://localhost:1", data=(X, Y[:3]))
    with pytest.raises(SettingInvalid, match="unknown setting 'client_colour'"):
        Client("http://localhost:1", client_colour="red")
    with pytest.raises(SettingInvalid, match="colour"):
        Coordinator(colour="red")
    with pytest.raises(NotRunning, match="client is not running"):
        Client("http://localhost:1").wait()


def test_a_built_in_name_cannot_be_taken() -> None:
    with pytest.raises(NameReserved, match="model 'linear' is built in"):
        register_model("linear")
    with pytest.raises(NameReserved, match="data source 'csv' is built in"):
        register_dataset("csv")
