"""Who may read what, and who may do something for a study: the five roles, as a table."""

from enum import StrEnum


class Permission(StrEnum):
    STUDIES = "studies"
    QUARANTINE = "quarantine"
    CLINICS = "clinics"
    USAGE = "usage"
    METRICS = "metrics"
    MODELS = "models"  # how versions differ
    # These change something.
    FEEDBACK = "feedback"  # a word about a finding
    CARE = "care"  # retry, cancel, reanalyse, withdraw
    CREDIT = "credit"  # take a charge back
    PAYMENTS = "payments"  # pages at Stripe where cards are kept and plans are bought


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    BILLING = "billing"
    AUDITOR = "auditor"


PERMISSIONS = {
    Role.VIEWER: frozenset({Permission.STUDIES, Permission.CLINICS, Permission.MODELS, Permission.FEEDBACK}),
    Role.OPERATOR: frozenset(
        {
            Permission.STUDIES,
            Permission.CLINICS,
            Permission.QUARANTINE,
            Permission.METRICS,
            Permission.MODELS,
            Permission.FEEDBACK,
            Permission.CARE,
        }
    ),
    Role.ADMIN: frozenset(Permission),
    Role.BILLING: frozenset({Permission.CLINICS, Permission.USAGE, Permission.CREDIT, Permission.PAYMENTS}),
    Role.AUDITOR: frozenset(
        {Permission.STUDIES, Permission.CLINICS, Permission.QUARANTINE, Permission.USAGE, Permission.MODELS}
    ),
}


def may(role: str, permission: Permission) -> bool:
    """Whether a role may; a role that this version does not know may nothing."""
    return role in PERMISSIONS and permission in PERMISSIONS[Role(role)]
