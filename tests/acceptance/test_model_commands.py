"""`fed-compute model` against a real server: files that are what they say, and how versions differ."""

import builtins
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from fed_compute.cli.main import main
from fed_compute.coordinator.recipes import schema_of
from fed_compute.protocol.models import decode_model
from tests.acceptance.conftest import Serve, Served, update_body


@pytest.fixture(scope="module")
def served(serve_job: Serve) -> Served:
    """A server whose default job has two versions."""
    served = serve_job()
    for client in (served.join("anna"), served.join("bob")):
        task = client.task()
        assert client.put(task, update_body(task)).status_code == 201
    key = {"Authorization": f"Bearer {served.operator_key}"}
    assert served.http.get("/aggregate/1", headers=key).status_code == 200
    return served


def read(served: Served, *words: str) -> int:
    return main(["model", *words, "--url", served.url])


def read_json(served: Served, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert read(served, *words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def vector(served: Served, version: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    core = served.coordinator
    job = core.jobs.default()
    return decode_model(core.models.get(core.jobs.version(job, version).digest), schema_of(job))


def test_versions_are_listed_with_their_digests(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert read(served, "list") == 0
    told = capsys.readouterr().out
    assert "v1" in told
    assert "v2" in told
    listed = read_json(served, capsys, "list", "--job", "default", "--limit", "1")
    assert [version["version"] for version in listed] == ["v2"]
    assert listed[0]["digest"] == served.http.get("/model/v2").json()["digest"]


def test_a_model_is_fetched_whole_and_its_digest_is_that_of_the_file(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = read_json(served, capsys, "get", "latest")
    assert (told["version"], told["file"]) == ("v2", "default-v2.safetensors")
    content = Path(told["file"]).read_bytes()
    assert (sha256(content).hexdigest(), len(content)) == (told["digest"], told["bytes"])
    job = served.coordinator.jobs.default()
    np.testing.assert_array_equal(decode_model(content, schema_of(job)), vector(served, "v2"))


def test_a_file_that_is_there_is_not_written_over_unless_forced(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine"
    file.write_text("keep")
    for command in ("get", "export"):
        assert read(served, command, "v1", "--out", str(file)) == 2
        assert "--force" in capsys.readouterr().err
    assert file.read_text() == "keep"
    assert read(served, "get", "v1", "--out", str(file), "--force") == 0
    assert file.stat().st_size > 100
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["v99"], 3, "no model version 'v99'"),
        (["3"], 2, "wanted one like v3, or latest"),
        (["v0"], 2, "wanted one like v3, or latest"),
        (["../v1"], 2, "wanted one like v3, or latest"),
        (["v1", "--job", "nobody"], 3, "there is no job 'nobody'"),
        (["v1", "--job", "No Name"], 2, "is no job's name"),
    ],
)
@pytest.mark.parametrize("command", ["get", "export"])
def test_a_version_that_is_not_there_is_refused_and_leaves_no_file(
    served: Served,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    words: list[str],
    code: int,
    says: str,
) -> None:
    assert read(served, command, *words, "--out", str(tmp_path / "file")) == code
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_arrives_damaged_is_refused_and_leaves_no_file(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = served.coordinator.models.get

    def damaged(digest: Any) -> bytes:
        content = bytearray(right(digest))
        content[-1] ^= 1
        return bytes(content)

    monkeypatch.setattr(served.coordinator.models, "get", damaged)
    assert read(served, "get", "v1", "--out", str(tmp_path / "file")) == 3
    assert "fetch it again" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_exported_state_dict_is_read_without_running_code_and_has_the_models_values(
    served: Served, tmp_path: Path
) -> None:
    file = tmp_path / "model.pt"
    assert read(served, "export", "v2", "--format", "state_dict", "--out", str(file)) == 0
    state = torch.load(file, weights_only=True)
    flat = np.concatenate([tensor.numpy().ravel() for tensor in state.values()])
    np.testing.assert_array_equal(flat, vector(served, "v2"))


def test_an_exported_graph_names_its_version(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    assert read(served, "export", "v2", "--format", "onnx", "--out", str(file)) == 0
    facts = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    digest = served.http.get("/model/v2").json()["digest"]
    assert facts == {"job": "default", "version": "v2", "model_sha256": digest}


@pytest.mark.parametrize(
    ("to", "missing", "extra"),
    [("state_dict", "torch", "client"), ("onnx", "torch", "client"), ("onnx", "onnx", "onnx")],
)
def test_an_export_that_needs_what_is_not_installed_names_the_extra(
    served: Served,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    to: str,
    missing: str,
    extra: str,
) -> None:
    real = builtins.__import__
    wanted = {"torch": "fed_compute.client.models.conversion", "onnx": "fed_compute.client.models.onnx_graphs"}[missing]

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == wanted:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert read(served, "export", "v1", "--format", to, "--out", str(tmp_path / "file")) == 2
    assert f"fed-compute[{extra}]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_shape_that_is_none_is_refused(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert read(served, "export", "v1", "--format", "onnx", "--input-shape", "3,x") == 2
    assert "wanted whole numbers like 3,32,32" in capsys.readouterr().err


def test_two_versions_are_compared_parameter_by_parameter(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    found = read_json(served, capsys, "diff", "v1", "v2")
    before, after = vector(served, "v1"), vector(served, "v2")
    assert found["whole"]["norm_of_change"] == pytest.approx(float(np.linalg.norm(after - before)), rel=1e-5)
    assert [part["name"] for part in found["parameters"]] == [
        part.name for part in schema_of(served.coordinator.jobs.default()).parameters
    ]
    assert sum(part["norm_of_change"] ** 2 for part in found["parameters"]) == pytest.approx(
        found["whole"]["norm_of_change"] ** 2, rel=1e-5
    )
    assert read(served, "diff", "v1", "v2", "--by", "change") == 0
    told = capsys.readouterr().out
    assert "cosine" in told
    assert "all" in told


def test_a_version_does_not_differ_from_itself(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    whole = read_json(served, capsys, "diff", "v2", "latest")["whole"]
    assert (whole["norm_of_change"], whole["largest"]) == (0.0, 0.0)


@pytest.mark.parametrize(("words", "code"), [(["v1", "v99"], 3), (["1", "v2"], 2), (["v1"], 2)])
def test_a_comparison_with_what_is_not_there_is_refused(served: Served, words: list[str], code: int) -> None:
    assert read(served, "diff", *words) == code
