"""`collimator storage rotate-keys|erase`: what an administrator does about objects at rest."""

import argparse

from cli.parts import open_database, open_results, open_spool, settings_for, study_keys
from config.settings import Settings
from domain.errors import Misconfigured, Refuse
from metering.quota import release
from storage.erasure import mark_erased, remove_erased
from storage.step_folder import StepFolder
from storage.study_keys import SETTING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="storage_verb", metavar="rotate-keys|erase", required=True)
    verbs.add_parser("rotate-keys", help="wrap every study's key with the first key of the key file")
    erase = verbs.add_parser("erase", help="erase a study: its key, its images and its results, for good")
    erase.add_argument("study_instance_uid", metavar="STUDY_UID", help="Study Instance UID (0020,000D)")
    erase.add_argument("--clinic", metavar="NAME", required=True, help="whose study it is")


def run(args: argparse.Namespace) -> int:
    settings = settings_for(args.config)
    if args.storage_verb == "rotate-keys":
        return rotate_keys(settings)
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
    with database.write() as connection:
        erased = mark_erased(connection, clinic=clinic, study_instance_uid=study_instance_uid)
        release(connection, clinic=clinic, study_instance_uid=study_instance_uid)
    remove_erased(erased, spool, results, StepFolder(settings.node.data_dir))
    database.close()
    print(f"erased: {len(erased.spool_keys)} instances and {len(erased.result_uids)} results")
    return 0
