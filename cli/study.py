"""`collimator study UID`: one study's whole history or, with --retry, --cancel, --reanalyse or --withdraw, its care."""

import argparse
from collections.abc import Iterator

from cli.care import open_care
from cli.listing import cell, print_objects
from cli.parts import open_database, settings_for
from domain.care import Done, Rejection, Verb
from domain.errors import Misconfigured, Refuse
from domain.findings import told_apart
from domain.versions import Role
from storage.overview import (
    AnswerLine,
    FindingLine,
    MeasurementLine,
    ResultLine,
    StudyFilter,
    StudyHistory,
    read_history,
)

VERBS = {
    Verb.RETRY: "look at a held, failed or cancelled study once more; send again what was not taken or kept",
    Verb.CANCEL: "do not analyse a study that is received or queued; its images are kept",
    Verb.REANALYSE: "analyse a study that is done anew, as its next generation, free of charge",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study_instance_uid", metavar="UID", help="Study Instance UID (0020,000D)")
    parser.add_argument("--json", action="store_true", help="a list of objects, one a generation")
    parser.add_argument("--clinic", metavar="NAME", help="only this clinic's")
    verbs = parser.add_mutually_exclusive_group()
    for verb, help_text in VERBS.items():
        verbs.add_argument(f"--{verb}", dest="asked", action="store_const", const=verb, help=help_text)
    verbs.add_argument(
        "--withdraw",
        metavar="REASON",
        choices=[str(rejection) for rejection in Rejection],
        help=f"take back what was sent, and tell each destination why: {', '.join(Rejection)}",
    )
    parser.add_argument(
        "--why", metavar="TEXT", default="", help="with --withdraw: what the history says of it as well"
    )


def run(args: argparse.Namespace) -> int:
    if args.why and not args.withdraw:
        raise Misconfigured("--why says why results are withdrawn", hint="name the reason as well: --withdraw REASON")
    settings = settings_for(args.config)
    database = open_database(settings)
    clinics = None if args.clinic is None else {args.clinic}
    verb = Verb.WITHDRAW if args.withdraw else args.asked
    if verb is not None:
        done = open_care(settings, database).ask(
            verb,
            args.study_instance_uid,
            clinics=clinics,
            asked_by="from the command line" + (f": {args.why}" if args.why else ""),
            rejection=Rejection(args.withdraw or Rejection.SAFETY),
        )
        database.close()
        say(done, as_json=args.json)
        return 0
    histories = read_history(database, StudyFilter(clinics=clinics, study_instance_uid=args.study_instance_uid))
    database.close()
    if not histories:
        raise Refuse(
            f"there is no study {args.study_instance_uid!r}", reason="unknown_study", hint="see `collimator studies`"
        )
    if args.json:
        print_objects(histories)
    else:
        print("\n\n".join("\n".join(_page(history)) for history in histories))
    return 0


def say(done: Done, *, as_json: bool) -> None:
    """What the study is now."""
    if as_json:
        print_objects([done])
    else:
        already = "" if done.is_changed else " already"
        print(f"{done.study_instance_uid} of {done.clinic}, generation {done.generation}, is {done.state}{already}")


def _page(history: StudyHistory) -> Iterator[str]:
    yield f"{history.study_instance_uid}  generation {history.generation}  {history.state}"
    for title, value in (
        ("clinic", history.clinic),
        ("from", history.calling_ae_title),
        ("accession", history.accession_number),
        ("opened", history.opened_at),
        ("complete", f"{cell(history.completed_at)} ({history.completion_reason})" if history.completed_at else ""),
        ("finished", history.finished_at),
        ("instances", history.instances),
        ("reason", history.reason),
        ("charged", history.is_charged),
    ):
        yield f"  {title:<10} {cell(value)}"
    yield from _section("why", history.explanation)
    yield from _section("findings", [_finding(finding) for finding in history.findings])
    yield from _section("measured", [_measurement(measurement) for measurement in history.measurements])
    yield from _section("results", [line for result in history.results for line in _result(result)])
    yield from _section("history", [f"{cell(e.at)}  {e.event:<10} {e.detail}".rstrip() for e in history.events])


def _section(title: str, lines: tuple[str, ...] | list[str]) -> Iterator[str]:
    if lines:
        yield f"  {title}"
        yield from (f"    {cell(line)}" for line in lines)


def _finding(finding: FindingLine) -> str:
    said = "detected" if finding.is_detected else "not detected"
    score = "{}, threshold {}".format(*told_apart(finding.certainty, finding.threshold, decimals=2))
    places = f", {finding.regions} places" if finding.regions > 1 else ""
    return f"{finding.label}: {said} ({score}{places})  {_by(finding)}"


def _measurement(measurement: MeasurementLine) -> str:
    value, threshold = f"{measurement.value:.2f}", ""
    if measurement.threshold is not None:
        value, _ = told_apart(measurement.value, measurement.threshold, decimals=2)
        threshold = f" (threshold {measurement.threshold:g})"
    return f"{measurement.label}: {value} {measurement.unit}{threshold}  {_by(measurement)}"


def _by(answer: AnswerLine) -> str:
    canary = " (canary)" if answer.role is Role.CANARY else ""
    demonstration = " DEMONSTRATION MODEL" if answer.is_demonstration else ""
    return f"{answer.package} {answer.model_version}{canary}{demonstration}"


def _result(result: ResultLine) -> Iterator[str]:
    yield f"{result.kind}  {result.sop_instance_uid}"
    for delivery in result.deliveries:
        why = f": {delivery.last_error}" if delivery.last_error else ""
        moment = delivery.committed_at or delivery.delivered_at
        when = f" {cell(moment)}" if moment else ""
        yield f"  {delivery.destination}: {delivery.state}{when} (attempts: {delivery.attempts}){why}"
