"""Uploads: one at a time for each task, and lengths that are believed only when they can be."""

from pathlib import Path

import pytest
from fastapi import Request

from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import open_coordinator
from fed_compute.errors import BodyTooLarge, LengthRequired, UpdateMalformed, UploadBusy
from fed_compute.ids import new_task_id
from fed_compute.server.uploads import Uploads, announced_length


def request_with(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw})


def test_a_task_takes_one_upload_at_a_time_and_another_after_it(tmp_path: Path) -> None:
    coordinator = open_coordinator(load_settings(data_dir=tmp_path))
    uploads, task, other = Uploads(coordinator), new_task_id(), new_task_id()
    with uploads.claim(task):
        with pytest.raises(UploadBusy), uploads.claim(task):
            pass
        with uploads.claim(other):
            pass
    with uploads.claim(task):
        assert uploads.stored_bytes(task) == 0
    coordinator.close()


def test_what_came_for_a_task_that_ended_is_forgotten_unless_more_is_coming(tmp_path: Path) -> None:
    coordinator = open_coordinator(load_settings(data_dir=tmp_path))
    uploads, task = Uploads(coordinator), new_task_id()
    uploads.path(task).write_bytes(b"part")
    with uploads.claim(task):
        uploads.abandon(task)
        assert uploads.stored_bytes(task) == 4
    uploads.abandon(task)
    assert uploads.stored_bytes(task) == 0
    coordinator.close()


@pytest.mark.parametrize("text", ["0", "10"])
def test_a_length_within_the_limit_is_taken(text: str) -> None:
    assert announced_length(request_with(content_length=text), limit=10) == int(text)


@pytest.mark.parametrize("text", ["", "-1", "1e3", "٣", " 5", "0x10"])
def test_a_length_that_is_no_whole_number_is_no_length(text: str) -> None:
    request = Request({"type": "http", "headers": [(b"content-length", text.encode("latin-1", "replace"))]})
    with pytest.raises(LengthRequired):
        announced_length(request, limit=10)


@pytest.mark.parametrize("text", ["11", "9" * 30, "9" * 5000])
def test_a_length_above_the_limit_is_refused_however_long_it_is(text: str) -> None:
    with pytest.raises(BodyTooLarge):
        announced_length(request_with(content_length=text), limit=10)


@pytest.mark.parametrize(("text", "fits"), [("4", False), ("5", True)])
def test_a_length_that_no_update_can_have_is_refused_before_the_body(text: str, fits: bool) -> None:
    request = request_with(content_length=text)
    if fits:
        assert announced_length(request, limit=10, least=5) == 5
    else:
        with pytest.raises(UpdateMalformed, match=r"4 bytes are announced; .* 5 to 10"):
            announced_length(request, limit=10, least=5)
