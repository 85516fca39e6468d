"""Reads collimator.toml into frozen settings, or says which key is wrong and what was expected.

file  <-  COLLIMATOR_<SECTION>__<KEY> from the environment  <-  secrets from files that a key names
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from config.billing import BillingSettings, PlansSettings
from config.clinics import ClinicSettings, refuse_two_completions, sender_of
from config.section import Section
from config.values import AETitle, Device, Name, Pattern, Port, Seconds, View
from domain.billing import Payer
from domain.clinics import Clinic
from domain.completion import CompletionRules
from domain.errors import Misconfigured
from domain.queueing import StatRules
from domain.routing import Rule, RuleBook
from domain.terms import code_key, plain_term, plain_words
from domain.tls import TlsFiles

ENVIRONMENT_PREFIX = "COLLIMATOR_"


class RefusedSettings(Misconfigured):
    """A configuration that was read and cannot be meant. `keys`: what is wrong with which key, without the values, for
    one of them may be a secret. `database_url`: of the node's database; "": [node] does not say which.
    """

    def __init__(self, message: str, *, hint: str, keys: str, database_url: str) -> None:
        super().__init__(message, hint=hint)
        self.keys = keys
        self.database_url = database_url


class NodeSettings(Section):
    ae_title: AETitle = "COLLIMATOR"
    data_dir: Path = Path("var")
    database_url: str = ""
    database_url_file: Path | None = None
    serial_number: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "COLLIMATOR-1"

    @property
    def its_database_url(self) -> str:
        """SQLAlchemy URL; an empty `database_url` means SQLite beside the spool."""
        if self.database_url_file is not None:
            try:
                return self.database_url_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise Misconfigured(f"node.database_url_file cannot be read: {error}") from error
        return self.database_url or f"sqlite:///{(self.data_dir / 'collimator.db').absolute()}"


TLS_FILES = ("tls_certificate_file", "tls_key_file", "tls_ca_file")


class ReceiverSettings(Section):
    host: Annotated[str, StringConstraints(min_length=1)] = "127.0.0.1"
    port: Port = 11112
    tls_port: Port = 0
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tls_ca_file: Path | None = None
    unknown_callers: Literal["reject", "quarantine"] = "reject"
    quarantine_maximum_gb: Annotated[float, Field(ge=0)] = 5.0
    conflicting_instances: Literal["accept", "warn"] = "accept"
    path: Literal["fast", "stock"] = "fast"
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    maximum_associations: Annotated[int, Field(ge=1, le=1000)] = 25
    maximum_associations_per_caller: Annotated[int, Field(ge=1, le=1000)] = 10
    maximum_associations_per_address: Annotated[int, Field(ge=1, le=1000)] = 20
    maximum_associations_of_strangers: Annotated[int, Field(ge=0, le=1000)] = 0
    maximum_unassociated: Annotated[int, Field(ge=1, le=1000)] = 64
    maximum_instance_mb: Annotated[int, Field(ge=1, le=65536)] = 4096
    maximum_inflated_mb: Annotated[int, Field(ge=1, le=65536)] = 512
    artim_s: Annotated[float, Field(ge=0.1, le=300)] = 10.0
    association_timeout_s: Annotated[float, Field(ge=0.1, le=3600)] = 60.0
    minimum_free_gb: Annotated[float, Field(ge=0)] = 5.0
    minimum_free_percent: Annotated[float, Field(ge=0, lt=100)] = 5.0
    shutdown_s: Seconds = 8.0

    @property
    def missing_tls_files(self) -> list[str]:
        """The keys of those that are not named."""
        return [key for key in TLS_FILES if getattr(self, key) is None]

    @property
    def tls_files(self) -> TlsFiles | None:
        """The node's identity, for its own TLS port and for destinations; None where a file is not named."""
        certificate, key, ca = self.tls_certificate_file, self.tls_key_file, self.tls_ca_file
        if certificate is None or key is None or ca is None:
            return None
        return TlsFiles(certificate_file=certificate, key_file=key, ca_file=ca)

    @model_validator(mode="after")
    def _tls_has_its_files(self) -> "ReceiverSettings":
        missing = self.missing_tls_files
        if self.tls_port and missing:
            raise ValueError(f"tls_port is {self.tls_port}, so {' and '.join(missing)} must name a PEM file")
        if self.tls_port and self.path == "stock":
            raise ValueError('path "stock" has no TLS; use path "fast", or tls_port 0')
        if self.tls_port and self.tls_port == self.port:
            raise ValueError(f"port and tls_port are both {self.port}; each needs its own (PS3.15 B.12)")
        return self


