"""The node's tables. Each clinic's rows carry its name; nothing here holds a patient's name, ID or birth date.

clinics ─┬─ studies ─┬─ instances        what came, and the facts in its header
         │           ├─ study_events     what happened to it, in order
         │           ├─ model_runs       what each version said about each image, heard or not
         │           ├─ feedback         what readers say of its findings
         │           └─ results ── deliveries
         ├─ quarantine                   what came and cannot be used as it is
         ├─ procedure_steps              what modalities say they do (MPPS)
         ├─ commitments                  what modalities asked to be kept, and whether they were told
         ├─ period_rules                 when its billing periods begin
         ├─ subscriptions                what its plan was, and in which state, at any moment
         ├─ reservations, ledger         quota taken, and what was metered
         ├─ invoices                     what was asked for it
         ├─ billing_accounts             how it stands with Stripe, where that is its payer
         ├─ billing_outbox               which ledger rows Stripe has to learn of, and how far that is
         ├─ billing_settlements          whether Stripe billed what the ledger says, period by period
         ├─ drift_counts                 how each version's scores and images were spread, week by week
         ├─ queue_shares                 how far each clinic has come in the queue
         ├─ outboxes                     how it stands with each destination, and which job drains it
         ├─ confirmations                what destinations were asked to commit to, and what they said
         └─ api_keys ── sessions         who may use the portal, and who has signed in with a browser
executors, receivers                     which processes are alive
audit                                    what people and payers changed by hand
stripe_events                            what Stripe told, each once

`ledger`, `invoices` and `audit` only grow: the database itself refuses to change or to delete a row of them.
"""

from datetime import UTC, datetime

import sqlalchemy as sa

from domain.queueing import ORDINARY_PRIORITY


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware datetime in Python, stored as naive UTC in both databases."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

clinics = sa.Table(
    "clinics",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("tier", sa.String(16), nullable=False),
)

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("clinic", sa.ForeignKey("clinics.name"), nullable=False),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.String(32), nullable=False, default=""),
    sa.Column("explanation", sa.JSON, nullable=False, default=list),
    sa.Column("calling_ae_title", sa.String(16), nullable=False),
    sa.Column("accession_number", sa.String(64), nullable=False, default=""),
    sa.Column("opened_at", UtcDateTime, nullable=False),
    sa.Column("last_received_at", UtcDateTime, nullable=False),
    sa.Column("released_at", UtcDateTime),
    sa.Column("completed_at", UtcDateTime),
    sa.Column("completion_reason", sa.String(16), nullable=False, default=""),
    sa.Column("analyses", sa.JSON, nullable=False, default=list),
    sa.Column("jobs", sa.Integer, nullable=False, default=0),
    # Of all its jobs; smaller goes first (domain/queueing.py).
    sa.Column("priority", sa.Integer, nullable=False, default=ORDINARY_PRIORITY),
    sa.Column("finished_at", UtcDateTime),
    sa.UniqueConstraint("clinic", "study_instance_uid", "generation"),
)

instances = sa.Table(
    "instances",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.ForeignKey("studies.id"), nullable=False, index=True),
    sa.Column("clinic", sa.ForeignKey("clinics.name"), nullable=False),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("series_instance_uid", sa.String(64), nullable=False),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False),
    sa.Column("sop_class_uid", sa.String(64), nullable=False),
    sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
    sa.Column("spool_key", sa.String(32), nullable=False, unique=True),
    # Of the data set; only once its file was removed. Until then the files themselves are compared.
    sa.Column("content_sha256", sa.String(64)),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("removed_at", UtcDateTime),
    sa.Column("times_sent_again", sa.Integer, nullable=False, default=0),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.UniqueConstraint("clinic", "sop_instance_uid"),
    sa.Index("ix_instances_clinic_study", "clinic", "study_instance_uid"),
)

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    # None: its caller is known for no clinic.
    sa.Column("clinic", sa.ForeignKey("clinics.name"), index=True),
    sa.Column("spool_key", sa.String(32), nullable=False, unique=True),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False, default=""),
    sa.Column("study_instance_uid", sa.String(64), nullable=False, default=""),
    sa.Column("calling_ae_title", sa.String(16), nullable=False),
    sa.Column("peer_address", sa.String(64), nullable=False, default=""),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("received_at", UtcDateTime, nullable=False),
)

