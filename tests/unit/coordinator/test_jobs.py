"""Jobs: created once, found by name, begun with a model that anybody can draw again."""

import pytest

from fed_compute.errors import JobExists, JobFileInvalid, JobNotFound, ModelMalformed, VersionNotFound
from fed_compute.protocol.models import decode_model, encode_model
from fed_compute.protocol.schema import Parameter, ParameterSchema, draw_initial
from fed_compute.rounds.records import JobState, RoundState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, tiny_job

PLUG_IN = ParameterSchema((Parameter("w", (2, 3), initial="normal", scale=0.5),))


def test_a_job_begins_with_v1_and_an_open_round(open_stand: OpenStand) -> None:
    stand = open_stand()
    job = stand.create(tiny_job())
    (version,) = stand.versions()
    assert (version.version, version.parent, version.round_id, version.manifest) == (1, None, None, "[]")
    assert [round_.state for round_ in stand.rounds()] == [RoundState.OPEN]
    assert (job.state, job.created_at) == (JobState.RUNNING, stand.clock.now())
    kinds = [entry.kind for entry in stand.journal() if entry.kind != "operator_key_issued"]
    assert kinds == ["job_created", "version_published", "round_opened"]


def test_v1_is_drawn_from_the_jobs_seed(open_stand: OpenStand) -> None:
    stand = open_stand()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        stand.create(tiny_job(name, sections={"seed": seed}))
    digests = [stand.versions(job_id)[0].digest for job_id in (1, 2, 3)]
    assert digests[0] == digests[1] != digests[2]
    schema = tiny_job().schema_of_model()
    assert stand.core.models.get(digests[0]) == encode_model(draw_initial(schema, seed=1), schema)


def test_the_same_job_twice_is_one_job(stand: Stand) -> None:
    before = stand.journal()
    assert stand.create() == stand.core.jobs.default()
    assert (len(stand.core.jobs.all()), stand.journal()) == (1, before)


def test_the_same_job_is_found_again_after_it_has_gone_on(stand: Stand) -> None:
    """Starting the coordinator with its job file must never begin anew."""
    stand.join("anna")
    stand.report("anna")
    stand.work()
    stand.create()
    assert len(stand.versions()) == 2


@pytest.mark.parametrize("other", [{"total": 7}, {"sections": {"seed": 9}}])
def test_another_job_of_the_same_name_is_refused_and_the_first_stays(stand: Stand, other: dict[str, int]) -> None:
    before = (stand.journal(), stand.core.jobs.view("default"))
    with pytest.raises(JobExists):
        stand.create(tiny_job(**other))
    assert (stand.journal(), stand.core.jobs.view("default")) == before


def test_a_job_may_start_from_a_given_model(open_stand: OpenStand) -> None:
    stand = open_stand()
    schema = tiny_job().schema_of_model()
    given = encode_model(draw_initial(schema, seed=77), schema)
    stand.core.jobs.create(tiny_job(), first_model=given)
    assert stand.core.models.get(stand.versions()[0].digest) == given
    with pytest.raises(JobExists):
        stand.create(tiny_job())  # the same file, but v1 drawn from the seed


def test_a_first_model_of_another_shape_is_refused_and_leaves_no_job(open_stand: OpenStand) -> None:
    stand = open_stand()
    foreign = encode_model(draw_initial(PLUG_IN, seed=0), PLUG_IN)
    for body in (foreign, b"", b"x" * 100):
        with pytest.raises(ModelMalformed):
            stand.core.jobs.create(tiny_job(), first_model=body)
    assert stand.core.jobs.all() == []
    assert stand.blobs() == set()


def test_a_plug_in_model_brings_its_parameters(open_stand: OpenStand) -> None:
    stand = open_stand()
    spec = tiny_job(sections={"model": {"name": "somebodys_model", "args": {"depth": 3}}})
    with pytest.raises(JobFileInvalid):
        stand.core.jobs.create(spec)
    stand.core.jobs.create(spec, schema=PLUG_IN)
    model = decode_model(stand.core.models.get(stand.versions()[0].digest), PLUG_IN)
    assert model.tolist() == draw_initial(PLUG_IN, seed=0).tolist()


def test_a_built_in_model_cannot_be_given_other_parameters(open_stand: OpenStand) -> None:
    stand = open_stand()
    with pytest.raises(JobFileInvalid, match="built in"):
        stand.core.jobs.create(tiny_job(), schema=PLUG_IN)
    stand.core.jobs.create(tiny_job(), schema=tiny_job().schema_of_model())


def test_calls_without_a_job_mean_the_one_named_default_else_the_oldest(open_stand: OpenStand) -> None:
    stand = open_stand()
    with pytest.raises(JobNotFound):
        stand.core.jobs.default()
    for name, found in (("first", "first"), ("second", "first"), ("default", "default")):
        stand.create(tiny_job(name))
        assert stand.core.jobs.default().name == stand.core.jobs.named(None).name == found
    assert [job.name for job in stand.core.jobs.all()] == ["first", "second", "default"]


def test_a_job_that_does_not_exist_is_named_in_the_refusal(stand: Stand) -> None:
    for act in (stand.core.jobs.named, stand.core.jobs.view):
        with pytest.raises(JobNotFound, match="nowhere"):
            act("nowhere")


def test_a_view_shows_rounds_and_versions_of_that_job_only(stand: Stand) -> None:
    stand.create(tiny_job("other"))
    stand.join("anna")
    stand.report("anna")
    stand.work()
    mine, other = stand.core.jobs.view("default"), stand.core.jobs.view("other")
    assert [round_.number for round_ in mine.rounds] == [1, 2]
    assert [version.version for version in mine.versions] == [1, 2]
    assert (len(other.rounds), len(other.versions)) == (1, 1)


def test_versions_are_found_by_their_name(stand: Stand) -> None:
    stand.join("anna")
    stand.report("anna")
    stand.work()
    job = stand.core.jobs.default()
    found = [stand.core.jobs.version(job, text).version for text in ("v1", "v2", "latest")]
    assert found == [1, 2, 2]
    for text in ("v3", "v0", "2", "", "V1", "v01", "latest ", "v999999999999"):
        with pytest.raises(VersionNotFound):
            stand.core.jobs.version(job, text)
