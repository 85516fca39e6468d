"""How a job remembers what it has done: the two ways to do a thing once, whatever the engine behind them."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa

T = TypeVar("T")
P = ParamSpec("P")


class Durable(Protocol):
    """Handed to a job by the engine; every call must come in the same order when the job is run again.

    What a step raises as Refuse or Retry is remembered like a result and raised again when the job is repeated.
    """

    def step(self, name: str, returns: type[T], work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` and remember its result. It may be repeated when it is cut short, so it must be repeatable."""
        ...

    def transaction(
        self, name: str, work: Callable[Concatenate[sa.Connection, P], Any], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Do `work` on a connection; its rows and the memory of it are committed together or not at all."""
        ...
