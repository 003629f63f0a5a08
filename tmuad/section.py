"""What every group of parameters is: immutable, and strict about names."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