class StorageSettings(Section):
    encryption_key_file: Path | None = None
    pixel_retention_days: Annotated[float, Field(ge=0)] = 0.0
    shared_url: str = ""
    acknowledge: Literal["local", "shared"] = "local"
    cache_gb: Annotated[float, Field(gt=0)] = 10.0

    @model_validator(mode="after")
    def _goes_with_a_shared_store(self) -> "StorageSettings":
        if self.acknowledge == "shared" and not self.shared_url:
            raise ValueError('acknowledge is "shared", so shared_url must name the store')
        if self.shared_url and self.encryption_key_file is not None:
            raise ValueError(
                "encryption_key_file and shared_url do not go together: each machine would make keys of its own; "
                "let the bucket or the file system encrypt what it stores, and the machines their disks"
            )
        return self


class CommitmentSettings(Section):
    minimum_retention_days: Annotated[float, Field(ge=0)] = 30.0
    first_retry_s: Annotated[float, Field(gt=0)] = 10.0
    give_up_after_s: Annotated[float, Field(gt=0, le=31 * 86400)] = 2 * 86400.0


class PortalSettings(Section):
    host: Annotated[str, StringConstraints(min_length=1)] = "127.0.0.1"
    port: Port = 8080


class CompletionSettings(Section):
    quiet_s: Seconds = 30.0
    after_release_s: Seconds = 2.0
    max_age_s: Seconds = 5400.0


class InferenceSettings(Section):
    memory_limit_mb: Annotated[int, Field(ge=512)] = 4096
    time_limit_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    devices: tuple[Device, ...] = ()
    decode_processes: Annotated[int, Field(ge=1, le=64)] = 2
    largest_batch: Annotated[int, Field(ge=1, le=256)] = 16
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 5.0
    device_memory_mb: Annotated[int, Field(ge=0)] = 0
    pinned_packages: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _devices_are_unique(self) -> "InferenceSettings":
        if len(set(self.devices)) < len(self.devices):
            raise ValueError(f"devices names one more than once: {', '.join(self.devices)}")
        return self


class ModelsSettings(Section):
    run_retention_days: Annotated[float, Field(ge=0, le=36500)] = 400.0


class DeliverySettings(Section):
    first_retry_s: Annotated[float, Field(gt=0)] = 5.0
    longest_retry_s: Annotated[float, Field(gt=0)] = 600.0
    give_up_after_s: Annotated[float, Field(gt=0, le=31 * 86400)] = 7 * 86400.0
    commitment_wait_s: Annotated[float, Field(gt=0, le=31 * 86400)] = 3600.0
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0


class WorkerSettings(Section):
    concurrency: Annotated[int, Field(ge=1, le=64)] = 3
    lease_s: Annotated[float, Field(ge=3, le=600)] = 20.0
    job_retention_days: Annotated[float, Field(ge=0, le=36500)] = 30.0


class StatSettings(Section):
    procedure_priorities: tuple[str, ...] = ("STAT",)
    descriptions: tuple[Pattern, ...] = ()


class LoggingSettings(Section):
    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class RuleSettings(Section):
    name: Annotated[str, StringConstraints(min_length=1)]
    package: Name
    body_parts: tuple[str, ...] = ()
    modalities: tuple[Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True)], ...] = ()
    views: tuple[View, ...] = ()
    callers: tuple[str, ...] = ()
    age_min_years: Annotated[float, Field(ge=0, le=150)] | None = None
    age_max_years: Annotated[float, Field(ge=0, le=150)] | None = None

    @model_validator(mode="after")
    def _somebody_is_of_that_age(self) -> "RuleSettings":
        youngest, oldest = self.age_min_years, self.age_max_years
        if youngest is not None and oldest is not None and youngest > oldest:
            raise ValueError(f"nobody is at least {youngest:g} and at most {oldest:g} years old")
        return self


