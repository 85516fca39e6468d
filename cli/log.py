"""What the node writes to its log: an event name and a few known keys, never a patient and never a raw tag value."""

import logging
import select
import sys
from contextlib import suppress
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict

from cli.log_floods import LogFloods

READ_WITHIN_S = 0.2
PIECE_CHARACTERS = 1024  # 4096 bytes at most: a pipe that can take anything takes so much at once (pipe(7), PIPE_BUF)
# A key that is not here does not reach the log, whoever passes it.
ALLOWED_KEYS = frozenset(
    {
        "ae_title", "called_ae", "calling_ae", "certificate_subject", "clinic", "clinics", "count", "decode_s",
        "delay_s", "device", "error", "event", "exception", "executor", "exit_status", "host", "included", "infer_s",
        "job", "jobs", "kind", "left_out", "level", "method", "package", "payer", "peer_address", "percent", "period",
        "port", "process_id", "reason", "role", "route", "seconds", "spool_key", "status", "step", "study_id",
        "timestamp", "tls_port", "used", "verdict", "version", "waited_s", "where", "why",
    }
)  # fmt: skip


class LossyStream:
    """Where the log is written. While its disk is full, or nobody reads it, lines are lost; whoever logs goes on: a
    receiver refuses an object because the disk is full, and has to say so to its peer.

    A reader that is there and has stopped (a hung collector of logs) gets a moment, once, until it reads again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waits_s = READ_WITHIN_S
        try:
            self._descriptor = stream.fileno()
        except (OSError, ValueError):  # it is only in memory
            self._descriptor = -1

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # ValueError: it is closed
            for start in range(0, len(text), PIECE_CHARACTERS):
                if not self._is_read():
                    return
                self._stream.write(text[start : start + PIECE_CHARACTERS])
                self._stream.flush()

    def flush(self) -> None:
        """Each piece was."""

    def _is_read(self) -> bool:
        if self._descriptor < 0:
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        is_read = bool(poll.poll(self._waits_s * 1000))
        self._waits_s = READ_WITHIN_S if is_read else 0.0
        return is_read


def configure(*, output_format: str, level: str) -> None:
    """Send structlog's events and warnings of libraries to stderr."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if output_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            LogFloods(),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            keep_allowed_keys,
            escape_control_characters,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(LossyStream(sys.stderr)),  # type: ignore[arg-type]
    )
    libraries = "%(levelname)s %(name)s %(message)s"
    logging.basicConfig(stream=LossyStream(sys.stderr), level=logging.WARNING, format=libraries)
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
