"""What every section of a job file has in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class Section(BaseModel):
    """A table of the job file: unknown keys and values of another type are mistakes."""

    # strict: TOML has types, so `total = "5"` or `lr = true` is a mistake and not a number
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
