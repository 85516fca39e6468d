"""What every section of the configuration has in common: no key that is not known, and nothing changes it."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