class RoutingSettings(Section):
    rules: tuple[RuleSettings, ...] = ()
    terms: dict[str, str] = Field(default_factory=dict)
    codes: dict[str, str] = Field(default_factory=dict)
    words: dict[str, str] = Field(default_factory=dict)
    modalities: dict[str, str] = Field(default_factory=dict)


class Settings(Section):
    """Everything the node can be told; `collimator.example.toml` explains each key."""

    node: NodeSettings = NodeSettings()
    receiver: ReceiverSettings = ReceiverSettings()
    storage: StorageSettings = StorageSettings()
    commitment: CommitmentSettings = CommitmentSettings()
    portal: PortalSettings = PortalSettings()
    completion: CompletionSettings = CompletionSettings()
    inference: InferenceSettings = InferenceSettings()
    models: ModelsSettings = ModelsSettings()
    delivery: DeliverySettings = DeliverySettings()
    worker: WorkerSettings = WorkerSettings()
    stat: StatSettings = StatSettings()
    logging: LoggingSettings = LoggingSettings()
    routing: RoutingSettings = RoutingSettings()
    plans: PlansSettings = PlansSettings()
    billing: BillingSettings = BillingSettings()
    clinics: tuple[ClinicSettings, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Settings":
        _refuse_twice("clinics", "name", [clinic.name for clinic in self.clinics])
        for clinic in self.clinics:
            _refuse_twice(f"clinics.{clinic.name}.destinations", "name", [d.name for d in clinic.destinations])
            _refuse_twice(f"clinics.{clinic.name}.models", "package", [model.package for model in clinic.models])
            refuse_two_completions(clinic)
        callers = [caller for clinic in self.clinics for caller in clinic.callers]
        _refuse_twice("clinics.callers", "ae_title, host and certificate_subject", list(map(sender_of, callers)))
        return self

    @model_validator(mode="after")
    def _rules_are_about_body_parts_that_can_be_said(self) -> "Settings":
        """A misspelt one would send its studies nowhere, unnoticed."""
        if not any(rule.body_parts for rule in self.routing.rules):
            return self
        book = self.rulebook
        known = {part for table in (book.terms, book.codes, book.words, book.modalities) for part in table.values()}
        for rule in book.rules:
            if unknown := [part for part in rule.body_parts if part not in known]:
                raise ValueError(
                    f"routing.rules, {rule.name!r}: no term, code, word or modality names the body part "
                    f"{' or '.join(unknown)}; there are {', '.join(sorted(known))}"
                )
        return self

    @model_validator(mode="after")
    def _certificates_can_be_shown(self) -> "Settings":
        bound = [caller.ae_title for clinic in self.clinics for caller in clinic.callers if caller.certificate_subject]
        if bound and not self.receiver.tls_port:
            raise ValueError(
                f"clinics.callers: {', '.join(bound)} must show a certificate, and receiver.tls_port is 0: set it "
                "(2762 by convention), or leave certificate_subject out"
            )
        return self

    @model_validator(mode="after")
    def _tls_files_have_a_use(self) -> "Settings":
        missing = self.receiver.missing_tls_files
        over_tls = [one for clinic in self.clinics for one in clinic.shown_a_certificate]
        if over_tls and missing:
            raise ValueError(
                f"{', '.join(over_tls)}, so the node shows its certificate there, and "
                f"{' and '.join(f'receiver.{key}' for key in missing)} must name a PEM file"
            )
        if not over_tls and not self.receiver.tls_port and len(missing) < len(TLS_FILES):
            named = " and ".join(key for key in TLS_FILES if key not in missing)
            raise ValueError(
                f"receiver: tls_port is 0, so {named} would be for nothing: set tls_port (2762 by convention), "
                "tls of a destination, or commitment_tls of a caller"
            )
        return self

    @model_validator(mode="after")
    def _invoices_have_an_issuer(self) -> "Settings":
        billed = [clinic.name for clinic in self.clinics if clinic.billing.payer is Payer.INVOICE]
        if billed and not self.billing.name:
            raise ValueError(f"{', '.join(billed)} pays by invoice, so billing.name must say who writes the invoices")
        return self

    @property
    def database_url(self) -> str:
        return self.node.its_database_url

    @property
    def completion_rules(self) -> CompletionRules:
        usual = self.completion.model_dump()
        own = {
            (clinic.name, caller.ae_title): CompletionRules(**usual | caller.completion.model_dump(exclude_none=True))
            for clinic in self.clinics
            for caller in clinic.callers
        }
        rules = CompletionRules(**usual)
        return replace(rules, callers={caller: its_own for caller, its_own in own.items() if its_own != rules})

    @property
    def clinic_directory(self) -> tuple[Clinic, ...]:
        return tuple(clinic.clinic for clinic in self.clinics)

    @property
    def stat_rules(self) -> StatRules:
        return StatRules(
            callers=frozenset(
                (clinic.name, caller.ae_title) for clinic in self.clinics for caller in clinic.callers if caller.stat
            ),
            procedure_priorities=frozenset(priority.upper() for priority in self.stat.procedure_priorities),
            descriptions=tuple(re.compile(pattern, re.IGNORECASE) for pattern in self.stat.descriptions),
        )

    @property
    def rulebook(self) -> RuleBook:
        """The shipped routing with the file's own rules and words laid over it."""
        shipped = tomllib.loads(resources.files("config").joinpath("routing.toml").read_text(encoding="utf-8"))
        rules = self.routing.rules or tuple(RuleSettings(**rule) for rule in shipped["rules"])
        return RuleBook(
            rules=tuple(Rule(**rule.model_dump()) for rule in rules),
            terms={**shipped["terms"], **{plain_term(term): part for term, part in self.routing.terms.items()}},
            codes={**shipped["codes"], **{code_key(code): part for code, part in self.routing.codes.items()}},
            words={**shipped["words"], **{plain_words(word): part for word, part in self.routing.words.items()}},
            modalities={
                **shipped["modalities"],
                **{modality.strip().upper(): part for modality, part in self.routing.modalities.items()},
            },
            within=shipped["within"],
        )


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read, override and check the configuration.

    Raises:
        Misconfigured: the file is missing or not TOML, or a key is unknown or has a wrong value; the message names
            the key and what was expected.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = "copy collimator.example.toml to collimator.toml, or name a file with --config"
        raise Misconfigured(f"there is no configuration file {path}", hint=hint) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{path} is not TOML: {error}", hint="see https://toml.io for the syntax") from error
    return check(_with_environment(content, environment), origin=str(path))


def check(content: Mapping[str, Any], *, origin: str) -> Settings:
    """Validate a configuration that was read already; `origin` names it in messages."""
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        details = error.errors()
        complaints = [_complaint(one["loc"], one["msg"]) + _seen(one) for one in details]
        raise RefusedSettings(
            f"{origin}: " + "; ".join(complaints),
            hint="every key is explained in collimator.example.toml",
            keys="; ".join(_complaint(one["loc"], one["msg"]) for one in details),
            database_url=_database_of(content),
        ) from error


def _complaint(location: tuple[int | str, ...], message: str) -> str:
    key = ".".join(str(part) for part in location)
    message = "there is no such key" if message.startswith("Extra inputs") else message.removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _seen(detail: ErrorDetails) -> str:
    """The value of a key that there is."""
    says_nothing = detail["type"] == "extra_forbidden" or not detail["loc"] or isinstance(detail["input"], Mapping)
    return "" if says_nothing else f", and it is {detail['input']!r}"


def _database_of(content: Mapping[str, Any]) -> str:
    """Where the table [node] can be meant, whatever else is wrong."""
    try:
        return NodeSettings.model_validate(content.get("node", {})).its_database_url
    except (ValidationError, Misconfigured):
        return ""


def _with_environment(content: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """COLLIMATOR_RECEIVER__PORT=104 overrides [receiver] port. [[clinics]] has no such override."""
    merged = dict(content)
    for variable, value in environment.items():
        section, separator, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if variable.startswith(ENVIRONMENT_PREFIX) and separator:
            present = merged.get(section, {})
            if not isinstance(present, Mapping):
                raise Misconfigured(f"{variable}: [{section}] is a list and cannot be set from the environment")
            merged[section] = {**present, key: _from_variable(value)}
    return merged


def _from_variable(text: str) -> Any:
    """A list or a table as TOML writes it; the rest, such as a number, is read by its key."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _refuse_twice(where: str, key: str, values: list[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{where}: {key} {', '.join(twice)} appears more than once; each must be unique")
