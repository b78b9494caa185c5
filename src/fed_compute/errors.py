"""Every error the product can raise on purpose, with a stable code.

    FedComputeError
    ├── Refused      the sender is wrong; sending the same thing again cannot help
    ├── NotNow       nothing is wrong; try again after `retry_after_seconds`
    ├── Misuse       whoever started the program asked for something impossible
    └── Broken       the fault is ours

A class says its `code` (public API: clients decide by it, never by the text), the HTTP status an
edge should answer with, and builds its own message: what was found, what was wanted, what to do.
Messages carry no secrets, no model values and no paths of the server. Keyword arguments given to
`super().__init__` become `details`, the machine-readable half of the message.
"""

import errno
from collections.abc import Iterable, Mapping
from typing import ClassVar


class FedComputeError(Exception):
    """Root of the tree."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Refused(FedComputeError):
    """The request is wrong and will be wrong again; do not resend it unchanged."""

    code = "refused"
    status = 400


class NotNow(FedComputeError):
    """The request may succeed later; wait `retry_after_seconds` first."""

    code = "not_now"
    status = 503

    def __init__(self, message: str, *, retry_after_seconds: float, **details: object) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds, **details)
        self.retry_after_seconds = retry_after_seconds


class Misuse(FedComputeError):
    """The program was asked for something that cannot be done here."""

    code = "misuse"
    status = 400


class Broken(FedComputeError):
    """Something that must hold does not; an operator has to look."""

    code = "internal_error"
    status = 500


# --- refused: the request itself ---------------------------------------------------------------


class RequestInvalid(Refused):
    """The request does not have the documented form."""

    code = "invalid_request"
    status = 422


class ContentTypeUnsupported(Refused):
    """The body is of a type that this call does not take."""

    code = "content_type_unsupported"
    status = 415

    def __init__(self, *, got: str, want: str) -> None:
        super().__init__(f"the body is {got!r}, this call takes {want}", got=got, want=want)


class BodyTooLarge(Refused):
    """The body is longer than this call can ever need."""

    code = "body_too_large"
    status = 413

    def __init__(self, *, got: int, limit: int) -> None:
        super().__init__(f"the body has at least {got} bytes, the limit here is {limit}", got=got, limit=limit)


class LengthRequired(Refused):
    """An upload must say its length in `Content-Length`."""

    code = "length_required"
    status = 411

    def __init__(self) -> None:
        super().__init__("the upload has no Content-Length; send one, chunked bodies are not taken here")


class DigestMissing(Refused):
    """An upload must carry `Content-Digest: sha-256=:…:` (RFC 9530)."""

    code = "digest_missing"
    status = 400

    def __init__(self, detail: str) -> None:
        super().__init__(f"Content-Digest is {detail}; send Content-Digest: sha-256=:<base64>: (RFC 9530)")


class DigestMismatch(Refused):
    """The bytes that arrived are not the bytes that were announced."""

    code = "digest_mismatch"
    status = 400

    def __init__(self, *, got: str, want: str) -> None:
        super().__init__(f"the body hashes to sha-256 {got}, Content-Digest announced {want}", got=got, want=want)


class UploadOffsetMismatch(Refused):
    """A resumed upload does not continue where the stored part ends."""

    code = "upload_offset_mismatch"
    status = 409

    def __init__(self, *, got: int, want: int) -> None:
        super().__init__(f"the upload continues at byte {got}, {want} bytes are stored", got=got, want=want)


class RangeNotSatisfiable(Refused):
    """The requested part begins after the end of the content."""

    code = "range_not_satisfiable"
    status = 416

    def __init__(self, *, size: int) -> None:
        super().__init__(f"the range begins after the end; the content has {size} bytes", size=size)


class RequestMalformed(Refused):
    """What arrived is not a request in HTTP/1.1."""

    code = "malformed_request"
    status = 400

    def __init__(self) -> None:
        super().__init__("what arrived is not a request in HTTP/1.1; nothing of it was done")


class HeadersTooLarge(Refused):
    """The request's line and headers are longer than any request here can need."""

    code = "headers_too_large"
    status = 431

    def __init__(self, *, max_bytes: int, max_fields: int) -> None:
        super().__init__(
            f"the head of the request is above {max_bytes} bytes or {max_fields} header fields",
            max_bytes=max_bytes,
            max_fields=max_fields,
        )


