"""`collimator worker`: closes complete studies, analyses them, writes and delivers results."""

import argparse
import os
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import sqlalchemy as sa
import structlog

from cli.at_rest import check_keys
from cli.devices import open_devices
from cli.parts import (
    SOFTWARE_VERSION,
    models_dir,
    open_confirmations,
    open_database,
    open_results,
    open_spool,
    settings_for,
)
from cli.payments import open_payments
from cli.starting import starting
from cli.stopping import stop_signal
from config.settings import Settings
from domain.billing import Payer
from domain.clinics import Destination
from domain.commitment import CommitmentRules
from domain.errors import Retry
from domain.identity import MANUFACTURER, MODEL_NAME
from domain.versions import ClinicModel
from inference.analyst import Analyst
from inference.clinic_models import check_clinic_models
from inference.registry import Registry
from inference.rule_packages import check_rule_packages
from metering.billing import Billing
from metering.invoice_billing import InvoiceBilling
from metering.subscriptions import sync_subscriptions
from reports.request import NodeIdentity
from scp.commitment import WELL_KNOWN_INSTANCE
from scp.confirmation import ConfirmationService
from scp.contexts import STORAGE_COMMITMENT_PUSH_MODEL
from scp.peer import Peer
from scp.requests import CommandField, Request
from storage.database import Database, utc_now
from storage.intake import sync_clinics
from storage.jobs import DRAIN, PROCESS_STUDY, PROCESS_SUSPECT, SHADOW, WITHDRAW, JobQueue
from storage.periodic import Periodic
from storage.studies import read_study
from workflow.commitment import Commitments
from workflow.confirm import Confirmations
from workflow.deliver import after_bug, drain
from workflow.durable import BUG
from workflow.engine import MAXIMUM_RUNS, RUNS_IN_COMPANY, Engine
from workflow.intake import Intake
from workflow.process_study import process_study
from workflow.recovery import Recovery, new_executor_id
from workflow.rooms import DeliveryRules, Rooms
from workflow.shadow import after_shadow_bug, shadow_study
from workflow.steps import try_again
from workflow.withdraw import after_withdrawal_bug, withdraw_study

if TYPE_CHECKING:
    from metering.stripe.billing import StripeBilling

log = structlog.get_logger()

JOBS_FINISH_WITHIN_S = 20
BILLING_ROUND_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but --config."""


def run(args: argparse.Namespace) -> int:
    return work(args.config)


def work(
    config: Path, *, stand_ins: dict[str, str] | None = None, on_step: Callable[[str], None] = lambda step: None
) -> int:
    """Be a worker until told to stop. Only the demonstration passes `stand_ins`; tests watch the steps."""
    settings = settings_for(config)
    registry = Registry(models_dir(settings))
    check_clinic_models(registry, settings.clinic_directory)
    check_rule_packages(registry, settings.rulebook)
    for error in registry.broken():
        log.error("package_left_out", reason=error.message)
    check_keys(settings)
    stop = stop_signal()
    database = open_database(settings)
    tiers = {clinic.name: clinic.tier for clinic in settings.clinics}
    executor_id = new_executor_id()
    with starting(database, stop):
        sync_clinics(database, tiers)
        sync_subscriptions(database, settings.clinic_directory, settings.plans.plans, now=utc_now())
        payments = open_payments(settings, database)
        rooms = build_rooms(settings, database, stand_ins=stand_ins, payments=payments)
        rooms.spool.empty_cache()
        engine = build_engine(settings, rooms, executor_id, on_step)
        recovery = Recovery(engine, rooms, executor_id=executor_id, lease_s=settings.worker.lease_s)
        recovery.show_itself()
        engine.start()
    intake = Intake(database, rooms.jobs, rules=settings.completion_rules, tiers=tiers, stat=settings.stat_rules)
    commitments = build_commitments(settings, rooms)
    confirmations = build_confirmations(settings, rooms)
    recovery.start()
    intake.start()
    commitments.start()
    confirmations.start()
    billing = None if payments is None else Periodic("billing", payments.round, period_s=BILLING_ROUND_S)
    if billing is not None:
        billing.start()
    threading.Thread(target=rooms.analyst.warm_up, name="warm-up", daemon=True).start()
    log.info("worker_ready", executor=executor_id)
    stop.wait()
    if billing is not None:
        billing.stop()
    confirmations.stop()
    commitments.stop()
    intake.stop()
    cut_short = engine.stop(grace_s=JOBS_FINISH_WITHIN_S)
    recovery.stop()
    rooms.analyst.close()
    rooms.shadow_analyst.close()
    if cut_short:
        leave_at_once(cut_short)
    database.close()
    return 0


def leave_at_once(cut_short: int) -> NoReturn:
    """Python would wait for the threads of these jobs: for a decoder that hangs, for a PACS that does not answer. As
    after a crash, they go on behind their last finished step.
    """
    log.warning("jobs_cut_short", count=cut_short)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def build_commitments(settings: Settings, rooms: Rooms) -> Commitments:
    """What answers for instances by storage commitment."""
    return Commitments(
        rooms.database,
        rooms.spool,
        clinics=rooms.clinics,
        rules=CommitmentRules(
            pixel_retention_days=settings.storage.pixel_retention_days, **settings.commitment.model_dump()
        ),
        ae_title=rooms.ae_title,
        tls_files=rooms.tls_files,
    )


def build_confirmations(settings: Settings, rooms: Rooms) -> Confirmations:
    """What has destinations commit to results. A report on the association that asked comes through the receiver's
    door, as if the destination had opened one of its own.
    """
    folder = open_confirmations(settings)
    service = ConfirmationService(folder, rooms.clinics)

    def take_report(
        clinic: str, destination: Destination, event_type_id: int | None, data_set: bytes, transfer_syntax_uid: str
    ) -> int:
        request = Request(
            command_field=CommandField.N_EVENT_REPORT_RQ,
            message_id=0,
            sop_class_uid=STORAGE_COMMITMENT_PUSH_MODEL,
            sop_instance_uid=WELL_KNOWN_INSTANCE,
            transfer_syntax_uid=transfer_syntax_uid,
            event_type_id=event_type_id,
            data_set=data_set,
        )
        peer = Peer(association="", clinic=clinic, ae_title=destination.ae_title, address=destination.host)
        return service.handle(request, peer).status

    return Confirmations(rooms, folder, take_report=take_report)


def build_rooms(
    settings: Settings,
    database: Database,
    *,
    stand_ins: dict[str, str] | None = None,
    payments: "StripeBilling | None" = None,
) -> Rooms:
    """Everything that a worker's jobs use."""
    installed_dir = models_dir(settings)
    payers: dict[Payer, Billing] = {Payer.INVOICE: InvoiceBilling(settings.billing.issuer)}
    if payments is not None:
        payers[Payer.STRIPE] = payments
    spool = open_spool(settings)
    new_analyst = partial(
        Analyst,
        installed_dir=installed_dir,
        memory_limit_bytes=settings.inference.memory_limit_mb << 20,
        time_limit_s=settings.inference.time_limit_s,
        rulebook=settings.rulebook,
        lend_file=spool.lend_at,
    )
    devices = open_devices(settings)
    return Rooms(
        database=database,
        spool=spool,
        results=open_results(settings),
        jobs=JobQueue(database),
        registry=Registry(installed_dir),
        analyst=new_analyst(
            processes=settings.inference.decode_processes if settings.inference.devices else 1,
            devices=devices,
            pinned=pinned_versions(settings),
        ),
        shadow_analyst=new_analyst(devices=devices, is_shadow=True),
        rulebook=settings.rulebook,
        clinics=settings.clinic_directory,
        node=NodeIdentity(
            manufacturer=MANUFACTURER,
            model_name=MODEL_NAME,
            serial_number=settings.node.serial_number,
            software_version=SOFTWARE_VERSION,
        ),
        ae_title=settings.node.ae_title,
        delivery=DeliveryRules(**settings.delivery.model_dump()),
        stat=settings.stat_rules,
        stand_ins=stand_ins or {},
        pixel_retention=timedelta(days=settings.storage.pixel_retention_days) or None,
        job_retention=timedelta(days=settings.worker.job_retention_days) or None,
        run_retention=timedelta(days=settings.models.run_retention_days) or None,
        payers=payers,
        tls_files=settings.receiver.tls_files,
    )


