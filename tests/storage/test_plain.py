"""What a job remembers as JSON comes back as what it was."""

import json

import pytest

from domain.findings import Analysis
from domain.routing import Decision, decide
from domain.study import InstanceFacts
from storage.plain import from_plain, to_plain
from tests.domain.test_routing import SHIPPED, image, study
from tests.portal_api.rows import ANALYSIS

DECISION = decide(study(image(body_part_examined="CHEST", study_description="Tórax 胸部"), image()), SHIPPED)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Decision, DECISION), (Analysis, ANALYSIS), (InstanceFacts, image(patient_age_years=None))],
    ids=["decision", "analysis", "facts"],
)
def test_a_value_comes_back_from_json_as_it_was(kind: type[object], value: object) -> None:
    assert from_plain(kind, json.loads(json.dumps(to_plain(value)))) == value


def test_a_type_that_is_not_a_class_can_be_named() -> None:
    plain = to_plain((ANALYSIS, ANALYSIS), tuple[Analysis, ...])
    assert from_plain(tuple[Analysis, ...], plain) == (ANALYSIS, ANALYSIS)
