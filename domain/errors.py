"""Errors by what happens next.

    CollimatorError
    ├── Retry          the same thing may work later: try again after a while
    │   └── Away       what all work needs is not there: try again for as long as it takes
    ├── Refuse         it will not work however often it is tried: say why, keep the study, charge nothing
    └── Misconfigured  a person has to change something first: say what

Anything else that is raised is a bug: caught once, at the edge of a job or of an association, and logged with
its traceback.
"""


class CollimatorError(Exception):
    """An error that the node expects to meet. `hint` tells an administrator what can be done about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Retry(CollimatorError):
    """The peer, the disk or the database is not there now; nothing is wrong with the work itself."""


class Away(Retry):
    """The shared store is not there now. It is nobody's fault who needs it, so attempts do not count."""


class Refuse(CollimatorError):
    """The work cannot be done as it stands. `reason` is a stable word for tables and metrics."""

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class Misconfigured(CollimatorError):
    """The configuration or the installation is wrong; the program exits with status 2."""
