"""Who may send: AE title, address and certificate must agree."""

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

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


@pytest.mark.parametrize(
    ("wanted", "subject", "is_met"),
    [
        (r"O=Smith\, Jones", r"CN=ct1,O=Smith\, Jones", True),
        (r"O=Smith\2C Jones", r"CN=ct1,O=Smith\, Jones", True),
        (r"O=Smith\+Jones", r"O=Smith\+Jones", True),
        (r"O=Smith", r"O=Smith\+Jones", False),
        ("O=Müller", r"O=M\C3\BCller", True),
        (r"O=M\C3\BCller", "O=Müller", True),
        ("O=St.   Mary", "O=St. Mary", True),
        ("O=St. Mary", "O=St.  Mary", True),
        ("O = St. Mary ", "O=St. Mary", True),
        (r"O=\ St. Mary\ ", "O=St. Mary", True),
        ("O=StMary", "O=St. Mary", False),
        (r"CN=\#1", r"CN=\#1", True),
        (r"CN=a\\,O=b", r"CN=a\\,O=b", True),
        (r"O=b", r"CN=a\\,O=b", True),
        (r"O=b", r"CN=a\,O=b", False),
        ("CN=ct1+O=St. Mary", "CN=ct1,O=St. Mary", True),
        ("CN=ct1", "CN=ct1+O=St. Mary", True),
        ("CN=a=b", "CN=a=b", True),
        ("OU=a,OU=b", "OU=b,OU=a,O=c", True),
        ("OU=a,OU=b", "OU=a,O=c", False),
        ("2.5.4.12=chief", "2.5.4.12=chief,CN=x", True),
        ("emailAddress=ct1@st-mary.example", "emailAddress=ct1@st-mary.example", True),
    ],
)
def test_subjects_are_compared_as_rfc_4514_and_4518_say(wanted: str, subject: str, is_met: bool) -> None:
    callers = Callers([clinic("a", Caller(ae_title="CT1", certificate_subject=wanted))])
    assert clinic_of(callers, "CT1", "10.1.2.3", subject) == ("a" if is_met else None)


# Anything that a certificate can hold; without a NUL, which no name has, and not only of spaces.
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: bool(text.split())
)


@given(name=VALUES, other=VALUES)
def test_whatever_is_in_a_name_it_is_met_by_itself_and_by_no_part_of_another(name: str, other: str) -> None:
    callers = Callers([clinic("a", Caller(ae_title="CT1", certificate_subject=written(CN=name)))])
    assert clinic_of(callers, "CT1", "10.1.2.3", written(CN=name, O=other)) == "a"
    inside = written(CN="x", O=f"{other},CN={name}")
    assert clinic_of(callers, "CT1", "10.1.2.3", inside) == ("a" if name.split() == ["x"] else None)


def written(**attributes: str) -> str:
    """As cryptography writes a subject."""
    names = {"CN": NameOID.COMMON_NAME, "O": NameOID.ORGANIZATION_NAME}
    return x509.Name([x509.NameAttribute(names[name], text) for name, text in attributes.items()]).rfc4514_string()


@pytest.mark.parametrize(
    "wrong",
    [
        "ct1",
        " ",
        ",",
        "CN=",
        "CN= ",
        "=ct1",
        "CN=ct1,",
        "CN=ct1,,O=a",
        "CN=ct1,St. Mary",
        "/CN=ct1/O=a",
        "CN=ct1;O=a",
        'O="Smith, Jones"',
        "CN=ct1\\",
        "CN=ct\\1",
        "common name=ct1",
    ],
)
def test_a_subject_that_is_none_is_refused_with_its_key(wrong: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        Callers([clinic("a", Caller(ae_title="CT1", certificate_subject=wrong))])
    assert caught.value.message == (f"clinics.callers.certificate_subject: {wrong!r} is not written as RFC 4514 does")
    assert "CN=ct1,O=St. Mary" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "address", "is_met"),
    [
        ("10.1.0.0/16", "::ffff:10.1.2.3", True),
        ("::ffff:10.1.0.0/112", "10.1.2.3", True),
        ("::ffff:10.1.0.0/112", "::ffff:10.1.2.3", True),
        ("::ffff:10.1.0.0/112", "10.2.2.3", False),
        ("::ffff:10.1.2.3", "10.1.2.3", True),
        ("::ffff:0:0/96", "192.0.2.1", True),
        ("0.0.0.0/0", "192.0.2.1", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("::/0", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db8:1::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("10.1.2.3/16", "10.1.9.9", True),  # an address with the length of its network
        ("localhost", "127.0.0.1", True),
        ("localhost", "127.0.0.2", False),
    ],
)
def test_a_host_is_an_address_a_network_or_a_name(host: str, address: str, is_met: bool) -> None:
    callers = Callers([clinic("a", Caller(ae_title="CT1", host=host))])
    assert clinic_of(callers, "CT1", address) == ("a" if is_met else None)


def test_two_modalities_with_one_title_and_address_are_told_apart_by_their_certificates() -> None:
    callers = Callers(
        [
            clinic("a", Caller(ae_title="CT", host="10.1.2.3", certificate_subject="CN=ct1")),
            clinic("b", Caller(ae_title="CT", host="10.1.2.3", certificate_subject="CN=ct2,O=b")),
        ]
    )
    assert clinic_of(callers, "CT", "10.1.2.3", "CN=ct1,O=b") == "a"
    assert clinic_of(callers, "CT", "10.1.2.3", "CN=ct2,O=b") == "b"
    assert clinic_of(callers, "CT", "10.1.2.3") is None


@pytest.mark.parametrize(
    ("one", "other", "subject"),
    [
        (Caller(ae_title="CT1", host="127.0.0.1"), Caller(ae_title="CT1", host="localhost"), None),
        (Caller(ae_title="CT1", host="127.0.0.1"), Caller(ae_title="CT1", host="::ffff:127.0.0.1/128"), None),
        (
            Caller(ae_title="CT1", certificate_subject="CN=a"),
            Caller(ae_title="CT1", certificate_subject="O=b"),
            "CN=a,O=b",
        ),
    ],
    ids=["address and name", "two spellings", "two attributes of one certificate"],
)
def test_a_peer_that_could_be_two_clinics_caller_is_neither(one: Caller, other: Caller, subject: str | None) -> None:
    callers = Callers([clinic("a", one), clinic("b", other)])
    with capture_logs() as logs:
        assert clinic_of(callers, "CT1", "127.0.0.1", subject) is None
    assert [(one["event"], one["clinic"]) for one in logs] == [("caller_ambiguous", "a, b")]
    assert clinic_of(Callers([clinic("a", one, other)]), "CT1", "127.0.0.1", subject) == "a"


def test_unknown_callers_are_taken_for_no_clinic_where_they_are_quarantined() -> None:
    callers = Callers([clinic("a", Caller(ae_title="CT1"))], takes_unknown=True)
    assert clinic_of(callers, "NOBODY", "10.1.2.3") == ""
    assert clinic_of(callers, "CT1", "10.1.2.3") == "a"


@pytest.mark.parametrize("host", ["no such host.invalid", "10.1.2.3/33", "x" * 64 + ".invalid"])
def test_a_host_name_that_is_none_is_named_with_its_key(host: str) -> None:
    with pytest.raises(Misconfigured, match=r"clinics\.callers\.host"):
        Callers([clinic("a", Caller(ae_title="CT1", host=host))])
