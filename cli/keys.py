"""`collimator keys create|list|revoke`: the portal's API keys."""

import argparse
import re

from cli.listing import print_objects, print_table
from cli.parts import open_database, settings_for
from domain.errors import Misconfigured
from portal_api.permissions import PERMISSIONS, Role
from storage.api_keys import create_key, list_keys, revoke_key
from storage.intake import sync_clinics

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
HEADER = ("NAME", "ROLE", "CLINIC", "CREATED", "REVOKED")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="keys_verb", metavar="create|list|revoke", required=True)
    create = verbs.add_parser("create", help="make a key and show it, this once")
    create.add_argument("name", metavar="NAME", help="what the key is known by")
    create.add_argument("--role", choices=[str(role) for role in Role], default=str(Role.VIEWER), help=_roles())
    create.add_argument("--clinic", metavar="NAME", help="the only clinic that it may see; default: all")
    listing = verbs.add_parser("list", help="every key there is or was, without the keys themselves")
    listing.add_argument("--json", action="store_true", help="a list of objects")
    revoke = verbs.add_parser("revoke", help="end a key")
    revoke.add_argument("name", metavar="NAME")


def run(args: argparse.Namespace) -> int:
    settings = settings_for(args.config)
    database = open_database(settings)
    if args.keys_verb == "create":
        if not NAME_PATTERN.fullmatch(args.name):
            raise Misconfigured(f"{args.name!r} is no name for a key", hint="at most 64 letters, digits, and . _ -")
        sync_clinics(database, {clinic.name: clinic.tier for clinic in settings.clinics})
        print(create_key(database, name=args.name, role=args.role, clinic=args.clinic))
    elif args.keys_verb == "revoke":
        revoke_key(database, args.name)
        print(f"{args.name} is revoked")
    elif args.json:
        print_objects(list_keys(database))
    else:
        keys = list_keys(database)
        print_table(HEADER, [(key.name, key.role, key.clinic or "all", key.created_at, key.revoked_at) for key in keys])
    database.close()
    return 0


def _roles() -> str:
    may = [f"{role} has {', '.join(sorted(permissions))}" for role, permissions in PERMISSIONS.items()]
    return f"default: %(default)s ({'; '.join(may)})"