class PathNotFound(Refused):
    """There is nothing at this path."""

    code = "not_found"
    status = 404

    def __init__(self, path: str) -> None:
        super().__init__(f"there is nothing at {path}; GET /docs lists what is here")


class MethodNotAllowed(Refused):
    """The path exists and does not take this method."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, *, path: str, method: str) -> None:
        super().__init__(f"{path} does not take {method}; `Allow` lists what it takes")


class ProtocolUnsupported(Refused):
    """The client speaks a major version of the protocol that this server does not."""

    code = "protocol_unsupported"
    status = 426

    def __init__(self, *, got: str, lowest: int, highest: int) -> None:
        super().__init__(
            f"Fed-Compute-Protocol is {got!r}, this server speaks {lowest} to {highest}; upgrade the older side",
            got=got,
            lowest=lowest,
            highest=highest,
        )


# --- refused: who asks -------------------------------------------------------------------------


class AuthenticationFailed(Refused):
    """The key is missing, unknown, expired, revoked, or belongs to somebody else."""

    code = "authentication_failed"
    status = 401

    def __init__(self, detail: str = "the API key is missing or not valid for this client") -> None:
        super().__init__(f"{detail}; send Authorization: Bearer sk_…")


class PermissionDenied(Refused):
    """The key is valid but may not do this."""

    code = "permission_denied"
    status = 403

    def __init__(self, *, scope: str) -> None:
        super().__init__(f"this call needs a key of scope {scope!r}", want=scope)


class ClientBanned(Refused):
    """An operator has shut this client out."""

    code = "client_banned"
    status = 403

    def __init__(self) -> None:
        super().__init__("this client was shut out; whoever runs the coordinator can say why, and let it in again")


class InviteRequired(Refused):
    """This coordinator takes newcomers by invitation only."""

    code = "invite_required"
    status = 403

    def __init__(self) -> None:
        super().__init__(
            "this coordinator takes clients by invitation; ask its operator for one and send it as `invite`: "
            "fed-compute join URL --invite inv_…"
        )


class InviteInvalid(Refused):
    """The invitation opens nothing, or nothing any more."""

    code = "invite_invalid"
    status = 403

    def __init__(self, found: str = "not known") -> None:
        super().__init__(f"the invitation is {found}; ask the coordinator's operator for another", found=found)


class ProofOfWorkRequired(Refused):
    """A newcomer has to solve a challenge first; the answer holds a fresh one."""

    code = "proof_of_work_required"
    status = 428

    def __init__(self, *, found: str, challenge: str, difficulty_bits: int, expires_at: float) -> None:
        super().__init__(
            f"{found}; find a whole number N for which SHA-256 of the ASCII text `{challenge}:N` begins with "
            f"{difficulty_bits} zero bits, within ten minutes, and register again with "
            '"proof": {"challenge": "<the challenge>", "solution": "N"}; `fed-compute join` does so by itself',
            challenge=challenge,
            difficulty_bits=difficulty_bits,
            algorithm="sha-256",
            expires_at=expires_at,
        )
        self.challenge = challenge
        self.difficulty_bits = difficulty_bits


class KeyNotFound(Refused):
    """There is no key of this id."""

    code = "key_not_found"
    status = 404

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no key {key_id[:20]!r}; GET /admin/keys lists them", got=key_id[:20])


class KeyEnded(Refused):
    """The key was revoked, has expired or has a successor already, so it cannot be renewed."""

    code = "key_ended"
    status = 409

    def __init__(self, key_id: str, *, found: str) -> None:
        super().__init__(f"key {key_id} is {found}; issue a new one, or renew its successor", found=found)


class LastOperatorKey(Refused):
    """Without this key nobody could operate the coordinator any more."""

    code = "last_operator_key"
    status = 409

    def __init__(self) -> None:
        super().__init__("this is the last operator key that is good without an end; issue or rotate one first")


class InviteNotFound(Refused):
    """There is no invitation of this id."""

    code = "invite_not_found"
    status = 404

    def __init__(self, invite_id: str) -> None:
        super().__init__(f"there is no invitation {invite_id[:20]!r}; GET /admin/invites lists them")


class ClientStateConflict(Refused):
    """The client is in a state in which this cannot be done to it."""

    code = "client_state_conflict"
    status = 409

    def __init__(self, client_id: str, *, state: str, want: str) -> None:
        super().__init__(f"client {client_id!r} is {state}, this needs one that is {want}", state=state, want=want)


class ClientNameInvalid(Refused):
    """A client name is empty, too long, or has characters outside the allowed set."""

    code = "client_name_invalid"
    status = 422

    def __init__(self, name: str, *, rule: str) -> None:
        super().__init__(f"client name {name[:80]!r} is not usable: {rule}", got=name[:80], want=rule)


class ClientNameTaken(Refused):
    """Another client already registered under this name."""

    code = "client_name_taken"
    status = 409

    def __init__(self, name: str) -> None:
        super().__init__(f"client name {name!r} is taken; use the key it was given, or register another name", got=name)


class ClientNotFound(Refused):
    """No client is registered under this id."""

    code = "client_not_found"
    status = 404

    def __init__(self, client_id: str) -> None:
        super().__init__(f"no client {client_id[:80]!r} is registered; call POST /client/register first")


# --- refused: what it is about -----------------------------------------------------------------


class JobNotFound(Refused):
    """There is no job of this name."""

    code = "job_not_found"
    status = 404

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no job {name[:80]!r}; GET /jobs lists them", got=name[:80])


class JobExists(Refused):
    """A job of this name exists with another content."""

    code = "job_exists"
    status = 409

    def __init__(self, name: str) -> None:
        super().__init__(f"job {name!r} exists already with a different recipe; choose another name", got=name)


class JobOver(Refused):
    """The job has finished or was stopped, so that it cannot be paused, resumed or stopped any more."""

    code = "job_over"
    status = 409

    def __init__(self, name: str, *, state: str, want: str) -> None:
        super().__init__(
            f"job {name!r} is {state} and cannot be {want} any more; to train further, create a job of another name",
            state=state,
            want=want,
        )


class JobFileInvalid(Refused):
    """The job file has an unknown key, a wrong type or a value out of range."""

    code = "job_file_invalid"
    status = 422


class RoundNotFound(Refused):
    """There is no round of this number."""

    code = "round_not_found"
    status = 404

    def __init__(self, round_id: int) -> None:
        super().__init__(f"there is no round {round_id}", got=round_id)


class VersionNotFound(Refused):
    """The job has no model of this version."""

    code = "version_not_found"
    status = 404

    def __init__(self, version: str, *, job: str) -> None:
        super().__init__(f"job {job!r} has no model version {version[:80]!r}", got=version[:80], job=job)


class TaskNotFound(Refused):
    """This client has no task of this id."""

    code = "task_not_found"
    status = 404

    def __init__(self, task_id: str) -> None:
        super().__init__(f"you have no task {task_id[:80]!r}; ask for one with GET /task/{{client_id}}")


class NotAssigned(Refused):
    """The client holds no task in the round it reports to."""

    code = "not_assigned"
    status = 403

    def __init__(self, *, client_id: str, round_id: int) -> None:
        super().__init__(
            f"client {client_id!r} has no task in round {round_id}; ask for one with GET /task/{{client_id}}",
            round_id=round_id,
        )


class RoundOver(Refused):
    """The round ended before this update came; it is recorded as late. That is no failure, unless the lease ran out."""

    code = "round_over"
    status = 410

    def __init__(self, *, round_id: int, state: str, ran_out: bool = False) -> None:
        told = "came after its lease had run out, and is recorded as late"
        if not ran_out:
            told = "came too late and is recorded as late, not as a failure"
        super().__init__(
            f"round {round_id} is {state}; this update {told}",
            round_id=round_id,
            state=state,
        )


class LeaseExpired(Refused):
    """The lease on the task ran out before the update came."""

    code = "lease_expired"
    status = 410

    def __init__(self, *, task_id: str) -> None:
        super().__init__(f"the lease of task {task_id!r} has ended; ask for a new task", task_id=task_id)


class UpdateTooStale(Refused):
    """The update started from a version that is too old by now; it is recorded as late, not as a failure."""

    code = "update_too_stale"
    status = 410

    def __init__(self, *, base_version: int, version: int, max_staleness: int) -> None:
        super().__init__(
            f"the update started from v{base_version} and the model is v{version} now; one may be at most "
            f"{max_staleness} version(s) behind. It is recorded as late, not as a failure",
            base_version=f"v{base_version}",
            version=f"v{version}",
            max_staleness=max_staleness,
        )


class RoundNotClosed(Refused):
    """The round has no result yet."""

    code = "round_not_closed"
    status = 409

    def __init__(self, *, round_id: int, state: str, total_updates: int, min_updates: int) -> None:
        super().__init__(
            f"round {round_id} is {state} with {total_updates} of at least {min_updates} updates; "
            + (
                "it was given up and has no result"
                if state == "ABANDONED"
                else "it closes by itself, an operator may close it early"
            ),
            round_id=round_id,
            state=state,
            total_updates=total_updates,
            min_updates=min_updates,
        )


class ModelTooLargeForJson(Refused):
    """The model has too many parameters for a JSON answer."""

    code = "model_too_large_for_json"
    status = 406

    def __init__(self, *, num_parameters: int, limit: int) -> None:
        super().__init__(
            f"the model has {num_parameters} parameters, JSON answers stop at {limit}; "
            "send Accept: application/vnd.safetensors",
            num_parameters=num_parameters,
            limit=limit,
        )


class GrantNotFound(Refused):
    """Nothing was paid for this task."""

    code = "grant_not_found"
    status = 404

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"nothing was paid for task {task_id[:80]!r}; GET /incentives/{{client_id}} names the task of each entry"
        )


class TeamNotFound(Refused):
    """There is no such team, or no team has this code."""

    code = "team_not_found"
    status = 404

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}; GET /teams lists the teams, their members know the code")


class TeamNameInvalid(Refused):
    """A team's name is empty, too long, or has characters outside the allowed set."""

    code = "team_name_invalid"
    status = 422

    def __init__(self, name: str, *, rule: str) -> None:
        super().__init__(f"team name {name[:80]!r} is not usable: {rule}", got=name[:80], want=rule)


