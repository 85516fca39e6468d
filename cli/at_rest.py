"""Looks whether the key file fits what is encrypted at rest: when a role starts, and for `collimator doctor`."""

from collections.abc import Iterator
from pathlib import Path

import structlog

from cli.finding import Finding
from cli.parts import study_keys
from config.settings import Settings
from domain.errors import Misconfigured
from storage.study_keys import SETTING

log = structlog.get_logger()

ADVICE = f"put the key that is missing back as another line of {SETTING}: without it they can never be read again"
OPEN_TO_OTHERS = 0o077


def check_keys(settings: Settings) -> None:
    """To be called before a role begins. Keys of some studies only may have been lost long ago: that is no reason to
    turn away what comes for all the others.

    Raises:
        Misconfigured: what is encrypted was encrypted with another key file.
    """
    keys, path = study_keys(settings), settings.storage.encryption_key_file
    if keys is None or path is None:
        return
    if _is_open_to_others(path):
        log.warning("key_file_is_open_to_others", where=str(path))
    sample = keys.sample()
    if sample.lost and sample.lost == sample.looked_at:
        raise Misconfigured(f"{SETTING}: {path} is not the key file with which studies were encrypted", hint=ADVICE)
    if sample.lost:
        log.error("study_keys_lost", count=sample.lost)


def look_at_keys(settings: Settings) -> Iterator[Finding]:
    """What the doctor says; nothing where nothing is encrypted."""
    what, path = "encryption at rest", settings.storage.encryption_key_file
    if path is None:
        return
    try:
        keys = study_keys(settings)
        assert keys is not None
        sample = keys.sample()
    except Misconfigured as error:
        yield Finding(what=what, is_well=False, says=error.message, advice=error.hint)
        return
    except OSError as error:
        yield Finding(what=what, is_well=False, says=str(error), advice="see what it says of the data folder")
        return
    says = f"{path} opens the study keys ({sample.looked_at} looked at)"
    if sample.lost:
        says = f"{sample.lost} of {sample.looked_at} study keys are wrapped with a key that is not in {path}"
    yield Finding(what=what, is_well=not sample.lost, says=says, advice=ADVICE)
    if _is_open_to_others(path):
        yield Finding(
            what=what,
            is_well=False,
            says=f"other users of this machine may read the key in {path}",
            advice="let only the node's user read it: chmod 600",
            is_fatal=False,
        )


def _is_open_to_others(path: Path) -> bool:
    return bool(path.stat().st_mode & OPEN_TO_OTHERS)
