"""`fed-compute job` and `round` against a real server: what they do, what they say, and what they refuse."""

import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fed_compute.cli import job_watch
from fed_compute.cli.admin_api import AdminApi
from fed_compute.cli.main import main
from fed_compute.coordinator.jobs import JobView
from fed_compute.errors import CoordinatorUnreachable
from fed_compute.ids import Digest
from fed_compute.protocol.job import parse_job
from fed_compute.protocol.lineage import FIRST_CHAIN, chain_digest
from tests.acceptance.conftest import Serve, Served, update_body

JOB = """
name = "second"
[model]
name = "linear"
args = { input_dim = 3, output_dim = 1 }
"""


@pytest.fixture
def served(server: Served) -> Served:
    """A server whose default job has closed its first round."""
    for client in (server.join("anna"), server.join("bob")):
        task = client.task()
        assert client.put(task, update_body(task)).status_code == 201
    server.coordinator.bell.ring()
    wait_until_closed(server, 1)
    return server


def wait_until_closed(served: Served, round_id: int) -> None:
    key = {"Authorization": f"Bearer {served.operator_key}"}
    assert served.http.get(f"/aggregate/{round_id}", headers=key).status_code == 200


def operate(served: Served, *words: str) -> int:
    return main([*words, "--url", served.url, "--data-dir", str(served.data_dir)])


def read(served: Served, *words: str) -> int:
    return main([*words, "--url", served.url])


def read_json(served: Served, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert read(served, *words, "--json") == 0
    return json.loads(capsys.readouterr().out)


# --- create ------------------------------------------------------------------------------------


def test_a_job_is_created_from_its_file_and_the_same_file_again_changes_nothing(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    assert operate(served, "job", "create", str(tmp_path / "job.toml")) == 0
    assert "job second is created: linear with 4 parameters" in capsys.readouterr().out
    assert operate(served, "job", "create", str(tmp_path / "job.toml")) == 0
    assert "exists already, and is the same" in capsys.readouterr().out
    assert len(served.coordinator.jobs.all()) == 2


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (JOB.replace("input_dim", "input_dims"), 2, "linear takes input_dim, output_dim"),
        (JOB + "[rounds]\ntotall = 3\n", 2, "total"),
        ("name = ", 2, "TOML"),
        (JOB.replace("second", "default"), 3, "exists already with a different recipe"),
    ],
)
def test_a_job_file_that_is_wrong_is_refused_with_the_reason(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, says: str
) -> None:
    (tmp_path / "job.toml").write_text(text)
    assert operate(served, "job", "create", str(tmp_path / "job.toml")) == code
    assert says in capsys.readouterr().err
    assert len(served.coordinator.jobs.all()) == 1


