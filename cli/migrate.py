"""`collimator migrate`: brings the tables and the job engine's tables to this version."""

import argparse

from cli.parts import settings_for
from storage.database import Database
from storage.intake import sync_clinics
from storage.jobs import migrate_jobs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but --config."""


def run(args: argparse.Namespace) -> int:
    settings = settings_for(args.config)
    database = Database(settings.database_url)
    database.migrate()
    migrate_jobs(database)
    sync_clinics(database, {clinic.name: clinic.tier for clinic in settings.clinics})
    print("the database is up to date")
    return 0
