"""Who may read what: the five roles, as a table."""

from enum import StrEnum


class Permission(StrEnum):
    STUDIES = "studies"
    QUARANTINE = "quarantine"
    CLINICS = "clinics"
    USAGE = "usage"
    METRICS = "metrics"


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    BILLING = "billing"
    AUDITOR = "auditor"


PERMISSIONS = {
    Role.VIEWER: frozenset({Permission.STUDIES, Permission.CLINICS}),
    Role.OPERATOR: frozenset({Permission.STUDIES, Permission.CLINICS, Permission.QUARANTINE, Permission.METRICS}),
    Role.ADMIN: frozenset(Permission),
    Role.BILLING: frozenset({Permission.CLINICS, Permission.USAGE}),
    Role.AUDITOR: frozenset({Permission.STUDIES, Permission.CLINICS, Permission.QUARANTINE, Permission.USAGE}),
}


def may(role: str, permission: Permission) -> bool:
    """Whether a role may; a role that this version does not know may nothing."""
    return role in PERMISSIONS and permission in PERMISSIONS[Role(role)]