class TeamNameTaken(Refused):
    """Another team has the name."""

    code = "team_name_taken"
    status = 409

    def __init__(self, name: str) -> None:
        super().__init__(f"team name {name[:80]!r} is taken; choose another, or join with that team's code")


class AlreadyInTeam(Refused):
    """The client is in a team; nobody is in two."""

    code = "already_in_team"
    status = 409

    def __init__(self) -> None:
        super().__init__("this client is in a team already; leave it first with DELETE /teams/membership")


class NotInTeam(Refused):
    """The client is in no team."""

    code = "not_in_team"
    status = 404

    def __init__(self) -> None:
        super().__init__("this client is in no team; join one with POST /teams/join and its code")


class ContributionUnavailable(Refused):
    """Nobody can say what each client contributed to this round, or not in the way that was asked for."""

    code = "contribution_unavailable"
    status = 409


# --- refused: the update -----------------------------------------------------------------------


class UpdateRefused(Refused):
    """An update cannot be used. Only its sender is affected."""

    code = "update_refused"
    status = 422


class UpdateMalformed(UpdateRefused):
    """The update cannot be read in its declared form."""

    code = "update_malformed"


class UpdateEncodingMismatch(UpdateRefused):
    """The update is not encoded as the recipe says."""

    code = "update_encoding_mismatch"

    def __init__(self, *, got: str, want: str) -> None:
        super().__init__(f"the update is encoded {got[:40]!r}, the recipe says {want!r}", got=got[:40], want=want)


