"""Is every package that a routing rule names known here? A misspelt one would send its studies nowhere, unnoticed."""

from collections.abc import Iterator

from domain.errors import Misconfigured
from domain.routing import RuleBook
from inference.registry import Registry


def check_rule_packages(registry: Registry, rulebook: RuleBook) -> None:
    """
    Raises:
        Misconfigured: no model package is of a name that a rule has; for all of them.
    """
    wrong = list(troubles_of_rules(registry, rulebook))
    if wrong:
        hints = dict.fromkeys(trouble.hint for trouble in wrong)
        raise Misconfigured("; ".join(trouble.message for trouble in wrong), hint=" ".join(hints))


def troubles_of_rules(registry: Registry, rulebook: RuleBook) -> Iterator[Misconfigured]:
    """What is wrong with the packages of [[routing.rules]], one error after the other."""
    for rule in rulebook.rules:
        try:
            registry.get(rule.package)
        except Misconfigured as error:
            way_out = "Correct the rule's package, or install it first: `collimator models add DIR`."
            yield Misconfigured(
                f"routing.rules, {rule.name!r}: {error.message}", hint=f"{error.hint} {way_out}".strip()
            )
