"""Who may send: AE title, address and certificate must agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.clinics import Caller, Clinic
from domain.errors import Misconfigured
from domain.plans import Tier
from scp.callers import Callers

SUBJECT = "CN=ct1,OU=Radiology,O=St. Mary"


def clinic(name: str, *callers: Caller) -> Clinic:
    return Clinic(name=name, tier=Tier.BASIC, sends_notes=False, callers=callers, destinations=())


def clinic_of(callers: Callers, title: str, address: str, subject: str | None = None) -> str | None:
    known = callers.caller_of(calling_ae_title=title, peer_address=address, certificate_subject=subject)
    return None if known is None else known.clinic


@given(
    title=st.sampled_from(["CT1", "CT2"]),
    address=st.sampled_from(["10.1.2.3", "10.9.2.3", "::ffff:10.1.2.3"]),
    subject=st.sampled_from([None, "", SUBJECT, "CN=ct2,O=St. Mary"]),
)
def test_all_that_is_configured_must_agree(title: str, address: str, subject: str | None) -> None:
    callers = Callers([clinic("a", Caller(ae_title="CT1", host="10.1.0.0/16", certificate_subject="CN=ct1"))])
    agrees = title == "CT1" and "10.1." in address and subject == SUBJECT
    assert clinic_of(callers, title, address, subject) == ("a" if agrees else None)


def test_the_caller_that_asks_for_more_goes_first() -> None:
    callers = Callers(
        [
            clinic("anywhere", Caller(ae_title="CT1")),
            clinic("network", Caller(ae_title="CT1", host="10.1.0.0/16")),
            clinic("address", Caller(ae_title="CT1", host="10.1.2.3")),
            clinic("certificate", Caller(ae_title="CT1", certificate_subject="CN=ct1")),
        ]
    )
    assert clinic_of(callers, "CT1", "10.1.2.3", SUBJECT) == "certificate"
    assert clinic_of(callers, "CT1", "10.1.2.3") == "address"
    assert clinic_of(callers, "CT1", "10.1.9.9") == "network"
    assert clinic_of(callers, "CT1", "192.0.2.1") == "anywhere"


@pytest.mark.parametrize(
    ("wanted", "is_met"),
    [
        ("CN=ct1", True),
        ("cn = ct1 , o=St. Mary", True),
        ("O=St. Mary,CN=ct1", True),
        ("CN=CT1", False),
        ("CN=ct1,O=Elsewhere", False),
        ("CN=ct", False),
    ],
)
def test_a_subject_is_met_by_every_attribute_that_is_asked_for(wanted: str, is_met: bool) -> None:
    callers = Callers([clinic("a", Caller(ae_title="CT1", certificate_subject=wanted))])
    assert clinic_of(callers, "CT1", "10.1.2.3", SUBJECT) == ("a" if is_met else None)


def test_a_comma_inside_a_name_does_not_begin_another_attribute() -> None:
    callers = Callers([clinic("a", Caller(ae_title="CT1", certificate_subject="CN=ct1,O=evil"))])
    assert clinic_of(callers, "CT1", "10.1.2.3", "CN=ct1\\,O=evil") is None


def test_unknown_callers_are_taken_for_no_clinic_where_they_are_quarantined() -> None:
    callers = Callers([clinic("a", Caller(ae_title="CT1"))], takes_unknown=True)
    assert clinic_of(callers, "NOBODY", "10.1.2.3") == ""
    assert clinic_of(callers, "CT1", "10.1.2.3") == "a"


def test_a_host_name_that_is_none_is_named_with_its_key() -> None:
    with pytest.raises(Misconfigured, match=r"clinics\.callers\.host"):
        Callers([clinic("a", Caller(ae_title="CT1", host="no such host.invalid"))])
