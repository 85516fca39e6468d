"""`collimator receiver`: listens, stores, and follows the spool into the database."""

import argparse

from cli.parts import open_database, settings_for, stop_signal
from config.settings import Settings
from scp.callers import Callers
from scp.server import Receiver
from scp.store import StoreHandler
from storage.indexer import Indexer
from storage.instances import Spool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but --config."""


def run(args: argparse.Namespace) -> int:
    settings = settings_for(args.config)
    stop = stop_signal()
    database = open_database(settings)
    spool = Spool(settings.node.data_dir)
    indexer = Indexer(database, spool, tiers={clinic.name: clinic.tier for clinic in settings.clinics})
    receiver = build_receiver(settings, spool, indexer)
    indexer.start()
    receiver.start()
    stop.wait()
    receiver.stop(grace_s=settings.receiver.shutdown_s)
    indexer.stop()
    database.close()
    return 0


def build_receiver(settings: Settings, spool: Spool, indexer: Indexer) -> Receiver:
    store = StoreHandler(spool, called_ae_title=settings.node.ae_title, on_stored=indexer.on_stored)
    return Receiver(
        ae_title=settings.node.ae_title,
        host=settings.receiver.host,
        port=settings.receiver.port,
        callers=Callers(settings.clinic_directory),
        store=store,
        on_released=indexer.on_released,
        on_closed=indexer.on_closed,
        maximum_associations=settings.receiver.maximum_associations,
        association_timeout_s=settings.receiver.association_timeout_s,
    )
