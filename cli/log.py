"""What the node writes to its log: an event name and a few known keys, never a patient and never a raw tag value."""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict

# A key that is not here does not reach the log, whoever passes it.
ALLOWED_KEYS = frozenset(
    {
        "ae_title", "calling_ae", "certificate_subject", "clinic", "count", "decode_s", "delay_s", "device", "error",
        "event", "exception", "executor", "exit_status", "host", "infer_s", "job", "jobs", "level", "method",
        "package", "peer_address", "port", "process_id", "reason", "role", "route", "seconds", "spool_key", "status",
        "step", "study_id", "timestamp", "verdict", "version", "where",
    }
)  # fmt: skip


def configure(*, output_format: str, level: str) -> None:
    """Send structlog's events and warnings of libraries to stderr."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if output_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            keep_allowed_keys,
            escape_control_characters,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    # pynetdicom logs identifiers of requests; what matters of them is in the node's own events.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


def keep_allowed_keys(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {key: value for key, value in event.items() if key in ALLOWED_KEYS}


def escape_control_characters(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """A peer chooses its AE title and its error comments: nothing of it may start a line of its own."""
    return {
        key: _escaped(value) if isinstance(value, str) and key != "exception" else value for key, value in event.items()
    }


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
