"""Finished updates on the disk: whole, private, bounded, and there until they are answered."""

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.finishing import LeftBehind
from fed_compute.client.own_folder import OwnFolder
from fed_compute.client.sealed_files import write_sealed
from fed_compute.client.spool import Spool, WaitingUpdate
from fed_compute.client.trainer import TrainingResult
from fed_compute.client.work import FinishedUpdate, NormReport
from fed_compute.errors import StateUnusable
from fed_compute.learning.compression import Residual
from fed_compute.protocol.messages import SAFETENSORS
from tests.unit.client.fragile_disk import DiedError, FragileDisk
from tests.unit.client.parts import folder_in
from tests.unit.client.recipes import recipe_for, task_for
from tests.unit.client.volunteer import Watcher

TASK = task_for(recipe_for(), task_id="t_1", round_id=7)
NOTHING = np.zeros(0, dtype=np.float32)


def update(
    body: bytes = b"body", *, residual: list[float] | None = None, control: list[float] | None = None
) -> FinishedUpdate:
    left = LeftBehind(
        residual=None if residual is None else Residual(np.array(residual, dtype=np.float32)),
        control=None if control is None else np.array(control, dtype=np.float32),
    )
    return FinishedUpdate(
        body=body,
        content_type=SAFETENSORS,
        result=TrainingResult(NOTHING, 80, 0.1 + 0.2, 3.0),
        left=left,
        says={"num_samples": 80, "loss": 0.3},
        norm=NormReport(trained=2.0, sent=1 / 3, limit=None),
    )


def spool_in(path: Path, *, max_bytes: int = 10**6, watcher: Watcher | None = None) -> Spool:
    return Spool(folder_in(path), watcher or Watcher(), max_bytes=max_bytes)


def files(own: OwnFolder) -> list[str]:
    """Return the names of all files below the spool."""
    return sorted(path.name for path in own.spool.rglob("*") if path.is_file())


def same(found: WaitingUpdate, wanted: WaitingUpdate) -> bool:
    residuals = [None if one.left.residual is None else one.left.residual.unsent.tobytes() for one in (found, wanted)]
    controls = [None if one.left.control is None else one.left.control.tobytes() for one in (found, wanted)]
    plain = [(o.task, o.body, o.content_type, dict(o.says), o.norm, o.loss) for o in (found, wanted)]
    return plain[0] == plain[1] and residuals[0] == residuals[1] and controls[0] == controls[1]


@pytest.mark.parametrize("residual", [None, [0.1, -2.5e-30, 3e38]])
@pytest.mark.parametrize("control", [None, [-0.1, 4e-30, 1.0]])
def test_an_update_waits_with_all_that_is_needed_to_send_it_and_to_go_on(
    tmp_path: Path, residual: list[float] | None, control: list[float] | None
) -> None:
    kept = spool_in(tmp_path).put(TASK, update(residual=residual, control=control))
    later = spool_in(tmp_path)
    (found,) = later.waiting()
    assert same(found, kept)
    assert (kept.is_new, found.is_new) == (True, False)
    assert later.holds("t_1")
    later.remove("t_1")
    assert not later.holds("t_1")
    assert list(later.waiting()) == []


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    spool_in(tmp_path).put(TASK, update())
    own = folder_in(tmp_path)
    assert {stat.S_IMODE(path.stat().st_mode) for path in own.spool.rglob("*") if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (own.root, own.spool)} == {0o700}


def test_the_oldest_is_sent_first(tmp_path: Path) -> None:
    spool, own = spool_in(tmp_path), folder_in(tmp_path)
    for number, seconds in (("t_1", 300), ("t_2", 100), ("t_3", 200)):
        spool.put(TASK.model_copy(update={"task_id": number}), update())
        os.utime(own.spool / f"{number}.update", (seconds, seconds))
    assert [one.task.task_id for one in spool.waiting()] == ["t_2", "t_3", "t_1"]


TORN = [b"", b"x", b"x" * 500, None]


@pytest.mark.parametrize("content", TORN, ids=["empty", "a byte", "something else", "half"])
def test_a_torn_file_is_set_aside_and_told_and_the_others_are_sent(tmp_path: Path, content: bytes | None) -> None:
    watcher, own = Watcher(), folder_in(tmp_path)
    spool = spool_in(tmp_path, watcher=watcher)
    for number in ("t_1", "t_2"):
        spool.put(TASK.model_copy(update={"task_id": number}), update())
    torn = own.spool / "t_1.update"
    torn.write_bytes(torn.read_bytes()[:300] if content is None else content)
    assert [one.task.task_id for one in spool.waiting()] == ["t_2"]
    assert [(name, fields["file"]) for name, fields in watcher.events] == [
        ("update_set_aside", str(own.aside / "t_1.update"))
    ]
    assert [one.task.task_id for one in spool.waiting()] == ["t_2"], "and it stays aside"
    assert (own.aside / "t_1.update").exists()


