"""The kinds of the journal's entries: what happened, in one sentence each, and what the entry says about it.

Besides its own fields an entry has a number, a time (Unix seconds), and the job, round, client and task that it is
about, where there is one. The kinds are a contract: stored entries are read by what is written here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EventKind:
    """One kind of entry: its name, what happened, and the names of its own fields."""

    name: str
    meaning: str
    fields: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """What it is about: the first word of the name, such as `round` or `update`."""
        return self.name.partition("_")[0]


EVENTS: tuple[EventKind, ...] = (
    EventKind("job_created", "A job was added, with its first model version.", ("name",)),
    EventKind("job_paused", "An operator lets a job hand out no more work until it is resumed.", ("name", "by")),
    EventKind("job_resumed", "A paused job goes on.", ("name", "by")),
    EventKind("job_stopped", "An operator ended a job for good; its versions stay.", ("name", "by")),
    EventKind("job_finished", "A job has closed all its rounds.", ("rounds",)),
    EventKind("round_opened", "A job's next round begins to wait for clients.", ("number", "base_version", "mode")),
    EventKind("round_gathering", "A round waits for more clients before it hands out its first task."),
    EventKind("round_started", "A round handed out its first task; from now its deadline runs.", ("deadline",)),
    EventKind("round_close_requested", "An operator asked a round to close with the updates that it has."),
    EventKind("round_aggregating", "A round takes no more updates and makes its version.", ("num_updates",)),
    EventKind(
        "round_aggregated",
        "A round's rule was applied: what each update weighed and what the rule found.",
        (
            *("rule", "pre", "f", "f_wanted", "weighting", "updates", "clients", "staleness", "weights", "norms"),
            *("influence", "cosines"),
        ),
    ),
    EventKind("round_closed", "A round ended with a new model version.", ("version",)),
    EventKind(
        "round_abandoned", "A round ended with too few updates; they are listed as late.", ("reason", "late_updates")
    ),
    EventKind(
        "version_published",
        "A model version can be fetched from now on; it never changes.",
        ("version", "digest", "num_updates", "num_samples"),
    ),
    EventKind("task_assigned", "A client was given a task: a lease of one round.", ("task", "version")),
    EventKind("task_expired", "A lease ended since its client was not heard of, or the round was over.", ("task",)),
    EventKind("task_released", "A client gave its task back.", ("task",)),
    EventKind("task_cancelled", "A lease was ended by the coordinator; that is nobody's failure.", ("task",)),
    EventKind(
        "update_accepted",
        "An update passed all checks and is on disk; it counts in this round.",
        ("update_id", "num_samples", "size_bytes", "l2_norm", "loss", "latency_seconds", "staleness", "traceparent"),
    ),
    EventKind("update_refused", "An update failed a check; the code says which.", ("code",)),
    EventKind("update_late", "An update came after its round or lease had ended.", ("latency_seconds",)),
    EventKind(
        "evaluation_recorded",
        "A client measured a version on the data that it holds back.",
        ("task", "version", "num_samples", "loss", "accuracy"),
    ),
    EventKind("contribution_measured", "The share of each client in a round's result was measured.", ("num_clients",)),
    EventKind("audit_opened", "Other clients are asked to measure one update.", ("audit_id", "auditors")),
    EventKind("audit_closed", "An audit ended with its verdict.", ("audit_id", "verdict", "score", "answers")),
    EventKind("credit_reversed", "The credit of a piece of work was taken back.", ("micro_tokens",)),
    EventKind("client_registered", "A client registered, or asked for approval.", ("state",)),
    EventKind("client_approved", "An operator let a client in that waited for approval.", ("by",)),
    EventKind("client_banned", "A client was shut out.", ("by", "reason")),
    EventKind("client_unbanned", "A client that was shut out may take part again.", ("by",)),
    EventKind("key_issued", "A key was made.", ("key_id", "by", "scope")),
    EventKind("key_rotated", "A key was given a successor.", ("key_id", "by", "successor", "overlap_seconds")),
    EventKind("key_revoked", "A key was ended.", ("key_id", "by")),
    EventKind("operator_key_issued", "The key of the data folder's operator was made.", ("key_id",)),
    EventKind("invite_created", "An invitation was made.", ("invite_id", "by", "uses")),
    EventKind("invite_revoked", "An invitation was ended.", ("invite_id", "by")),
    EventKind("team_founded", "A client founded a team.", ("team",)),
    EventKind("team_joined", "A client joined a team.", ("team",)),
    EventKind("team_left", "A client left its team.", ("team",)),
    EventKind(
        "recovered",
        "A starting coordinator found work under way and mended what the break had left.",
        ("rounds_collecting", "rounds_to_publish", "updates_kept", "leases_kept", "leases_revived"),
    ),
)
"""Every kind, those that belong together side by side."""
