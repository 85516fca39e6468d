"""The domain's dataclasses as plain JSON values and back, for columns and for the checkpoints of jobs."""

from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

T = TypeVar("T")


def to_plain(value: object, kind: Any = None) -> Any:
    """`value` as dicts, lists, strings, numbers. `kind` is its type where that is not a plain class."""
    kind = kind or type(value)
    return _adapter(kind).dump_python(value, mode="json")


def from_plain(kind: type[T], plain: Any) -> T:
    """The `kind` that `to_plain` took apart."""
    adapter: TypeAdapter[T] = _adapter(cast(Any, kind))
    return adapter.validate_python(plain)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
