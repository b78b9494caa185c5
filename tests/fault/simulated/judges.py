"""What must be true of a history when it is over: what volunteers heard against what is on record and in the models."""

import hashlib
from collections.abc import Iterator, Sequence

from fed_compute.coordinator.folding import read_manifest
from fed_compute.coordinator.recipes import schema_of
from fed_compute.coordinator.sweeper import referenced
from fed_compute.coordinator.verify import verify
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.ids import format_version
from fed_compute.protocol.models import decode_model
from fed_compute.rounds.records import Update, UpdateState, Version
from tests.fault.simulated.marks import STRANGE, Marks, times_counted
from tests.fault.simulated.volunteer import Volunteer


def breaches(core: Coordinator, marks: Marks, volunteers: Sequence[Volunteer]) -> list[str]:
    """Return every broken promise. The coordinator must be at rest: no round in the middle, nothing left to do."""
    with core.store.snapshot() as records:
        updates = {int(update.update_id): update for update in records.updates.all()}
        known = referenced(records)
    found = [*verify(core.store, core.blobs).breaches]
    found += [text for volunteer in volunteers for text in volunteer.unexpected]
    found += _acknowledged_are_recorded(updates, volunteers)
    found += _nothing_invented(updates, marks)
    found += _counted_once(core, updates, marks)
    found += _models_were_published(core, volunteers)
    found += [f"the body {path.name} has been arriving for days" for path in core.blobs.incoming("x").parent.iterdir()]
    found += [f"blob {digest} is an orphan, and a day old" for digest in sorted(set(core.blobs.digests()) - known)]
    return found


def _acknowledged_are_recorded(updates: dict[int, Update], volunteers: Sequence[Volunteer]) -> Iterator[str]:
    for volunteer in volunteers:
        for update_id, heard in volunteer.acknowledged.items():
            kept = updates.get(update_id)
            if kept is None or (str(kept.digest), str(kept.task_id)) != (heard.digest, heard.task_id):
                yield f"{volunteer.name} has a 2xx for update {update_id}, on record is {kept}"


def _nothing_invented(updates: dict[int, Update], marks: Marks) -> Iterator[str]:
    for update in updates.values():
        if update.digest not in marks.by_digest:
            yield f"update {update.update_id} has bytes that nobody sent"


def _counted_once(core: Coordinator, updates: dict[int, Update], marks: Marks) -> Iterator[str]:
    """The one equality: what the models hold is what is on record, each once, but for what is listed as late."""
    job = core.jobs.default()
    wanted = [0] * schema_of(job).num_parameters
    for update in updates.values():
        if update.digest in marks.by_digest and update.state is not UpdateState.LATE:
            wanted[marks.by_digest[update.digest]] += 1
    with core.store.snapshot() as records:
        versions = records.versions.of_job(job.job_id)
    models = [decode_model(core.models.get(version.digest), schema_of(job)) for version in versions]
    got = times_counted(models, [_weights(version, marks) for version in versions])
    for place, (times, should) in enumerate(zip(got, wanted, strict=True)):
        if times != should or times > 1:
            yield f"the update of place {place} is {times} times in the models, {should} times on record"


def _weights(version: Version, marks: Marks) -> list[tuple[int, float]]:
    manifest = read_manifest(version.manifest)
    return [(marks.by_digest.get(digest, STRANGE), weight) for _, digest, weight in manifest]


def _models_were_published(core: Coordinator, volunteers: Sequence[Volunteer]) -> Iterator[str]:
    with core.store.snapshot() as records:
        versions = records.versions.of_job(core.jobs.default().job_id)
    published = {format_version(version.version): str(version.digest) for version in versions}
    for volunteer in volunteers:
        for version, digest in volunteer.models.items():
            if published.get(version) != digest:
                yield f"{volunteer.name} read {version} of digest {digest}, published is {published.get(version)}"


def journal_digest(core: Coordinator) -> str:
    """Return SHA-256 over the whole journal and the chain of versions: equal histories have equal ones."""
    hasher = hashlib.sha256()
    with core.store.snapshot() as records:
        seq = 0
        while entries := records.journal.after(seq):
            hasher.update(repr(entries).encode())
            seq = entries[-1].seq
        for job in records.jobs.all():
            hasher.update(records.versions.latest(job.job_id).chain.encode())
    return hasher.hexdigest()
