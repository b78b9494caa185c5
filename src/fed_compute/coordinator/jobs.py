"""Creates jobs and answers what became of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from fed_compute.clock import Clock
from fed_compute.coordinator.publisher import first_version, publish_version
from fed_compute.coordinator.round_manager import RoundManager
from fed_compute.errors import JobExists, JobFileInvalid, JobNotFound, VersionNotFound
from fed_compute.ids import DEFAULT_JOB, parse_version
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.models import decode_model, encode_model
from fed_compute.protocol.schema import ParameterSchema, draw_initial
from fed_compute.rounds.records import Job, Round, Version
from fed_compute.storage.model_store import ModelStore
from fed_compute.storage.sql.store import Records, Store


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with its rounds and versions, oldest first."""

    job: Job
    rounds: Sequence[Round]
    versions: Sequence[Version]


class JobDesk:
    """Adds jobs and finds them by name."""

    def __init__(self, store: Store, models: ModelStore, rounds: RoundManager, clock: Clock) -> None:
        self._store = store
        self._models = models
        self._rounds = rounds
        self._clock = clock

    def create(self, spec: JobSpec, *, schema: ParameterSchema | None = None, first_model: bytes | None = None) -> Job:
        """Add a job: version v1 is stored and its first round opened. The same job twice is one job.

        Args:
            spec: the recipe.
            schema: the parameters of a plug-in model; a built-in model has its own.
            first_model: a model file to start from; without one v1 is drawn from the job's seed.

        Raises:
            JobExists: if another job has the name.
            JobFileInvalid: if the model is not built in and no schema is given.
            ModelMalformed: if `first_model` is not a model file of this schema.
        """
        schema = _schema(spec, schema)
        model = first_model if first_model is not None else encode_model(draw_initial(schema, seed=spec.seed), schema)
        decode_model(model, schema)
        digest, spec_text, schema_text = sha256_hex(model), spec.model_dump_json(), json.dumps(schema.to_json())
        with self._store.snapshot() as records:
            if (existing := records.jobs.named(spec.name)) is not None:
                return _same_or_refuse(records, existing, spec_text, schema_text, digest)  # and keep nothing
        self._models.put(model)
        with self._store.transaction() as records:
            if (existing := records.jobs.named(spec.name)) is not None:
                return _same_or_refuse(records, existing, spec_text, schema_text, digest)
            now = self._clock.now()
            job = records.jobs.add(name=spec.name, spec=spec_text, schema=schema_text, now=now)
            records.journal.append("job_created", at=now, job_id=job.job_id, name=job.name)
            publish_version(records, first_version(job.job_id, digest, now=now))
            self._rounds.open_next(records, job)
            return job

    def all(self) -> list[Job]:
        """Return every job, oldest first."""
        with self._store.snapshot() as records:
            return records.jobs.all()

    def default(self) -> Job:
        """Return the job that calls without a job name mean: the one named `default`, else the oldest.

        Raises:
            JobNotFound: if there is no job at all.
        """
        with self._store.snapshot() as records:
            job = records.jobs.named(DEFAULT_JOB) or next(iter(records.jobs.all()), None)
        if job is None:
            raise JobNotFound(DEFAULT_JOB)
        return job

    def named(self, name: str | None) -> Job:
        """Return a job by name, or the default job for None.

        Raises:
            JobNotFound: if there is none.
        """
        if name is None:
            return self.default()
        with self._store.snapshot() as records:
            job = records.jobs.named(name)
        if job is None:
            raise JobNotFound(name)
        return job

    def view(self, name: str | None) -> JobView:
        """Return a job with its rounds and versions.

        Raises:
            JobNotFound: if there is none.
        """
        job = self.named(name)
        with self._store.snapshot() as records:
            return JobView(job, records.rounds.of_job(job.job_id), records.versions.of_job(job.job_id))

    def version(self, job: Job, text: str) -> Version:
        """Return a job's version written like `v3`, or `latest`.

        Raises:
            VersionNotFound: if there is none.
        """
        with self._store.snapshot() as records:
            if text == "latest":
                return records.versions.latest(job.job_id)
            try:
                version = records.versions.find(job.job_id, parse_version(text))
            except ValueError:
                version = None
        if version is None:
            raise VersionNotFound(text, job=job.name)
        return version


def _schema(spec: JobSpec, given: ParameterSchema | None) -> ParameterSchema:
    if given is None:
        return spec.schema_of_model()
    try:
        built_in = spec.schema_of_model()
    except JobFileInvalid:
        return given
    if built_in.digest() != given.digest():
        raise JobFileInvalid(f"model {spec.model.name!r} is built in with other parameters than the job brings")
    return built_in


def _same_or_refuse(records: Records, existing: Job, spec: str, schema: str, digest: str) -> Job:
    v1 = records.versions.get(existing.job_id, 1)
    if existing.spec != spec or existing.schema != schema or v1.digest != digest:
        raise JobExists(existing.name)
    return existing