def test_a_job_file_that_is_not_there_is_named(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert operate(served, "job", "create", "nowhere.toml") == 2
    assert "nowhere.toml cannot be read: No such file" in capsys.readouterr().err


def test_a_job_starts_from_a_model_that_was_trained_before(served: Served, tmp_path: Path) -> None:
    model, file = tmp_path / "model", tmp_path / "job.json"
    assert read(served, "model", "get", "v2", "--out", str(model)) == 0
    assert read(served, "job", "export", "default", "--out", str(tmp_path / "x"), "--models", "none") == 0
    recipe = json.loads((tmp_path / "x" / "job.json").read_text())
    file.write_text(json.dumps({**recipe, "name": "second"}))
    assert operate(served, "job", "create", str(file), "--first-model", str(model)) == 0
    versions = [served.http.get(f"/jobs/{name}").json()["versions"] for name in ("second", "default")]
    assert versions[0][0]["digest"] == versions[1][1]["digest"]


def test_a_first_model_of_another_job_is_refused(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    assert read(served, "model", "get", "v1", "--out", str(tmp_path / "model")) == 0
    words = [str(tmp_path / "job.toml"), "--first-model", str(tmp_path / "model")]
    assert operate(served, "job", "create", *words) == 2
    assert "the model file cannot be used" in capsys.readouterr().err


def test_a_plug_in_model_brings_its_parameters_and_its_first_values(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator runs no model; whoever creates the job has it installed."""
    install_plugin(tmp_path / "plugins", monkeypatch)
    file = tmp_path / "job.toml"
    file.write_text('name = "mine"\nseed = 7\n[model]\nname = "mine"\nargs = { width = 3 }\n')
    for _ in range(2):  # the second time it is the same job
        assert operate(served, "job", "create", str(file)) == 0
    found = served.http.get("/jobs/mine").json()
    assert [(one["name"], one["shape"]) for one in found["parameters"]] == [("weight", [2, 3]), ("bias", [2])]


def test_a_plug_in_model_that_is_not_installed_is_refused(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.toml").write_text('name = "mine"\n[model]\nname = "simple_mpl"\n')
    assert operate(served, "job", "create", str(tmp_path / "job.toml")) == 2
    assert "did you mean 'simple_mlp'?" in capsys.readouterr().err


def install_plugin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that offers the model `mine`, a linear layer."""
    info = folder / "mine-1.dist-info"
    info.mkdir(parents=True)
    (folder / "mine_model.py").write_text("from torch import nn\ndef build(width):\n    return nn.Linear(width, 2)\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[fed_compute.models]\nmine = mine_model:build\n")
    monkeypatch.syspath_prepend(str(folder))


def test_nobody_creates_a_job_without_a_key(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    words = ["job", "create", str(tmp_path / "job.toml"), "--url", served.url, "--data-dir", str(tmp_path)]
    assert main(words) == 2
    assert "no operator key" in capsys.readouterr().err


# --- list and show -----------------------------------------------------------------------------


def test_jobs_are_listed_with_their_state(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert read(served, "job", "list") == 0
    told = capsys.readouterr().out
    assert "default" in told
    assert "running" in told
    (job,) = read_json(served, capsys, "job", "list")
    assert (job["name"], job["state"], job["rounds_closed"]) == ("default", "running", 1)


def test_a_server_without_jobs_says_how_to_create_one(serve_job: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    assert read(serve_job(None), "job", "list") == 0
    assert "fed-compute job create FILE" in capsys.readouterr().out


def test_one_job_is_shown_with_its_rounds(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert read(served, "job", "show", "default") == 0
    told = capsys.readouterr().out
    for words in ("running", "simple_mlp", "1 of", "CLOSED", "v2"):
        assert words in told
    found = read_json(served, capsys, "job", "show", "default")
    assert [version["version"] for version in found["versions"]] == ["v1", "v2"]


@pytest.mark.parametrize(("name", "code"), [("nobody", 3), ("Not a name", 2), ("../admin", 2)])
@pytest.mark.parametrize("command", ["show", "watch", "export"])
def test_a_job_that_is_not_there_is_refused(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str, code: int
) -> None:
    more = ["--out", str(tmp_path / "x")] if command == "export" else []
    assert read(served, "job", command, name, *more) == code
    assert "job" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_coordinator_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "list", "--url", "http://127.0.0.1:9"]) == 3
    assert "no answer from http://127.0.0.1:9" in capsys.readouterr().err


# --- pause, resume, stop -------------------------------------------------------------------------


def test_a_job_is_paused_resumed_and_stopped(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    for act, state in (("pause", "paused"), ("resume", "running"), ("pause", "paused")):
        assert operate(served, "job", act, "default") == 0
        assert state in capsys.readouterr().out
        assert served.http.get("/jobs/default").json()["state"] == state
    assert operate(served, "job", "stop", "default", "--yes", "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"
    assert operate(served, "job", "resume", "default") == 3
    assert "is stopped and cannot be resumed any more" in capsys.readouterr().err


def test_a_job_is_not_stopped_by_a_script_that_does_not_say_that_it_means_it(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert operate(served, "job", "stop", "default") == 2
    assert "--yes" in capsys.readouterr().err
    assert served.http.get("/jobs/default").json()["state"] == "running"


# --- watch -------------------------------------------------------------------------------------


def between_looks(monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], object]) -> None:
    """Let one thing after the other happen whenever the watch waits to look again."""
    left = list(acts)
    clock = SimpleNamespace(time=time.time, sleep=lambda _: left.pop(0)() if left else time.sleep(0.01))
    monkeypatch.setattr(job_watch, "time", clock)


def test_a_watch_ends_with_the_job(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    between_looks(monkeypatch, lambda: None, lambda: served.coordinator.steering.stop("default", by="test"))
    assert read(served, "job", "watch", "default") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "job default is running"
    assert told[1].startswith("round 1/")
    assert told[-1] == "job default is stopped"


def test_a_watch_in_json_writes_a_line_for_each_change(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steering = served.coordinator.steering
    acts = [partial(act, "default", by="test") for act in (steering.pause, steering.pause, steering.stop)]
    between_looks(monkeypatch, *acts)
    assert read(served, "job", "watch", "default", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["state"] for line in lines] == ["running", "paused", "stopped"]
    assert lines[0]["round_state"] == "OPEN"
    assert (lines[-1]["round_id"], lines[-1]["rounds_closed"]) == (None, 1)


def test_a_watch_outlives_a_coordinator_that_is_away_for_a_moment(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = AdminApi.get, iter([False, False, True, True])

    def get(api: AdminApi, path: str, **query: Any) -> dict[str, Any]:
        if next(tries, False):
            raise CoordinatorUnreachable("no answer from the coordinator", retry_after_seconds=0.0)
        return real(api, path, **query)

    monkeypatch.setattr(AdminApi, "get", get)
    between_looks(monkeypatch, lambda: served.coordinator.steering.stop("default", by="test"))
    assert read(served, "job", "watch", "default") == 0
    told = capsys.readouterr()
    assert told.err.count("no answer from the coordinator; trying again") == 2
    assert told.out.splitlines()[-1] == "job default is stopped"


# --- export ------------------------------------------------------------------------------------


def test_an_export_holds_everything_says_the_digest_of_each_file_and_is_the_same_again(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        assert read(served, "job", "export", "default", "--out", str(folder)) == 0
    manifest = json.loads((first / "manifest.json").read_text())
    for file in manifest["files"]:
        content = (first / file["path"]).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    found = {str(path.relative_to(first)): path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert found.keys() == {file["path"] for file in manifest["files"]} | {"manifest.json"}
    assert {"models/v1.safetensors", "models/v2.safetensors", "rounds.json", "versions.json"} < found.keys()
    assert found == {str(path.relative_to(second)): path.read_bytes() for path in second.rglob("*") if path.is_file()}
    chain: str = FIRST_CHAIN
    for made in json.loads(found["manifests.json"]):
        model = Digest(sha256(found[f"models/{made['version']}.safetensors"]).hexdigest())
        chain = chain_digest(chain, manifest=made["manifest"], model=model)
    assert chain == manifest["chain"]
    assert len(json.loads(made["manifest"])) == 2


def test_an_export_of_versions_that_do_not_follow_from_each_other_is_refused(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = served.coordinator.jobs.view

    def changed(name: str | None) -> JobView:
        found = view(name)
        return replace(found, versions=[replace(version, manifest="[]") for version in found.versions])

    monkeypatch.setattr(served.coordinator.jobs, "view", changed)
    assert read(served, "job", "export", "default", "--out", str(tmp_path / "x")) == 1
    assert "v2 does not follow from what it was made of" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_recipe_of_an_export_creates_the_same_job_elsewhere(
    served: Served, serve_job: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(served, "job", "export", "default", "--out", str(tmp_path / "x"), "--models", "none") == 0
    recipe = tmp_path / "x" / "job.json"
    assert parse_job(json.loads(recipe.read_text())).name == "default"
    other = serve_job(None)
    assert operate(other, "job", "create", str(recipe)) == 0
    first = [server.http.get("/jobs/default").json()["versions"][0]["digest"] for server in (served, other)]
    assert first[0] == first[1]


def test_an_export_into_one_file_is_the_same_again_too(served: Served, tmp_path: Path) -> None:
    files = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for file in files:
        assert read(served, "job", "export", "default", "--out", str(file), "--models", "latest") == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    with zipfile.ZipFile(files[0]) as archive:
        assert "models/v2.safetensors" in archive.namelist()
        assert "models/v1.safetensors" not in archive.namelist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "b.zip"]


def test_an_export_does_not_write_over_another_unless_forced(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    assert read(served, "job", "export", "default", "--out", str(folder)) == 2
    assert "--force" in capsys.readouterr().err
    assert (folder / "mine.txt").exists()
    assert read(served, "job", "export", "default", "--out", str(folder), "--force") == 0
    assert not (folder / "mine.txt").exists()


def test_an_export_of_wrong_words_is_refused(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(served, "job", "export", "default", "--out", str(tmp_path / "x"), "--models", "some") == 2
    assert "some" in capsys.readouterr().err
    assert read(served, "job", "export", "default", "--out", str(tmp_path / "no" / "x")) == 2
    assert "a folder that does not exist" in capsys.readouterr().err


# --- rounds ------------------------------------------------------------------------------------


def test_a_round_is_shown_with_who_reported(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert read(served, "round", "show", "1") == 0
    told = capsys.readouterr().out
    for words in ("1 of job default, sync", "CLOSED", "anna", "bob", "reported", "v2"):
        assert words in told
    found = read_json(served, capsys, "round", "show", "1")
    assert (found["status"]["state"], len(found["timing"]["arrivals"])) == ("CLOSED", 2)


@pytest.mark.parametrize(("round_id", "code"), [("99", 3), ("0", 2), ("one", 2)])
def test_a_round_that_is_not_there_is_refused(served: Served, round_id: str, code: int) -> None:
    assert read(served, "round", "show", round_id) == code
    assert operate(served, "round", "close", round_id) == code


def test_a_round_is_closed_early_with_the_updates_that_it_has(
    serve_job: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    served = serve_job(JOB + "[rounds]\ntarget_updates = 5\nmin_updates = 1\n")
    anna, _ = served.join("anna"), served.join("bob")
    task = anna.task()
    assert operate(served, "round", "close", "1") == 3
    assert "0 of at least 1 updates" in capsys.readouterr().err
    assert anna.put(task, update_body(task)).status_code == 201
    assert operate(served, "round", "close", "1") == 0
    assert "round 1 of job second is closed: 1 updates made v2" in capsys.readouterr().out
    assert operate(served, "round", "close", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["model_version"] == "v2"