procedure_steps = sa.Table(
    "procedure_steps",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("clinic", sa.ForeignKey("clinics.name"), nullable=False),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    # SOP Instance UIDs that the modality says it made.
    sa.Column("performed", sa.JSON, nullable=False, default=list),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("clinic", "sop_instance_uid"),
    sa.Index("ix_procedure_steps_clinic_study", "clinic", "study_instance_uid"),
)

commitments = sa.Table(
    "commitments",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("clinic", sa.ForeignKey("clinics.name"), nullable=False),
    sa.Column("transaction_uid", sa.String(64), nullable=False),
    sa.Column("calling_ae_title", sa.String(16), nullable=False),
    sa.Column("peer_address", sa.String(64), nullable=False),
    # Pairs of SOP Class UID and SOP Instance UID; once it has ended, without those of studies that were erased.
    sa.Column("asked", sa.JSON, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("last_error", sa.Text, nullable=False, default=""),
    # When it was last asked for. The same request may come again.
    sa.Column("requested_at", UtcDateTime, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False),
    # Reported or given up.
    sa.Column("ended_at", UtcDateTime),
    sa.UniqueConstraint("clinic", "calling_ae_title", "transaction_uid", name="uq_commitments_transaction"),
)

study_events = sa.Table(
    "study_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.ForeignKey("studies.id"), nullable=False, index=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("detail", sa.Text, nullable=False, default=""),
)

model_runs = sa.Table(
    "model_runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.ForeignKey("studies.id"), nullable=False, index=True),
    sa.Column("clinic", sa.ForeignKey("clinics.name"), nullable=False),
    sa.Column("package", sa.String(64), nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("device_uid", sa.String(64), nullable=False, default=""),
    sa.Column("role", sa.String(16), nullable=False),
    # Empty, as the rest of the row then: it said nothing about the study.
    sa.Column("sop_instance_uid", sa.String(64), nullable=False, default=""),
    sa.Column("problem", sa.Text, nullable=False, default=""),
    sa.Column("scores", sa.JSON, nullable=False, default=list),
    sa.Column("decode_s", sa.Double),
    sa.Column("infer_s", sa.Double),
    sa.Column("ran_at", UtcDateTime, nullable=False),
    sa.Index("ix_model_runs_package", "package", "version", "ran_at"),
)

drift_counts = sa.Table(
    "drift_counts",
    metadata,
    sa.Column("clinic", sa.ForeignKey("clinics.name"), primary_key=True),
    sa.Column("calling_ae_title", sa.String(16), primary_key=True),
    sa.Column("package", sa.String(64), primary_key=True),
    sa.Column("version", sa.String(64), primary_key=True),
    # The Monday of a week, or "reference".
    sa.Column("period", sa.String(10), primary_key=True),
    sa.Column("images", sa.Integer, nullable=False, default=0),
    # Of each feature, how many images are in each bin (domain/drift.py).
    sa.Column("counts", sa.JSON, nullable=False, default=dict),
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.ForeignKey("studies.id"), nullable=False, index=True),
    sa.Column("clinic", sa.ForeignKey("clinics.name"), nullable=False),
    sa.Column("package", sa.String(64), nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("device_uid", sa.String(64), nullable=False),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("note", sa.Text, nullable=False, default=""),
    # The name of an API key: used for one key only, for good.
    sa.Column("given_by", sa.String(64), nullable=False),
    sa.Column("given_at", UtcDateTime, nullable=False),
    sa.Index("ix_feedback_package", "package", "version"),
)

results = sa.Table(
    "results",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.ForeignKey("studies.id"), nullable=False, index=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("profile", sa.String(16), nullable=False),
    sa.Column("is_note", sa.Boolean, nullable=False),
    sa.Column("sop_class_uid", sa.String(64), nullable=False),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False, unique=True),
    sa.Column("series_instance_uid", sa.String(64), nullable=False),
    sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
    sa.Column("written_at", UtcDateTime, nullable=False),
    sa.Column("times_sent_back", sa.Integer, nullable=False, default=0),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("result_id", sa.ForeignKey("results.id"), nullable=False),
    sa.Column("destination", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("status", sa.Integer),
    sa.Column("last_error", sa.Text, nullable=False, default=""),
    sa.Column("delivered_at", UtcDateTime),
    # Not before; None: at its turn. Set for what had trouble of its own, which then no longer holds up the others.
    sa.Column("due_at", UtcDateTime),
    # Since when the destination owes a commitment: it had stored the result for the first time.
    sa.Column("owed_since", UtcDateTime),
    # What it was asked in, as long as the answer is waited for.
    sa.Column("confirmation_id", sa.ForeignKey("confirmations.id"), index=True),
    sa.Column("committed_at", UtcDateTime),
    sa.UniqueConstraint("result_id", "destination"),
)

confirmations = sa.Table(
    "confirmations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("clinic", sa.ForeignKey("clinics.name"), nullable=False),
    sa.Column("destination", sa.String(64), nullable=False),
    sa.Column("transaction_uid", sa.String(64), nullable=False, unique=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    # What came, until the deliveries know.
    sa.Column("report", sa.JSON),
    # Times in a row, this one included, that the destination could not be asked.
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("last_error", sa.Text, nullable=False, default=""),
    sa.Column("asked_at", UtcDateTime, nullable=False),
    # When it ends without a report.
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.Index("ix_confirmations_destination", "clinic", "destination"),
)

outboxes = sa.Table(
    "outboxes",
    metadata,
    sa.Column("clinic", sa.ForeignKey("clinics.name"), primary_key=True),
    sa.Column("destination", sa.String(64), primary_key=True),
    # How many jobs were put for it; only the newest does anything.
    sa.Column("jobs", sa.Integer, nullable=False, default=0),
    # The newest job runs, will run at once, or waits for a destination that is away: what is new waits with it.
    sa.Column("is_busy", sa.Boolean, nullable=False, default=False),
    # Associations that failed, one after the other.
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("last_error", sa.Text, nullable=False, default=""),
    sa.Column("next_attempt_at", UtcDateTime),
    # When something was last handed over to it.
    sa.Column("asked_at", UtcDateTime),
)

period_rules = sa.Table(
    "period_rules",
    metadata,
    sa.Column("clinic", sa.ForeignKey("clinics.name"), primary_key=True),
    # From when on it holds (domain/periods.py).
    sa.Column("begins_at", UtcDateTime, primary_key=True),
    sa.Column("anchor_day", sa.Integer, nullable=False),
    sa.Column("time_zone", sa.String(64), nullable=False),
)

subscriptions = sa.Table(
    "subscriptions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("clinic", sa.ForeignKey("clinics.name"), nullable=False),
    sa.Column("tier", sa.String(16), nullable=False),
    # The terms that it was agreed on (domain/plans.py).
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("state_since", UtcDateTime, nullable=False),
    sa.Column("trial_ends_at", UtcDateTime),
    # Whoever is to be asked for it; None: that was not said, and may be anybody.
    sa.Column("payer", sa.String(16)),
    sa.Column("begins_at", UtcDateTime, nullable=False),
    # None: it goes on. The next row begins where this one ends.
    sa.Column("ends_at", UtcDateTime),
    sa.Column("why", sa.Text, nullable=False),
    sa.Index("ix_subscriptions_clinic", "clinic", "begins_at"),
    sa.Index(
        "uq_subscriptions_open",
        "clinic",
        unique=True,
        sqlite_where=sa.text("ends_at IS NULL"),
        postgresql_where=sa.text("ends_at IS NULL"),
    ),
)

reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("clinic", sa.ForeignKey("clinics.name"), primary_key=True),
    sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    sa.Column("period", sa.String(10), nullable=False),
    sa.Column("made_at", UtcDateTime, nullable=False),
)

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("clinic", sa.ForeignKey("clinics.name"), nullable=False),
    # "charge", or "credit" for one that was taken back.
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("study_id", sa.ForeignKey("studies.id"), nullable=False, index=True),
    # The key of the billing period whose invoice it is on.
    sa.Column("period", sa.String(10), nullable=False),
    sa.Column("tier", sa.String(16), nullable=False),
    # The terms it was charged under, on what ground (domain/plans.py), and which study of its period it was.
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("basis", sa.String(16), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("packages", sa.JSON, nullable=False),
    # Package, version and device UID of each model that answered.
    sa.Column("models", sa.JSON, nullable=False),
    # The first result that a destination accepted, and all SOP Instance UIDs of the analysis.
    sa.Column("result_sop_instance_uid", sa.String(64), nullable=False),
    sa.Column("result_sop_instance_uids", sa.JSON, nullable=False),
    sa.Column("destination", sa.String(64), nullable=False),
    # Of a credit: when it was given, for which charge, by whom, why; and how much, where that is not what it cost.
    sa.Column("charged_at", UtcDateTime, nullable=False),
    sa.Column("corrects", sa.ForeignKey("ledger.id"), unique=True),
    sa.Column("who", sa.String(64), nullable=False, default=""),
    sa.Column("why", sa.Text, nullable=False, default=""),
    sa.Column("amount_usd_cents", sa.Integer),
    sa.Index(
        "uq_ledger_charge",
        "clinic",
        "study_instance_uid",
        unique=True,
        sqlite_where=sa.text("kind = 'charge'"),
        postgresql_where=sa.text("kind = 'charge'"),
    ),
    sa.Index("ix_ledger_clinic_period", "clinic", "period"),
)

invoices = sa.Table(
    "invoices",
    metadata,
    # Without gaps, over all clinics.
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("clinic", sa.ForeignKey("clinics.name"), nullable=False),
    sa.Column("period", sa.String(10), nullable=False),
    sa.Column("issued_at", UtcDateTime, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("total_usd_cents", sa.Integer, nullable=False),
    # Everything that stands on it (domain/invoice.py), and the files as they went out.
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("pdf", sa.LargeBinary, nullable=False),
    sa.Column("csv", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("clinic", "period"),
)

billing_accounts = sa.Table(
    "billing_accounts",
    metadata,
    sa.Column("clinic", sa.ForeignKey("clinics.name"), primary_key=True),
    # Hexadecimal. Only with it can a Study Instance UID be turned into the identifier that Stripe has.
    sa.Column("identifier_key", sa.String(64), nullable=False),
    sa.Column("customer_id", sa.String(64), nullable=False, unique=True),
    # The rest is what Stripe said when it was last asked; None, or empty: it has no subscription there.
    sa.Column("subscription_id", sa.String(64)),
    sa.Column("status", sa.String(32), nullable=False, default=""),
    sa.Column("tier", sa.String(16), nullable=False, default=""),
    sa.Column("period_begins_at", UtcDateTime),
    sa.Column("period_ends_at", UtcDateTime),
    # When the metered price was last replaced: Stripe has billed what was used before.
    sa.Column("metered_since", UtcDateTime),
    sa.Column("metered_price_id", sa.String(64), nullable=False, default=""),
    # Charge id of each payment that was disputed, and how the dispute stands.
    sa.Column("disputes", sa.JSON, nullable=False, default=dict),
    sa.Column("packages", sa.JSON, nullable=False, default=list),
    sa.Column("seen_at", UtcDateTime),
    sa.Column("begun_at", UtcDateTime, nullable=False),
)

billing_outbox = sa.Table(
    "billing_outbox",
    metadata,
    sa.Column("ledger_id", sa.ForeignKey("ledger.id"), primary_key=True),
    sa.Column("clinic", sa.ForeignKey("billing_accounts.clinic"), nullable=False),
    # metering/outbox_rules.py
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("route", sa.String(16), nullable=False, default=""),
    # The time that Stripe is told.
    sa.Column("metered_at", UtcDateTime, nullable=False),
    sa.Column("identifier", sa.String(64), nullable=False, default=""),
    # How often it was begun anew with another identifier, and how often Stripe answered with a fault of its own.
    sa.Column("round", sa.Integer, nullable=False, default=0),
    sa.Column("errors", sa.Integer, nullable=False, default=0),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    # Of this round, the earliest and the latest request.
    sa.Column("first_asked_at", UtcDateTime),
    sa.Column("asked_at", UtcDateTime),
    sa.Column("enqueued_at", UtcDateTime, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("leased_until", UtcDateTime),
    sa.Column("done_at", UtcDateTime),
    # Of the invoice item, where there is one.
    sa.Column("stripe_id", sa.String(64), nullable=False, default=""),
    sa.Column("last_error", sa.Text, nullable=False, default=""),
    sa.Index("ix_billing_outbox_due", "state", "due_at"),
    sa.Index("ix_billing_outbox_clinic", "clinic", "metered_at"),
)

billing_settlements = sa.Table(
    "billing_settlements",
    metadata,
    sa.Column("clinic", sa.ForeignKey("billing_accounts.clinic"), primary_key=True),
    # The key of the ledger's period; a later credit has it settled once more.
    sa.Column("period", sa.String(10), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    # What the ledger says, what Stripe has invoiced, and the item that makes up the difference.
    sa.Column("ledger_rows", sa.Integer, nullable=False),
    sa.Column("ledger_studies", sa.Integer, nullable=False),
    sa.Column("ledger_usd_cents", sa.Integer, nullable=False),
    sa.Column("stripe_studies", sa.Integer, nullable=False),
    sa.Column("stripe_usd_cents", sa.Integer, nullable=False),
    sa.Column("invoice_item_id", sa.String(64), nullable=False, default=""),
    sa.Column("settled_at", UtcDateTime, nullable=False),
)

stripe_events = sa.Table(
    "stripe_events",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("type", sa.String(128), nullable=False),
    # What it is about, as far as it is needed to ask for it: never what the event said of it.
    sa.Column("object_id", sa.String(255), nullable=False, default=""),
    sa.Column("customer_id", sa.String(64), nullable=False, default=""),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("times_received", sa.Integer, nullable=False, default=1),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("processed_at", UtcDateTime),
    sa.Column("outcome", sa.Text, nullable=False, default=""),
    sa.Index("ix_stripe_events_due", "processed_at", "due_at"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("who", sa.String(64), nullable=False),
    # None: of no clinic, or of one that is not known.
    sa.Column("clinic", sa.String(64), index=True),
    sa.Column("act", sa.String(32), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("key_sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("clinic", sa.ForeignKey("clinics.name")),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("revoked_at", UtcDateTime),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("token_sha256", sa.String(64), primary_key=True),
    sa.Column("key_name", sa.ForeignKey("api_keys.name"), nullable=False),
    sa.Column("began_at", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
)

receivers = sa.Table(
    "receivers",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("seen_at", sa.Double, nullable=False),
)

queue_shares = sa.Table(
    "queue_shares",
    metadata,
    sa.Column("clinic", sa.ForeignKey("clinics.name"), primary_key=True),
    # Where its next study starts at the earliest, and the largest tag of those that were started.
    sa.Column("finish_tag", sa.Integer, nullable=False, default=0),
    sa.Column("started_tag", sa.Integer, nullable=False, default=0),
)

executors = sa.Table(
    "executors",
    metadata,
    sa.Column("executor_id", sa.String(128), primary_key=True),
    sa.Column("seen_at", sa.Double, nullable=False),
)