def pinned_versions(settings: Settings) -> tuple[tuple[str, str], ...]:
    """(package, version) of what answers for some clinic under a pinned name; "": the one that the name alone means."""
    pinned: list[tuple[str, str]] = []
    for name in settings.inference.pinned_packages:
        users = [one for one in settings.clinic_directory if name in settings.plans.plans[one.tier].packages]
        models = [clinic.model(name) for clinic in users]
        pinned += [(name, model.active) for model in models or [ClinicModel(package=name)]]
        pinned += [(name, model.canary) for model in models if model.canary_share]
    return tuple(dict.fromkeys(pinned))


def build_engine(settings: Settings, rooms: Rooms, executor_id: str, on_step: Callable[[str], None]) -> Engine:
    engine = Engine(
        rooms.database, executor_id=executor_id, studies_at_once=settings.worker.concurrency, on_step=on_step
    )

    def after_study_bug(connection: sa.Connection, arguments: tuple[Any, ...]) -> None:
        study_id, attempt = arguments
        study = read_study(rooms.database, rooms.spool, study_id)
        try_again(connection, rooms, study_id, study, attempt, Retry(BUG))

    def after_drain_bug(connection: sa.Connection, arguments: tuple[Any, ...]) -> None:
        after_bug(connection, rooms, *arguments)

    def after_watching_bug(connection: sa.Connection, arguments: tuple[Any, ...]) -> None:
        after_shadow_bug(connection, rooms, *arguments)

    def after_taking_back_bug(connection: sa.Connection, arguments: tuple[Any, ...]) -> None:
        after_withdrawal_bug(connection, *arguments)

    process = partial(process_study, rooms=rooms, durable=engine)
    engine.register(PROCESS_STUDY, process, on_bug=after_study_bug, runs=RUNS_IN_COMPANY)
    engine.register(PROCESS_SUSPECT, process, on_bug=after_study_bug, runs=MAXIMUM_RUNS - RUNS_IN_COMPANY)
    engine.register(DRAIN, partial(drain, rooms=rooms, durable=engine), on_bug=after_drain_bug)
    engine.register(SHADOW, partial(shadow_study, rooms=rooms, durable=engine), on_bug=after_watching_bug)
    engine.register(WITHDRAW, partial(withdraw_study, rooms=rooms, durable=engine), on_bug=after_taking_back_bug)
    rooms.jobs.on_put(engine.look)
    return engine
