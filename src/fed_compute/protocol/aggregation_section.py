"""How updates become the next version: the rule, how many liars it bears, and what each update counts."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fed_compute.ids import CLIENT_NAME_RULE, is_client_name
from fed_compute.protocol.section import Fraction, Positive, Section

ServerOptimizerName = Literal["sgd", "momentum", "adam", "yogi", "adagrad"]
RuleName = Literal[
    "fedavg",
    "fednova",
    "median",
    "trimmed_mean",
    "krum",
    "multi_krum",
    "geometric_median",
    "centered_clipping",
    "norm_clipping",
    "fltrust",
    "robust",
]
PreName = Literal["fednova", "norm_clipping", "nnm", "bucketing"]
Weighting = Literal["samples", "equal", "capped"]
LARGEST_ROUND = 1_000
"""Rules whose condition is not met by a round of this size are never met."""


class AggregationSection(Section):
    """The rule, its numbers, the weights, and the server optimiser (Reddi et al. 2021).

    A number that the chosen rule has no use for is refused, so that nobody relies on it. `f` is how many of a
    round's updates may lie: a whole number, or a fraction of the round, rounded down. `None` leaves a number to
    the round: the median norm or distance. `damp_stale` lets stale updates shorten the step of the whole buffer
    (FedBuff's own divisor K, FedAsync); without it they only weigh less beside fresher ones. `control_fraction` is
    which part of all clients a round hears, for the control variate of SCAFFOLD; at 1 it is not written, so that
    jobs from before it was there stay what they are.
    """

    rule: RuleName = Field(default="fedavg", description="How updates become one step.")
    pre: tuple[PreName, ...] = Field(
        default=(), max_length=4, strict=False, description="What is done to updates first."
    )
    f: Annotated[int, Field(ge=0, le=1_000_000)] | Annotated[float, Field(ge=0, lt=0.5, allow_inf_nan=False)] = Field(
        default=0.2, description="Updates of a round that may lie: a number, or a share."
    )
    clip_norm: Positive | None = Field(
        default=None, description="Norm of `norm_clipping`; the round's median if not given."
    )
    clip_radius: Positive | None = Field(
        default=None, description="Radius of `centered_clipping`; the median distance if not given."
    )
    clip_iterations: int = Field(default=3, ge=1, le=100, description="Steps of `centered_clipping`.")
    median_iterations: int = Field(default=100, ge=1, le=10_000, description="Most steps of `geometric_median`.")
    median_smoothing: Positive | None = Field(default=None, description="Smoothing of `geometric_median`.")
    bucket_size: int = Field(default=2, ge=2, le=1_000, description="Updates in one bucket of `bucketing`.")
    trusted_client: str | None = Field(default=None, description="Client whose update `fltrust` measures others by.")
    weighting: Weighting | None = Field(default=None, description="`samples`, `equal`, or samples `capped`.")
    newcomer_share: float = Field(
        default=0.2, gt=0, le=1, allow_inf_nan=False, description="Most that newcomers together weigh in a round."
    )
    damp_stale: bool = Field(default=False, description="Stale updates shorten the whole step under `fedbuff`.")
    server_optimizer: ServerOptimizerName = Field(default="sgd", description="What makes the next version of the step.")
    server_lr: Positive = Field(default=1.0, description="Its step size.")
    momentum: Fraction = Field(default=0.9, description="Momentum of `momentum`.")
    beta1: Fraction = Field(default=0.9, description="β₁ of `adam` and `yogi`.")
    beta2: Fraction = Field(default=0.99, description="β₂ of `adam` and `yogi`.")
    tau: Positive = Field(default=1e-3, description="τ of `adam`, `yogi` and `adagrad`: how adaptive they are.")
    control_fraction: float = Field(
        default=1.0,
        gt=0,
        le=1,
        allow_inf_nan=False,
        exclude_if=lambda fraction: fraction == 1,
        description="Share of all clients that a round hears, for SCAFFOLD.",
    )

    @property
    def weights_by(self) -> Weighting:
        """How updates are weighted: as told, else by samples under averages and all alike under other rules."""
        is_average = self.rule in ("fedavg", "fednova") and not self.pre
        return self.weighting or ("samples" if is_average else "equal")

    @property
    def is_plain_average(self) -> bool:
        """Whether updates are averaged as they come, without a look at the others."""
        return self.rule == "fedavg" and not self.pre

    @property
    def uses_f(self) -> bool:
        """Whether the number of liars matters to the rule or to what comes before it."""
        return self.rule in ("trimmed_mean", "krum", "multi_krum", "robust") or "nnm" in self.pre

    @property
    def uses_steps(self) -> bool:
        """Whether it matters how many local steps are behind each update."""
        return "fednova" in (self.rule, *self.pre)

    def least_updates(self) -> int | None:
        """Return the number of updates from which on every round meets the rule's condition; None if none ever does."""
        first: int | None = None
        for num_updates in range(LARGEST_ROUND, 0, -1):
            if not self._is_met_by(num_updates):
                break
            first = num_updates
        return first

    def _is_met_by(self, num_updates: int) -> bool:
        """Say whether a round of this size bears the liars that are asked for, and at least one if any are."""
        rows = num_updates
        for _ in range(self.pre.count("bucketing")):
            rows = -(-rows // self.bucket_size)
        if not self.uses_f:
            return rows >= self._least_rows(1)
        liars = self.f if isinstance(self.f, int) else math.floor(self.f * num_updates + 1e-9)
        if liars == 0 and self.f > 0:
            return False
        return rows >= self._least_rows(liars) and rows > 2 * liars

    def _least_rows(self, liars: int) -> int:
        match self.rule:
            case "krum" | "multi_krum":
                return 2 * liars + 3
            case "median" | "trimmed_mean" | "geometric_median" | "centered_clipping":
                return 2 * liars + 1
            case "robust":
                return max(5, 2 * liars + 1)
            case "norm_clipping":
                return 3 if self.clip_norm is None else 1
            case "fedavg" | "fednova" | "fltrust":
                return 1

    @field_validator("trusted_client")
    @classmethod
    def _usable_client(cls, name: str | None) -> str | None:
        if name is not None and not is_client_name(name):
            raise ValueError(f"{name[:80]!r} is not a client's name: {CLIENT_NAME_RULE}")
        return name

    @model_validator(mode="after")
    def _every_number_has_a_use(self) -> Self:
        clips = "norm_clipping" in (self.rule, *self.pre) or self.rule == "robust"
        uses = {
            "f": (self.uses_f, "a rule or a step that counts liars: trimmed_mean, krum, multi_krum, robust or nnm"),
            "clip_norm": (clips, "norm_clipping"),
            "clip_radius": (self.rule == "centered_clipping", "rule = 'centered_clipping'"),
            "clip_iterations": (self.rule == "centered_clipping", "rule = 'centered_clipping'"),
            "median_iterations": (self.rule == "geometric_median", "rule = 'geometric_median'"),
            "median_smoothing": (self.rule == "geometric_median", "rule = 'geometric_median'"),
            "bucket_size": ("bucketing" in self.pre, "'bucketing' in pre"),
            "trusted_client": (self.rule == "fltrust", "rule = 'fltrust'"),
        }
        for name, (has_use, where) in uses.items():
            if not has_use and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no use under rule {self.rule!r}; it belongs to {where}")
        return self

    @model_validator(mode="after")
    def _the_parts_fit_together(self) -> Self:
        if self.rule == "fltrust" and self.trusted_client is None:
            raise ValueError(
                "rule 'fltrust' needs trusted_client, the name of the client whose updates are the measure"
            )
        if "fednova" in self.pre[1:] or ("fednova" in self.pre and self.rule in ("fedavg", "fednova")):
            raise ValueError("fednova comes once, and before every other step; alone it is rule 'fednova'")
        if "nnm" in self.pre and self.rule in ("fedavg", "fednova", "norm_clipping"):
            raise ValueError(f"nnm in front of rule {self.rule!r} bears no liar; choose a rule such as 'trimmed_mean'")
        if self.rule == "fltrust" and "bucketing" in self.pre:
            raise ValueError(
                "bucketing would mix the trusted client's update with others; leave it out under 'fltrust'"
            )
        return self
