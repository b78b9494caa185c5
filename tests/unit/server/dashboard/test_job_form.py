"""A job file and fields beside it: what is changed in one is changed in the other, and nothing else."""

import tomllib

import pytest

from fed_compute.errors import JobFileInvalid
from fed_compute.protocol.job import parse_job_text
from fed_compute.server.dashboard.job_form import FIELDS, Draft, fields_of, job_text, settled
from fed_compute.server.dashboard.new_job import EXAMPLE

TEXT = """\
# ours
name = "x"
[model]
name = "linear"
args = { input_dim = 2, output_dim = 1 }
[training]
lr = 0.1  # small
momentum = 0.9
"""


def said_of(text: str) -> str:
    """Return what is wrong with a job file, nothing if it is good."""
    try:
        parse_job_text(text)
    except JobFileInvalid as error:
        return error.message
    return ""


def test_fields_that_nobody_touched_leave_the_file_as_it_is() -> None:
    assert settled(TEXT, fields_of(TEXT), TEXT) == TEXT


def test_a_changed_field_is_written_and_comments_and_other_keys_stay() -> None:
    fields = fields_of(TEXT) | {"training.lr": "0.5", "rounds.total": "7", "wire.encoding": "int8"}
    text = settled(TEXT, fields, TEXT)
    assert "# ours" in text
    assert "# small" in text
    data = tomllib.loads(text)
    assert data["training"] == {"lr": 0.5, "momentum": 0.9}
    assert (data["rounds"], data["wire"]) == ({"total": 7}, {"encoding": "int8"})


def test_an_emptied_field_leaves_the_key_to_its_default() -> None:
    text = settled(TEXT, fields_of(TEXT) | {"training.lr": ""}, TEXT)
    assert "lr" not in tomllib.loads(text)["training"]


def test_a_file_that_was_changed_by_hand_wins_over_fields_that_were_not() -> None:
    edited = TEXT.replace("0.1", "0.2")
    assert settled(edited, fields_of(TEXT), TEXT) == edited


def test_both_may_be_changed_at_once() -> None:
    edited = TEXT.replace("momentum = 0.9", "momentum = 0.5")
    data = tomllib.loads(settled(edited, fields_of(TEXT) | {"training.lr": "0.3"}, TEXT))
    assert data["training"] == {"lr": 0.3, "momentum": 0.5}


def test_a_number_that_is_none_is_left_to_the_check_which_names_its_key() -> None:
    text = settled(TEXT, fields_of(TEXT) | {"rounds.total": "many"}, TEXT)
    with pytest.raises(JobFileInvalid, match=r"rounds\.total.*'many'"):
        parse_job_text(text)


@pytest.mark.parametrize("field", ["{ input_dim = ", "]", "1 = 2"])
def test_arguments_that_are_no_toml_are_said_not_to_be(field: str) -> None:
    with pytest.raises(JobFileInvalid):
        settled(TEXT, fields_of(TEXT) | {"model.args": field}, TEXT)


def test_a_field_cannot_be_written_into_a_file_that_is_no_toml() -> None:
    with pytest.raises(JobFileInvalid, match="cannot be written into the job file"):
        settled("name = ", fields_of(TEXT) | {"training.lr": "1"}, TEXT)


@pytest.mark.parametrize("text", ['training = 3\nname = "x"', "training = [1, 2]"])
def test_a_section_that_is_no_section_is_refused_and_not_lost(text: str) -> None:
    with pytest.raises(JobFileInvalid):
        settled(text, fields_of(TEXT) | {"training.lr": "1"}, TEXT)


def test_every_field_is_a_key_of_the_job_file() -> None:
    """A field that the job file does not know would be refused the moment it is filled in."""
    for field in FIELDS:
        value = field.choices[0] if field.choices else field.default or "1"
        if field.kind == "table":
            value = "{ input_dim = 2, output_dim = 1 }"
        text = settled(TEXT, fields_of(TEXT) | {field.key: value}, TEXT)
        assert "unknown key" not in said_of(text), field.key


def test_a_stored_recipe_is_written_as_a_job_file_that_says_the_same() -> None:
    spec = parse_job_text(EXAMPLE)
    assert parse_job_text(job_text(spec)) == spec
    assert parse_job_text(job_text(parse_job_text(TEXT))) == parse_job_text(TEXT)


def test_fields_that_follow_do_not_take_back_what_was_changed_in_the_file_by_hand_meanwhile() -> None:
    """Somebody changes the file and, before it was sent, a field: the fields on the screen are then behind the file."""
    edited = TEXT.replace("momentum = 0.9", "momentum = 0.9\nbatch_size = 8")
    typed = fields_of(TEXT) | {"training.lr": "0.3"}
    first = Draft(edited, typed, TEXT).settled(in_fields=True)
    assert first.fields == typed, "nothing changes under the hands of who types"
    again = Draft(first.text, typed, first.base).settled(in_fields=True)
    assert tomllib.loads(again.text)["training"] == {"lr": 0.3, "momentum": 0.9, "batch_size": 8}
    assert again.settled(in_fields=False).fields["training.batch_size"] == "8"


def test_a_file_that_is_no_toml_keeps_its_fields() -> None:
    draft = Draft("name = ", fields_of(TEXT), TEXT)
    assert draft.settled(in_fields=False) == draft
