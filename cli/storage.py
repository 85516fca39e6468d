"""`collimator storage rotate-keys|erase|discard|adopt|get`: what an administrator does about objects at rest."""

import argparse
import shutil
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from cli.parts import open_database, open_results, open_spool, settings_for, study_keys
from config.settings import Settings
from domain.errors import Misconfigured, Refuse
from metering.quota import release
from storage.arrivals.adoption import adopt
from storage.erasure import discard, erase_study
from storage.intake import sync_clinics
from storage.requests.step_folder import StepFolder
from storage.shared.url import SETTING as SHARED_URL
from storage.study_keys import SETTING

ADOPTED_AFTER_MINUTES = 15.0
LONGEST_MINUTES = 366 * 24 * 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="storage_verb", metavar="rotate-keys|erase|discard|adopt|get", required=True)
    verbs.add_parser("rotate-keys", help="wrap every study's key with the first key of the key file")
    erase = verbs.add_parser("erase", help="erase a study: its key, its images and its results, for good")
    erase.add_argument("study_instance_uid", metavar="STUDY_UID", help="Study Instance UID (0020,000D)")
    whose = 'whose study it is; "" for what came from unknown callers'
    erase.add_argument("--clinic", metavar="NAME", required=True, help=whose)
    discard = verbs.add_parser("discard", help="remove one instance from quarantine, for good")
    discard.add_argument("spool_key", metavar="SPOOL_KEY", help="as quarantine names it")
    adopt = verbs.add_parser("adopt", help="bring in what is in the shared store and not in the database")
    adopt.add_argument(
        "--older-than-minutes",
        type=_minutes,
        default=ADOPTED_AFTER_MINUTES,
        metavar="N",
        help=f"leave what came later to its receiver (default: {ADOPTED_AFTER_MINUTES:g})",
    )
    get = verbs.add_parser("get", help="write a stored instance into a file, wherever it lies")
    get.add_argument("spool_key", metavar="SPOOL_KEY", help="as quarantine names it")
    get.add_argument("file", type=Path, metavar="FILE", help="a new DICOM file")


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 <= minutes <= LONGEST_MINUTES:
        raise ValueError(text)
    return minutes


def run(args: argparse.Namespace) -> int:
    settings = settings_for(args.config)
    if args.storage_verb == "rotate-keys":
        return rotate_keys(settings)
    if args.storage_verb == "adopt":
        return adopt_all(settings, timedelta(minutes=args.older_than_minutes))
    if args.storage_verb == "get":
        return get_instance(settings, args.spool_key, args.file)
    if args.storage_verb == "discard":
        return discard_one(settings, args.spool_key)
    return erase(settings, args.clinic, args.study_instance_uid)


def rotate_keys(settings: Settings) -> int:
    """Every running process must know the new key before: it is added, they are restarted, then this."""
    keys = study_keys(settings)
    if keys is None:
        raise Misconfigured(f"{SETTING} is not set: nothing is encrypted at rest")
    rotation = keys.rotate()
    print(f"{rotation.rewrapped} study keys were wrapped with the first key, {rotation.current} already were")
    if rotation.lost:
        raise Refuse(
            f"{rotation.lost} study keys are wrapped with a key that is not in the key file",
            reason="master_key_missing",
            hint=f"put the old key back as another line of {SETTING}, and do it again",
        )
    return 0


def erase(settings: Settings, clinic: str, study_instance_uid: str) -> int:
    """What was metered stays metered; what was only reserved is given back."""
    database, spool, results = open_database(settings), open_spool(settings), open_results(settings)

    def give_back(connection: sa.Connection) -> None:
        if clinic:
            release(connection, clinic=clinic, study_instance_uid=study_instance_uid)

    erased = erase_study(
        database,
        spool,
        results,
        StepFolder(settings.node.data_dir),
        clinic=clinic,
        study_instance_uid=study_instance_uid,
        also=give_back,
    )
    database.close()
    print(f"erased: {len(erased.spool_keys)} instances and {len(erased.result_uids)} results")
    return 0


def discard_one(settings: Settings, spool_key: str) -> int:
    database = open_database(settings)
    discard(database, open_spool(settings), spool_key)
    database.close()
    print(f"removed: {spool_key}")
    return 0


def adopt_all(settings: Settings, older_than: timedelta) -> int:
    """After a machine burned: what it had put into the shared store, and had not told the database of."""
    database, spool = open_database(settings), open_spool(settings)
    if spool.shared is None:
        raise Misconfigured(f"{SHARED_URL} is not set: a receiver brings in by itself what is in its spool")
    sync_clinics(database, {clinic.name: clinic.tier for clinic in settings.clinics})
    verdicts = adopt(
        database, spool, older_than=older_than, on_found=lambda count: print(f"{count} instances have no row")
    )
    database.close()
    for verdict, count in sorted(verdicts.items()):
        print(f"{count} {verdict}")
    return 0


def get_instance(settings: Settings, spool_key: str, file: Path) -> int:
    """As it came, with the node's own File Meta; in plain text, where it is sealed. The whole of it or nothing."""
    try:
        with open_spool(settings).open(spool_key) as source, open(file, "xb") as target:
            try:
                shutil.copyfileobj(source, target)
            except OSError:
                file.unlink()
                raise
    except OSError as error:
        is_unfit = isinstance(error, FileNotFoundError | FileExistsError)
        unfit = "it must be a spool_key of this node, and FILE must not be there yet"
        hint = unfit if is_unfit else "FILE was not written"
        raise Refuse(f"{spool_key}: {error.strerror}", reason="no_such_instance", hint=hint) from error
    return 0
