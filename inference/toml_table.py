"""One table of a TOML file, read key by key: what is missing, wrong or unknown is named with its file and key."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from domain.errors import Misconfigured

Text = TypeVar("Text", bound=str)
_REQUIRED: Any = object()


@dataclass(frozen=True, kw_only=True)
class Table:
    """`name` is the table's dotted path in the file, empty at the top. `seen` gathers the keys that were asked for."""

    path: Path
    name: str
    values: dict[str, Any]
    seen: set[str] = field(default_factory=set)

    def has(self, key: str) -> bool:
        return key in self.values

    def text(self, key: str, *, may_be_empty: bool = False, default: str = _REQUIRED) -> str:
        value = self._get(key, default)
        self.require(isinstance(value, str) and (may_be_empty or value.strip()), key, "a text that is not empty")
        return str(value)

    def texts(self, key: str, *, default: tuple[str, ...] = _REQUIRED) -> tuple[str, ...]:
        value = self._get(key, default)
        is_texts = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        self.require(is_texts, key, "a list of texts")
        return tuple(value)

    def one_of(self, key: str, allowed: Sequence[Text], *, default: Text = _REQUIRED) -> Text:
        value = self._get(key, default)
        for choice in allowed:
            if value == choice:
                return choice
        raise self._wrong(key, " or ".join(f'"{choice}"' for choice in allowed))

    def sha256(self, key: str, *, default: str = _REQUIRED) -> str:
        value = self.text(key, may_be_empty=True, default=default)
        self.require(not value or re.fullmatch(r"[0-9a-f]{64}", value), key, "64 small hexadecimal digits, or empty")
        return value

    def flag(self, key: str, *, default: bool = _REQUIRED) -> bool:
        value = self._get(key, default)
        self.require(isinstance(value, bool), key, "true or false")
        return bool(value)

    def integer(self, key: str, *, low: int, high: int, default: int = _REQUIRED) -> int:
        value = self._get(key, default)
        is_integer = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        self.require(is_integer, key, f"a whole number from {low} to {high}")
        return int(value)

    def optional_integer(self, key: str, *, low: int, high: int) -> int | None:
        return self.integer(key, low=low, high=high) if self.has(key) else None

    def number(self, key: str, *, low: float, high: float) -> float:
        value = self._get(key, _REQUIRED)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
        self.require(is_number, key, f"a number from {low:g} to {high:g}")
        return float(value)

    def optional_number(self, key: str, *, low: float, high: float) -> float | None:
        return self.number(key, low=low, high=high) if self.has(key) else None

    def numbers(self, key: str) -> tuple[float, ...]:
        value = self._get(key, _REQUIRED)
        is_numbers = isinstance(value, list) and all(
            isinstance(item, (int, float)) and not isinstance(item, bool) and 0 <= item <= 1 for item in value
        )
        self.require(is_numbers, key, "a list of numbers from 0 to 1")
        return tuple(float(item) for item in value)

    def table(self, key: str) -> "Table":
        value = self._get(key, _REQUIRED)
        self.require(isinstance(value, dict), key, f"a table [{self._dotted(key)}]")
        return Table(path=self.path, name=self._dotted(key), values=value)

    def tables(self, key: str, *, default: tuple[()] = _REQUIRED) -> tuple["Table", ...]:
        value = self._get(key, default)
        is_tables = isinstance(value, (list, tuple)) and all(isinstance(item, dict) for item in value)
        self.require(is_tables, key, f"a list of tables [[{self._dotted(key)}]]")
        return tuple(
            Table(path=self.path, name=f"{self._dotted(key)}[{place}]", values=item) for place, item in enumerate(value)
        )

    def require(self, is_right: object, key: str, expected: str) -> None:
        if not is_right:
            raise self._wrong(key, expected)

    def finish(self) -> None:
        """A key that nobody asked for is most likely a misspelt one."""
        for key in self.values.keys() - self.seen:
            raise Misconfigured(f"{self.path}: {self._dotted(key)}: unknown key; expected one of {sorted(self.seen)}")

    def _get(self, key: str, default: Any) -> Any:
        self.seen.add(key)
        value = self.values.get(key, default)
        if value is _REQUIRED:
            raise Misconfigured(f"{self.path}: {self._dotted(key)}: missing")
        return value

    def _wrong(self, key: str, expected: str) -> Misconfigured:
        value = self.values.get(key)
        seen = "nothing" if value is None else _shown(value)
        return Misconfigured(f"{self.path}: {self._dotted(key)}: expected {expected}, found {seen}")

    def _dotted(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def _shown(value: object) -> str:
    try:
        return repr(value)[:80]
    except ValueError:  # Python writes no number of so many digits
        return "a number of thousands of digits"
