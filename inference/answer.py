"""What a network said about one image, on its way from the child process to the house.

It travels as JSON, never as a pickle: the child has touched hostile bytes, and a pickle from it could run code here.
"""

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Self

from domain.findings import ActivationMap, Measurement, Region


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """`scores` in [0, 1] in the order of the manifest's labels; places are in source pixels."""

    scores: tuple[float, ...] = ()
    activation: ActivationMap | None = None
    regions: tuple[Region, ...] = ()
    measurements: tuple[Measurement, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """
        Raises:
            ValueError: it is no answer.
        """
        answer: Self = _reader().validate_python(document)
        return answer


@cache
def _reader() -> Any:
    from pydantic import TypeAdapter  # the child does without it

    return TypeAdapter(Answer)
