"""How a job remembers what it has done: two ways to do a thing once, whatever the engine behind them."""

from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa

T = TypeVar("T")
P = ParamSpec("P")
# What a study's history says of an error that nobody foresaw.
BUG = "an unexpected error; see the worker's log"

# Makes rows on a connection, and says what is to be remembered of them.
Entry = Callable[[sa.Connection], T]


class Durable(Protocol):
    """Handed to a job by the engine; every call is a step, and must come in the same order when the job is run again.

    A step's rows and the memory of it are committed together or not at all. What it raises as Refuse or Retry undoes
    the rows, is remembered in their place, and raised again when the job is repeated.
    """

    def transaction(
        self, name: str, work: Callable[Concatenate[sa.Connection, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Do `work` on a connection."""
        ...

    def enter(
        self, name: str, returns: type[T], prepare: Callable[P, Entry[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do what takes long, outside of a transaction, and then what `prepare` returns on a connection.

        Until that is committed all of it may be repeated, so it must be repeatable.
        """
        ...


def remember(value: T) -> Entry[T]:
    """An entry without rows."""
    return lambda _connection: value
