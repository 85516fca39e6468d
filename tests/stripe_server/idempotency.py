"""Idempotency-Key: the same request with the same key has the same answer for 24 hours, a 500 as well.

Only what began to be carried out is remembered: what was refused for its parameters, or for coming too fast, may be
asked again. The same key with other parameters is an error.
"""

from dataclasses import dataclass

from tests.stripe_server.account import DAY_S
from tests.stripe_server.problems import Json, Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    status: int
    body: Json


class Remembered:
    def __init__(self) -> None:
        self._answers: dict[str, tuple[float, str, Answer]] = {}

    def answer(self, key: str, request: str, now: float) -> Answer | None:
        """What was answered before; None: go on."""
        known = self._answers.get(key)
        if known is None or now - known[0] > DAY_S:
            return None
        if known[1] != request:
            raise Problem(
                "Keys for idempotent requests can only be used with the same parameters they were first used with.",
                kind="idempotency_error",
            )
        return known[2]

    def keep(self, key: str, request: str, now: float, answer: Answer) -> None:
        self._answers[key] = (now, request, answer)
