"""`collimator send`: brings DICOM files to any AE, as they are, and shows each answer."""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from cli.parts import settings_or_defaults
from config.settings import Settings
from domain.errors import Misconfigured, Refuse
from scu.store import Address, Answer, OutgoingFile, SendOutcome, describe, send_files
from scu.tls import Secured

TO_PATTERN = re.compile(r"(?P<ae_title>[^@]{1,16})@(?P<host>.+):(?P<port>\d{1,5})")
TIMEOUT_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", required=True, metavar="AE@HOST:PORT", help="who gets the files")
    parser.add_argument("--from", dest="calling_ae_title", metavar="AE", help="the AE title to call from")
    parser.add_argument(
        "--tls", action="store_true", help="over TLS, with the node's certificate (receiver.tls_*_file)"
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder with files")


def run(args: argparse.Namespace) -> int:
    to = parse_address(args.to)
    settings = settings_or_defaults(args.config)
    calling_ae_title = args.calling_ae_title or settings.node.ae_title
    if args.tls:
        to = replace(to, tls=_secured(to.host, settings))
    files, strangers = _read(_files_in(args.paths))
    for message in strangers:
        print(message, file=sys.stderr)
    if not files:
        raise Refuse("there is no DICOM file to send", reason="nothing_to_send", hint="name files or folders with some")
    done = 0

    def show(outcome: SendOutcome) -> None:
        nonlocal done
        done += 1
        print(f"{done}/{len(files)} {outcome.answer} {outcome.sop_instance_uid} {outcome.detail}".rstrip(), flush=True)

    outcomes = send_files(files, to, calling_ae_title=calling_ae_title, timeout_s=TIMEOUT_S, on_outcome=show)
    stored = sum(outcome.answer is Answer.STORED for outcome in outcomes)
    print(f"{stored} of {len(files)} stored at {args.to}")
    return 0 if stored == len(files) and not strangers else 1


def parse_address(text: str) -> Address:
    """AE@HOST:PORT.

    Raises:
        Misconfigured: it is not of that form.
    """
    match = TO_PATTERN.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise Misconfigured(f"--to {text!r} is not of the form AE@HOST:PORT", hint="for example ORTHANC@127.0.0.1:4242")
    return Address(ae_title=match["ae_title"], host=match["host"].strip("[]"), port=int(match["port"]))


def _secured(host: str, settings: Settings) -> Secured:
    files = settings.receiver.tls_files
    if files is None:
        raise Misconfigured(
            "--tls shows the node's certificate, and the configuration names none",
            hint="set receiver.tls_certificate_file, tls_key_file and tls_ca_file, and --config to where they are",
        )
    return Secured(files=files, name=host)


def _files_in(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def _read(paths: Iterable[Path]) -> tuple[list[OutgoingFile], list[str]]:
    files, strangers = [], []
    for path in paths:
        try:
            path.open("rb").close()
            files.append(describe(path))
        except OSError as error:
            strangers.append(f"{path} cannot be read: {error.strerror}")
        except Refuse as error:
            strangers.append(error.message)
    return files, strangers
