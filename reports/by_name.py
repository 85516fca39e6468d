"""A writer by its name: how the door finds those of a profile, and a result that is made of others finds theirs.

No writer imports another.
"""

from importlib import import_module

from reports.writer import Writer


def writer_of(kind: str) -> Writer:
    """The one in the module of this name in reports/writers/."""
    writer = import_module(f"reports.writers.{kind}").WRITER
    assert isinstance(writer, Writer)
    return writer