class UpdateTensorMismatch(UpdateRefused):
    """The update does not hold exactly the tensors of the model."""

    code = "update_tensor_mismatch"


class UpdateShapeMismatch(UpdateRefused):
    """A tensor of the update is not shaped like the same tensor of the model."""

    code = "update_shape_mismatch"

    def __init__(self, tensor: str, *, got: tuple[int, ...], want: tuple[int, ...]) -> None:
        super().__init__(
            f"tensor {tensor[:80]!r} has shape {list(got)}, the model has {list(want)}",
            tensor=tensor[:80],
            got=list(got),
            want=list(want),
        )


class UpdateNotFinite(UpdateRefused):
    """The update holds NaN or an infinity."""

    code = "update_not_finite"

    def __init__(self, *, count: int, first: int) -> None:
        super().__init__(
            f"{count} value(s) of the update are NaN or infinite, the first at position {first}; all must be finite",
            count=count,
            first=first,
        )


class UpdateNormTooLarge(UpdateRefused):
    """The update is longer than any honest one could be."""

    code = "update_norm_too_large"

    def __init__(self, *, got: float, limit: float, reason: str = "") -> None:
        super().__init__(
            f"the L2 norm of the update is {got:.6g}, the limit is {limit:.6g}" + (f", {reason}" if reason else ""),
            got=got,
            limit=limit,
        )


class UpdateAllZero(UpdateRefused):
    """Every value of the update is zero: it would only make the others' count for less."""

    code = "update_all_zero"

    def __init__(self, *, count: int) -> None:
        super().__init__(f"all {count} values of the update are zero; an update says what training has changed")


