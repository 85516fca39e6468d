"""`collimator VERB …`: finds the verb's file, reads no other, and turns errors into exit statuses.

0  done        1  the thing asked for failed, one clear line on stderr        2  wrong usage or configuration
"""

import argparse
import importlib
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from cli import DEFAULT_CONFIG
from domain.errors import CollimatorError, Misconfigured

VERBS = {
    "serve": "everything on one machine: receiver, worker and portal",
    "receiver": "only the receiver",
    "worker": "only a worker",
    "portal": "only the portal",
    "demo": "a node, a stand-in PACS and real studies, to see it work",
    "doctor": "check the configuration and all that it points to",
    "send": "send DICOM files to an AE",
    "models": "list, pull, verify, add and evaluate model packages; compare versions; drift",
    "rules": "explain why a file goes where it goes, and what other rules would change",
    "studies": "list the studies",
    "study": "one study's whole history; try it again, cancel it, analyse it anew or take its results back",
    "ledger": "what was charged; take a charge back",
    "invoices": "what clinics were asked to pay, and the files for their accounts",
    "subscriptions": "each clinic's plan, state and use; pause, resume or cancel one",
    "billing": "how it stands with Stripe; subscribe a clinic, change its plan, links for it",
    "commitments": "requests for storage commitment, and whether their callers were told",
    "keys": "make and revoke the portal's API keys",
    "storage": "erase a study; rotate keys; adopt what is in the shared store; get an instance",
    "migrate": "bring the database to this version",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    args = _parser(chosen).parse_args(arguments)
    try:
        return int(importlib.import_module(f"cli.{args.verb}").run(args))
    except Misconfigured as error:
        status = _complain(error, 2)
        with suppress(Exception):  # what was said on stderr stands, whether the database can be told or not
            importlib.import_module("cli.refusals").enter(error)
        return status
    except CollimatorError as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        outage = importlib.import_module("cli.outages").outage_of(error)
        if outage is None:
            raise
        return _complain(outage, 1)


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """All verbs with their help, and the arguments of the chosen one."""
    parser = argparse.ArgumentParser(prog="collimator", description=sys.modules["cli"].__doc__)
    parser.set_defaults(config=DEFAULT_CONFIG)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_VerbParser)
    for verb, help_text in VERBS.items():
        verb_parser = verbs.add_parser(verb, help=help_text, description=help_text, takes_config=verb != "demo")
        if verb == chosen:
            importlib.import_module(f"cli.{verb}").add_arguments(verb_parser)
    return parser


class _VerbParser(argparse.ArgumentParser):
    """The parser of a verb, or of a verb's own verb: `models --config FILE list` and `models list --config FILE`.

    Where it is not given it sets nothing, so that the one does not overwrite what the other read.
    """

    def __init__(self, *args: Any, takes_config: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if takes_config:
            self.add_argument(
                "--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help=f"default: {DEFAULT_CONFIG}"
            )


def _complain(error: CollimatorError, status: int) -> int:
    hint = f" ({error.hint})" if error.hint else ""
    # A library's message may have several lines.
    print(" ".join(f"collimator: {error.message}{hint}".split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
