"""What every section of the configuration has in common: no key that is not known, no number that is none, and nothing
changes it.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, content: Any) -> Any:
        """To Python it is 1."""
        if isinstance(content, Mapping):
            for key, field in cls.model_fields.items():
                if isinstance(content.get(key), bool) and field.annotation in (int, float):
                    raise ValueError(f"{key} is {str(content[key]).lower()}, and must be a number")
        return content