class UpdateIsModel(UpdateRefused):
    """The update is the model that the round starts from, not a difference to it."""

    code = "update_is_model"

    def __init__(self, *, version: str) -> None:
        super().__init__(
            f"the update is, bit for bit, model {version} itself; send trained minus {version}", version=version
        )


class UpdateCopied(UpdateRefused):
    """Another client's update of this round has the very same values."""

    code = "update_copied"

    def __init__(self) -> None:
        super().__init__(
            "every value is, bit for bit, that of another client's update of this round; a copy is not counted twice, "
            "also an honest one: clients that hold the same data count as one, and each should shuffle by its own seed"
        )


class LossInvalid(UpdateRefused):
    """The reported loss is not a number that training can end with."""

    code = "loss_invalid"

    def __init__(self, got: object, *, limit: float) -> None:
        super().__init__(
            f"loss is {str(got)[:40]}, wanted a plain decimal number from 0 to {limit:g}, or none", limit=limit
        )


class SampleCountInvalid(UpdateRefused):
    """The number of samples is not a whole number in the allowed range."""

    code = "sample_count_invalid"

    def __init__(self, got: object, *, limit: int) -> None:
        super().__init__(f"num_samples is {str(got)[:40]}, wanted a whole number from 1 to {limit}", limit=limit)


class StepCountInvalid(UpdateRefused):
    """The number of local steps is missing, or no whole number that the job and the samples allow."""

    code = "step_count_invalid"

    def __init__(self, got: object, *, least: int, limit: int) -> None:
        super().__init__(
            f"num_steps is {str(got)[:40]}, wanted a whole number from {least} to {limit}", least=least, limit=limit
        )


class ModelMalformed(Refused):
    """A model file cannot be read as the parameters of the job."""

    code = "model_malformed"
    status = 422


class UpdateConflict(Refused):
    """The task already has another update."""

    code = "update_conflict"
    status = 409

    def __init__(self, *, task_id: str) -> None:
        super().__init__(
            f"task {task_id!r} already has an accepted update with other bytes; the first one stands", task_id=task_id
        )


# --- refused: answers of a coordinator, as its client sees them --------------------------------


class CallRefused(Refused):
    """The coordinator refused the call; its own code is in `details["answered"]`."""

    code = "call_refused"


class TaskOver(Refused):
    """The task or its round has ended; nothing of it is wanted any more. Not a failure of the client."""

    code = "task_over"
    status = 410


# --- not now -----------------------------------------------------------------------------------


class ClientPending(NotNow):
    """The client is registered and waits until an operator lets it take part."""

    code = "client_pending"
    status = 403

    def __init__(self) -> None:
        super().__init__(
            "this client waits for an operator's approval; keep its key, GET /client/{client_id} tells its state",
            retry_after_seconds=60.0,
        )


class RateLimited(NotNow):
    """Too much from one sender; slow down. `policy` is the stable name of the limit, `unit` what it counts."""

    code = "rate_limited"
    status = 429

    def __init__(
        self,
        *,
        limit: str,
        retry_after_seconds: float,
        policy: str,
        quota: int,
        window_seconds: int,
        remaining: int,
        unit: str = "requests",
    ) -> None:
        super().__init__(
            f"over the limit of {limit}; wait {retry_after_seconds:.0f} s",
            retry_after_seconds=retry_after_seconds,
            limit=limit,
            **{"violated-policies": [policy]},
        )
        self.policy = policy
        self.quota = quota
        self.window_seconds = window_seconds
        self.remaining = remaining
        self.unit = unit


class TooManyUploads(NotNow):
    """The client sends several updates at once."""

    code = "too_many_uploads"
    status = 429

    def __init__(self, *, limit: int) -> None:
        super().__init__(
            f"this client sends {limit} updates at this moment, which is the most; wait for one to end",
            retry_after_seconds=5.0,
            limit=limit,
        )


class UploadsFull(NotNow):
    """As many updates arrive at this moment as the coordinator takes at once."""

    code = "uploads_full"

    def __init__(self, *, limit: int) -> None:
        super().__init__(
            f"{limit} updates arrive at this moment, which is the most; try again shortly",
            retry_after_seconds=5.0,
            limit=limit,
        )