@pytest.mark.parametrize("head", [{}, {"task": {"task_id": "t_1"}}, {"task": 3}])
def test_what_another_version_wrote_is_set_aside(tmp_path: Path, head: dict[str, Any]) -> None:
    watcher = Watcher()
    write_sealed(folder_in(tmp_path).spool / "t_1.update", head, [b"body"], durable=True)
    assert list(spool_in(tmp_path, watcher=watcher).waiting()) == []
    assert watcher.names() == ["update_set_aside"]


def test_what_no_coordinator_refused_is_kept_and_told(tmp_path: Path) -> None:
    watcher, own = Watcher(), folder_in(tmp_path)
    spool = spool_in(tmp_path, watcher=watcher)
    spool.put(TASK, update())
    spool.set_aside("t_1", why="404 of a hotspot")
    assert not spool.holds("t_1")
    assert watcher.all("update_set_aside") == [{"file": str(own.aside / "t_1.update"), "why": "404 of a hotspot"}]
    (own.aside / "t_1.update").rename(own.spool / "t_1.update")
    assert [one.body for one in spool.waiting()] == [b"body"], "its owner may give it another try"


def test_a_spool_that_is_full_drops_what_is_aside_and_then_the_oldest_and_says_so(tmp_path: Path) -> None:
    watcher, own = Watcher(), folder_in(tmp_path)
    spool = spool_in(tmp_path, max_bytes=100_000, watcher=watcher)
    for number in range(1, 10):
        spool.put(TASK.model_copy(update={"task_id": f"t_{number}"}), update(b"x" * 30_000))
        os.utime(own.spool / f"t_{number}.update", (number, number))
        if number == 2:
            spool.set_aside("t_2", why="as the test wants")
        assert sum(path.stat().st_size for path in own.spool.rglob("*.update")) <= 110_000
    assert [one.task.task_id for one in spool.waiting()] == ["t_7", "t_8", "t_9"]
    assert [Path(fields["file"]).stem for fields in watcher.all("update_dropped")] == [
        "t_2", "t_1", "t_3", "t_4", "t_5", "t_6",
    ]  # fmt: skip


def test_an_update_that_cannot_be_kept_is_an_error_that_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    spool = spool_in(tmp_path)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StateUnusable, match=r"no space left.*CLIENT_STATE_DIR"):
        spool.put(TASK, update())
    assert files(folder_in(tmp_path)) == []


# --- death at every step -----------------------------------------------------------------------

PUT, REMOVE, ASIDE = "put", "remove", "aside"
ACTS = st.lists(st.tuples(st.sampled_from([PUT, PUT, REMOVE, ASIDE]), st.integers(1, 3)), min_size=1, max_size=8)


def act(spool: Spool, what: str, task_id: str, number: int) -> None:
    if what == PUT:
        spool.put(TASK.model_copy(update={"task_id": task_id}), update(b"%d" % number * 400, residual=[number]))
    elif spool.holds(task_id):
        spool.remove(task_id) if what == REMOVE else spool.set_aside(task_id, why="as the test wants")


@given(acts=ACTS, power_cut=st.booleans(), data=st.data())
def test_wherever_the_process_dies_what_was_kept_is_there_whole(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, int]], power_cut: bool, data: st.DataObject
) -> None:
    """The act that was under way may have happened or not; every other one has, and nothing is ever half there."""
    before = _survivors(tmp_path_factory.mktemp("all"), acts, die_at=None, power_cut=False)[2]
    die_at = data.draw(st.integers(1, before)) if before else None
    done, found, _ = _survivors(tmp_path_factory.mktemp("some"), acts, die_at=die_at, power_cut=power_cut)
    states = [_expected(acts[:count]) for count in (done, min(done + 1, len(acts)))]
    assert found in states


def _survivors(
    path: Path, acts: list[tuple[str, int]], *, die_at: int | None, power_cut: bool
) -> tuple[int, dict[str, bytes], int]:
    """Act until death; return how many acts were whole, what the next process finds, and the steps it took."""
    done, watcher = 0, Watcher()
    folder_in(path)
    with pytest.MonkeyPatch.context() as patch:
        disk = FragileDisk(patch, die_at=die_at, power_cut=power_cut)
        spool = spool_in(path)
        try:
            for number, (what, task) in enumerate(acts):
                act(spool, what, f"t_{task}", number)
                done += 1
        except DiedError:
            pass  # the next process finds what it finds
    found = {one.task.task_id: one.body for one in spool_in(path, watcher=watcher).waiting()}
    assert watcher.events == [], "nothing was torn"
    assert not [name for name in files(folder_in(path)) if name[0] == "."], "nothing half written is left"
    return done, found, disk.steps


def _expected(acts: list[tuple[str, int]]) -> dict[str, bytes]:
    held: dict[str, bytes] = {}
    for number, (what, task) in enumerate(acts):
        if what == PUT:
            held[f"t_{task}"] = b"%d" % number * 400
        else:
            held.pop(f"t_{task}", None)
    return held