class BodyStalled(NotNow):
    """The sender of a body fell silent; what came of an upload is kept."""

    code = "body_stalled"
    status = 408

    def __init__(self, *, seconds: float) -> None:
        super().__init__(
            f"nothing came for {seconds:.0f} s in the middle of the body; send it again, an upload may be resumed",
            retry_after_seconds=1.0,
        )


class BodyTooSlow(NotNow):
    """The body arrives more slowly than a request may take; what came of an upload is kept."""

    code = "body_too_slow"
    status = 408

    def __init__(self, *, got: int, seconds: float, bytes_per_second: int) -> None:
        super().__init__(
            f"{got} bytes came in {seconds:.0f} s, the least is {bytes_per_second} bytes a second; "
            "send it again over a better line, an upload may be resumed",
            retry_after_seconds=1.0,
        )


class HeadersStalled(NotNow):
    """The head of a request did not come in time."""

    code = "headers_stalled"
    status = 408

    def __init__(self, *, seconds: float) -> None:
        super().__init__(f"the head of the request did not come within {seconds:.0f} s", retry_after_seconds=1.0)


class BufferBusy(NotNow):
    """The last buffer is being folded into the next version; the one after it is not open yet."""

    code = "buffer_busy"

    def __init__(self, *, round_id: int) -> None:
        super().__init__(
            f"round {round_id} is being aggregated; send the update again in a second, it will count in the next one",
            retry_after_seconds=1.0,
            round_id=round_id,
        )


class UploadBusy(NotNow):
    """Another request is sending the update of this task at this moment."""

    code = "upload_busy"

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"another upload of task {task_id!r} is under way; wait for its end, then ask with HEAD how far it got",
            retry_after_seconds=2.0,
            task_id=task_id,
        )


class StorageBusy(NotNow):
    """The database did not answer in time."""

    code = "storage_busy"

    def __init__(self) -> None:
        super().__init__("the database is busy; try again shortly", retry_after_seconds=2.0)


class StorageUnreachable(NotNow):
    """The database does not answer."""

    code = "storage_unreachable"

    def __init__(self) -> None:
        super().__init__("the database does not answer; it may be starting or out of reach", retry_after_seconds=5.0)


class BlobStoreUnreachable(NotNow):
    """The object store did not do what it was asked."""

    code = "blob_store_unreachable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the object store does not serve ({reason}); try again shortly", retry_after_seconds=5.0)


class RateStoreUnreachable(NotNow):
    """The store of the rate limits does not answer. Nothing is let through uncounted."""

    code = "rate_store_unreachable"

    def __init__(self) -> None:
        super().__init__("the store of the rate limits does not answer; try again shortly", retry_after_seconds=5.0)


class DiskFull(NotNow):
    """The coordinator has no room for the body."""

    code = "disk_full"
    status = 507

    def __init__(self) -> None:
        super().__init__("the coordinator has no disk space left; keep the update and retry", retry_after_seconds=60.0)


class DiskFailed(NotNow):
    """The coordinator's disk answers with errors, or can no longer be written. An operator has to look."""

    code = "disk_failed"

    def __init__(self) -> None:
        super().__init__(
            "the coordinator cannot use its disk at this moment; keep the update and retry", retry_after_seconds=60.0
        )


_OF_THE_DISK: Mapping[int | None, type[DiskFull] | type[DiskFailed]] = {
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: DiskFull,
    errno.EFBIG: DiskFull,
    errno.EIO: DiskFailed,
    errno.EROFS: DiskFailed,
}


def disk_error(error: OSError) -> DiskFull | DiskFailed | None:
    """Return what the operating system's error says of the coordinator's disk, None if it is about something else."""
    meant = _OF_THE_DISK.get(error.errno)
    return None if meant is None else meant()


class CoordinatorUnreachable(NotNow):
    """The coordinator does not answer."""

    code = "coordinator_unreachable"


class CoordinatorBusy(NotNow):
    """The coordinator answered that it cannot do this now."""

    code = "coordinator_busy"


class AnswerUnusable(NotNow):
    """What arrived is not the coordinator's answer: cut short, changed on the way, or from another program."""

    code = "answer_unusable"


# --- misuse ------------------------------------------------------------------------------------


class SettingInvalid(Misuse):
    """A setting, flag or environment variable has an unusable value."""

    code = "setting_invalid"


class PortInUse(Misuse):
    """Another program listens on the port."""

    code = "port_in_use"

    def __init__(self, *, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is in use; stop the other program or choose one with --port")


class DataDirUnusable(Misuse):
    """The data directory cannot be created or written."""

    code = "data_dir_unusable"


class BlobStoreUnusable(Misuse):
    """The object store cannot be used as it is set up."""

    code = "blob_store_unusable"

    def __init__(self, *, reason: str) -> None:
        super().__init__(
            f"the object store of FED_COMPUTE_BLOB_URL cannot be written and read ({reason}); "
            "check the address, the credentials and their rights: put, get, head, list, delete"
        )


class BackupUnusable(Misuse):
    """A backup cannot be written, or a file is no sound backup."""

    code = "backup_unusable"


class DataDirInUse(Misuse):
    """Another coordinator works on the data directory."""

    code = "data_dir_in_use"

    def __init__(self, path: str) -> None:
        super().__init__(f"another coordinator is working on {path}; stop it or choose another --data-dir")


class DataDirTaken(Misuse):
    """The folder for a new run holds something already."""

    code = "data_dir_taken"

    def __init__(self, path: str, *, holds_run: bool) -> None:
        found = (
            f"holds a training run already; look at it with fed-compute serve --data-dir {path}, remove it,"
            if holds_run
            else "is not empty; empty it"
        )
        super().__init__(f"{path} {found} or choose another --data-dir")


class DatasetMissing(Misuse):
    """The data set is not on this machine. Data is never made up instead."""

    code = "dataset_missing"


class DatasetInvalid(Misuse):
    """The data specification or the data itself cannot be used."""

    code = "dataset_invalid"


class ModelUnknown(Misuse):
    """The model is not in the registry of this machine."""

    code = "model_unknown"


class ModelMismatch(Misuse):
    """The local model does not have the parameters that the job declares, or cannot take the data."""

    code = "model_mismatch"


class NameReserved(Misuse):
    """A plug-in may not take the name of something built in."""

    code = "name_reserved"

    def __init__(self, what: str, name: str, *, reserved: Iterable[str]) -> None:
        super().__init__(f"{what} {name[:80]!r} is built in; choose another name than {', '.join(sorted(reserved))}")


class NotRunning(Misuse):
    """A coordinator or client of the Python API was used before it was started or after it was closed."""

    code = "not_running"

    def __init__(self, what: str) -> None:
        super().__init__(f"the {what} is not running; use it in a `with` block, or call start() first")


class TrainingDiverged(Misuse):
    """Local training ran into NaN or infinite values; such an update is not sent."""

    code = "training_diverged"


class FleetInvalid(Misuse):
    """A fleet file has an unknown key, a wrong type or a value out of range."""

    code = "fleet_invalid"


class SimulationImpossible(Misuse):
    """A simulation is asked for something that it cannot do: too few clients, data that cannot be split so."""

    code = "simulation_impossible"


class SweepInvalid(Misuse):
    """A sweep names a key or a value that does not exist, or a combination that is no simulation."""

    code = "sweep_invalid"


class AttackInvalid(Misuse):
    """An experiment names an attack, or a setting of one, that does not exist."""

    code = "attack_invalid"


class CohortUnsupported(Misuse):
    """A way of training many virtual clients at once is unknown, or cannot train this model."""

    code = "cohort_unsupported"


class ClusterUnusable(Misuse):
    """A cluster that is to train virtual clients cannot be reached, or cannot do the work as this machine would."""

    code = "cluster_unusable"


class CredentialUnsafe(Misuse):
    """The credential file can be read by others, or cannot be read at all."""

    code = "credential_unsafe"


class ClientMustAct(Misuse):
    """The coordinator will not serve this client until its owner changes something."""

    code = "client_must_act"


class ConversionFailed(Misuse):
    """A model cannot be written in another tool's form, or would compute something else there."""

    code = "conversion_failed"


class ExtraMissing(Misuse):
    """An optional part of the product is not installed."""

    code = "extra_missing"

    def __init__(self, *, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional part: pip install 'fed-compute[{extra}]'", extra=extra)


class PolicyRefusal(Misuse):
    """The volunteer's own rules forbid this task.

    `setting` names the rule. After `wait_seconds` it may allow more; None: not for this job, ever.
    """

    code = "policy_refusal"

    def __init__(self, message: str, *, setting: str, wait_seconds: float | None = None) -> None:
        super().__init__(message, setting=setting, wait_seconds=wait_seconds)
        self.setting = setting
        self.wait_seconds = wait_seconds


class ClientNotRunning(Misuse):
    """No client that is asked for runs on this machine."""

    code = "client_not_running"

    def __init__(self, name: str | None, *, state_dir: str, names: list[str]) -> None:
        others = f"; running: {', '.join(names)}" if names else ""
        super().__init__(
            f"no client {name[:80]!r} runs with the state folder {state_dir}{others}"
            if name is not None
            else f"no client runs with the state folder {state_dir}; start one with fed-compute join, "
            "or name another folder with --state-dir"
        )


class StateUnusable(Misuse):
    """A file in the client's state folder cannot be read or written; nothing is sent without it."""

    code = "state_unusable"


# --- broken ------------------------------------------------------------------------------------


class StorageFailed(Broken):
    """The database failed in a way that trying again does not mend."""

    code = "storage_failed"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database failed ({reason}); the operator finds the details in the log", reason=reason)


class RecordConflict(Broken):
    """A change breaks a rule that the database keeps: a second row of one key, or a row that refers to nothing."""

    code = "record_conflict"

    def __init__(self) -> None:
        super().__init__("a change was undone because it breaks a rule of the database; nothing was recorded")


class BlobMissing(Broken):
    """A blob that the database names is not in the store."""

    code = "blob_missing"

    def __init__(self, digest: str) -> None:
        super().__init__(f"blob {digest} is recorded but not in the store; put it back, or restore a backup")


class BlobCorrupt(Broken):
    """A blob does not hash to its name."""

    code = "blob_corrupt"

    def __init__(self, *, digest: str, got: str) -> None:
        super().__init__(f"blob {digest} hashes to {got}; its bytes were changed")


class AggregateNotFinite(Broken):
    """A new model version would hold NaN or an infinity; the old version stands."""

    code = "aggregate_not_finite"

    def __init__(self, what: str, *, count: int, first: int) -> None:
        super().__init__(
            f"{count} value(s) of the new {what} would be NaN or infinite, the first at position {first}; "
            "lower the server's learning rate or the norm limit of updates",
            count=count,
            first=first,
        )


class NothingToAggregate(Broken):
    """A mean was asked for before any update was folded in."""

    code = "nothing_to_aggregate"

    def __init__(self) -> None:
        super().__init__("there is no update to average; a round with none is abandoned, not aggregated")


class RoundTooSmall(Broken):
    """The round has too few updates for its rule to bear a single liar."""

    code = "round_too_small"

    def __init__(self, *, rule: str, got: int) -> None:
        super().__init__(
            f"rule {rule!r} bears no liar in a round of {got} update(s), and a plain mean is not what was asked for; "
            "let more clients take part, or choose another rule",
            rule=rule,
            got=got,
        )


class RootUpdateMissing(Broken):
    """The rule measures every update by a trusted client's, and the round has none of it."""

    code = "root_update_missing"

    def __init__(self) -> None:
        super().__init__(
            "the round has no update of the trusted client, by which this rule measures the others; "
            "see that this client is here, or choose a rule that needs none"
        )


class OptimizerStateMismatch(Broken):
    """The stored state of a server optimiser is not of this optimiser or this model."""

    code = "optimizer_state_mismatch"


class LedgerOverdrawn(Broken):
    """An account of the ledger would fall below zero; nothing was posted."""

    code = "ledger_overdrawn"

    def __init__(self, *, account: str, balance: int, key: str) -> None:
        super().__init__(f"posting {key!r} would leave account {account!r} at {balance} micro-tokens; not posted")


class InvariantBroken(Broken):
    """A promise of the product does not hold in the stored data."""

    code = "invariant_broken"


class RecordMissing(Broken):
    """A row that other rows refer to is gone."""

    code = "record_missing"

    def __init__(self, kind: str, key: object) -> None:
        super().__init__(f"{kind} {key} is referred to but not recorded")


class DemoFailed(Broken):
    """A process of the demonstration ended by itself, or training stands still. `said` is the end of its log."""

    code = "demo_failed"

    def __init__(self, what: str, said: str = "") -> None:
        super().__init__(f"{what}\n{said}" if said else what)


class WorkerLost(Broken):
    """A process that trained virtual clients ended before its work was done."""

    code = "worker_lost"


class SchemaUnsupported(Broken):
    """The database was written by another version of the product."""

    code = "schema_unsupported"


def error_kinds() -> dict[str, type[FedComputeError]]:
    """Return every class of this page by its code."""
    kinds = (thing for thing in globals().values() if isinstance(thing, type))
    return {kind.code: kind for kind in kinds if issubclass(kind, FedComputeError)}
