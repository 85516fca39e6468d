"""A wrong configuration names its key and what was expected; a right one is the file with the environment over it."""

from pathlib import Path

import pytest

from cli.__main__ import main
from config.settings import Settings, check, load
from domain.clinics import Caller, Clinic, Destination
from domain.completion import CompletionRules
from domain.errors import Misconfigured
from domain.plans import Tier

MERCY = '[[clinics]]\nname = "mercy"\ntier = "basic"\n'
CLINIC = '[[clinics]]\nname = "st-mary"\ntier = "basic"\n'
PACS = '[[clinics.destinations]]\nname = "pacs"\nae_title = "P"\nhost = "h"\nport = 4\n'
CALLER = '[[clinics.callers]]\nae_title = "CT"\n'
TLS_FILES = 'tls_certificate_file = "node.pem"\ntls_key_file = "node.key"\ntls_ca_file = "authorities.pem"'

WRONG = [
    ("[receiver]\nport = 99999", ["receiver.port", "less than or equal to 65535", "99999"]),
    ('[receiver]\nport = "dicom"', ["receiver.port", "valid integer", "'dicom'"]),
    ("[receiver]\nprot = 104", ["receiver.prot", "there is no such key"]),
    ("[reciever]\nport = 104", ["reciever", "there is no such key"]),
    ('[inference]\ndevices = ["gpu0"]', ["inference.devices.0", 'a device is "cuda:0"', "'gpu0'"]),
    ('[inference]\ndevices = ["cuda:0", "cuda:0"]', ["inference: devices names one more than once: cuda:0, cuda:0"]),
    ("[completion]\nquiet_s = -1", ["completion.quiet_s", "greater than or equal to 0", "-1"]),
    ("[worker]\nconcurrency = 0", ["worker.concurrency", "greater than or equal to 1"]),
    ('[receiver]\nunknown_callers = "accept"', ["receiver.unknown_callers", "'reject'", "'accept'"]),
    ("[receiver]\ntls_port = 2762", ["receiver: tls_port is 2762", "tls_key_file and tls_ca_file"]),
    (
        "[receiver]\nport = 2762\ntls_port = 2762\n" + TLS_FILES,
        ["receiver: port and tls_port are both 2762; each needs its own (PS3.15 B.12)"],
    ),
    (
        '[receiver]\npath = "stock"\ntls_port = 2762\n' + TLS_FILES,
        ['receiver: path "stock" has no TLS'],
    ),
    (
        "[receiver]\n" + TLS_FILES,
        ["receiver: tls_port is 0, so tls_certificate_file and tls_key_file and tls_ca_file would"],
    ),
    (
        CLINIC + PACS + "tls = true",
        [
            "clinics.destinations: st-mary.pacs has tls, so the node shows its certificate there, and "
            "receiver.tls_certificate_file and receiver.tls_key_file and receiver.tls_ca_file must name a PEM file"
        ],
    ),
    (
        CLINIC + PACS + 'tls_name = "pacs.example"',
        ["clinics.0.destinations.0: tls is false, so tls_name would be for nothing"],
    ),
    (
        CLINIC + CALLER + "commitment_port = 11113\ncommitment_tls = true",
        ["clinics.callers: st-mary.CT has commitment_tls, so the node shows its certificate there, and "],
    ),
    (
        CLINIC + CALLER + "commitment_tls = true",
        ["clinics.0.callers.0: commitment_port is 0, so commitment_tls would be for nothing"],
    ),
    (
        CLINIC + CALLER + 'commitment_port = 11113\ncommitment_tls_name = "ct.example"',
        ["clinics.0.callers.0: commitment_tls is false, so commitment_tls_name would be for nothing"],
    ),
    ("[receiver]\nport = true", ["receiver: port is true, and must be a number"]),
    ('[receiver]\nhost = ""', ["receiver.host", "at least 1 character"]),
    ("[receiver]\nartim_s = 0.05", ["receiver.artim_s", "greater than or equal to 0.1"]),
    ("[receiver]\nartim_s = nan", ["receiver.artim_s", "finite number"]),
    ("[receiver]\nminimum_free_gb = inf", ["receiver.minimum_free_gb", "finite number"]),
    ("[receiver]\nminimum_free_gb = nan", ["receiver.minimum_free_gb", "finite number"]),
    ("[receiver]\nminimum_free_percent = 100", ["receiver.minimum_free_percent", "less than 100"]),
    (
        CLINIC + CALLER + 'certificate_subject = "CN=ct1"',
        [
            "clinics.callers: CT must show a certificate, and receiver.tls_port is 0: set it",
            "leave certificate_subject out",
        ],
    ),
    (
        CLINIC + CALLER + 'certificate_subject = "ct1"',
        ["clinics.0.callers.0.certificate_subject: names and values as RFC 4514 writes them", "'ct1'"],
    ),
    (CLINIC + CALLER + 'host = "10.1.2.300"', ["clinics.0.callers.0.host: an IP address, a network", "'10.1.2.300'"]),
    (CLINIC + CALLER + 'host = "10.1.2.3, 10.1.2.4"', ["clinics.0.callers.0.host", "a host name is expected"]),
    ('[node]\nae_title = "A\\\\B"', ["node.ae_title", "1 to 16 ASCII characters, without a backslash", "'A\\\\B'"]),
    ('[node]\nae_title = "SEVENTEEN_LETTERS"', ["node.ae_title", "1 to 16 ASCII characters", "'SEVENTEEN_LETTERS'"]),
    ('[node]\nae_title = "   "', ["node.ae_title", "1 to 16 ASCII characters"]),
    ('[node]\nae_title = "RÖNTGEN"', ["node.ae_title", "1 to 16 ASCII characters", "'RÖNTGEN'"]),
    ('[node]\nae_title = "TWO\\nLINES"', ["node.ae_title", "1 to 16 ASCII characters"]),
    ('[storage]\nacknowledge = "shared"', ['acknowledge is "shared", so shared_url must name the store']),
    (
        '[storage]\nshared_url = "s3://bucket"\nencryption_key_file = "key"',
        ["encryption_key_file and shared_url do not go together", "let the bucket or the file system encrypt"],
    ),
    ("node = 7", ["node", "dictionary", "7"]),
    ('[[clinics]]\nname = "st-mary"\ntier = "gold"', ["clinics.0.tier", "'basic'", "'professional'", "'gold'"]),
    ('[[clinics]]\nname = "st-mary"', ["clinics.0.tier", "required"]),
    ('[[clinics]]\nname = "St. Mary"\ntier = "basic"', ["clinics.0.name", "letters, digits, dots", "'St. Mary'"]),
    ('[[clinics]]\nname = "../x"\ntier = "basic"', ["clinics.0.name", "letters, digits, dots"]),
    (CLINIC + CLINIC, ["clinics: name st-mary appears more than once; each must be unique"]),
    (
        CLINIC + '[[clinics.callers]]\nae_title = "CT"\n[[clinics.callers]]\nae_title = "CT"',
        ["clinics.callers", "CT at", "appears more than once"],
    ),
    (
        CLINIC + 2 * '[[clinics.callers]]\nae_title = "CT"\nhost = "10.1.2.3"\ncertificate_subject = "CN=ct1"\n',
        ["clinics.callers: ae_title, host and certificate_subject CT at 10.1.2.3 as CN=ct1 appears more than once"],
    ),
    (
        CLINIC + '[[clinics.destinations]]\nname = "pacs"\nae_title = "P"\nhost = "h"\nport = 0',
        ["clinics.0.destinations.0.port", "greater than or equal to 1"],
    ),
    (
        CLINIC + '[[clinics.destinations]]\nname = "pacs"\nae_title = "P"\nhost = "h"\nport = 4\nprofile = "all"',
        ["clinics.0.destinations.0.profile", "'standard'", "'all'"],
    ),
    (
        CLINIC + PACS + 'extras = ["kos", "fax"]',
        ["clinics.0.destinations.0.extras.1", "'kos', 'gsps', 'seg' or 'pdf'", "'fax'"],
    ),
    (
        CLINIC + PACS + 'profile = "text"\nextras = ["kos"]',
        ['extras has "kos", which names the overlays, and profile "text" sends none: choose another profile'],
    ),
    (
        CLINIC + 2 * '[[clinics.destinations]]\nname = "pacs"\nae_title = "P"\nhost = "h"\nport = 4\n',
        ["clinics.st-mary.destinations", "pacs appears more than once"],
    ),
    (
        CLINIC + '[[clinics.models]]\npackage = "chest"\ncanary = "2"\ncanary_share = 1.1',
        ["clinics.0.models.0.canary_share", "less than or equal to 1", "1.1"],
    ),
    (
        CLINIC + '[[clinics.models]]\npackage = "chest"\ncanary = "2"',
        ["clinics.0.models.0: canary is '2', so canary_share must say for which share of the studies"],
    ),
    (
        CLINIC + '[[clinics.models]]\npackage = "chest"\ncanary_share = 0.1',
        ["clinics.0.models.0: canary_share is 0.1, so canary must name a version"],
    ),
    (
        CLINIC + '[[clinics.models]]\npackage = "chest"\nactive = "2"\ncanary = "2"\ncanary_share = 0.1',
        ["clinics.0.models.0: active and canary are both '2'"],
    ),
    (
        CLINIC + 2 * '[[clinics.models]]\npackage = "chest"\n',
        ["clinics.st-mary.models: package chest appears more than once"],
    ),
    (
        '[[routing.rules]]\nname = "r"\npackage = "chest"\nage_min_years = "old"',
        ["routing.rules.0.age_min_years", "valid number", "'old'"],
    ),
]


def written(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[text.splitlines()[-1] for text, _ in WRONG])
def test_a_wrong_configuration_names_its_key_and_what_was_expected(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(written(tmp_path, text), environment={})
    for words in (str(tmp_path / "node.toml"), *said):
        assert words in caught.value.message


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(written(tmp_path, "[receiver]\nport = -1\n[portal]\nport = -2"), environment={})
    assert "receiver.port" in caught.value.message
    assert "portal.port" in caught.value.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"port = ", "is not TOML"),
        (b"[node\n", "is not TOML"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_file_that_is_not_toml_is_said_to_be_so(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=said):
        load(path, environment={})


def test_a_missing_file_is_named_with_what_to_do() -> None:
    with pytest.raises(Misconfigured, match=r"there is no configuration file /nowhere/node\.toml") as caught:
        load(Path("/nowhere/node.toml"), environment={})
    assert "copy collimator.example.toml" in caught.value.hint


def test_a_folder_is_not_a_configuration_file(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        load(tmp_path, environment={})


@pytest.mark.parametrize(
    "text",
    ["[receiver]\nport = 99999", "[receiver]\nprot = 104", "port =", None],
    ids=["wrong value", "unknown key", "not TOML", "no file"],
)
@pytest.mark.parametrize("verb", ["serve", "receiver", "worker", "portal", "studies", "migrate", "doctor"])
def test_a_wrong_configuration_is_one_line_on_stderr_and_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, text: str | None
) -> None:
    path = tmp_path / "node.toml" if text is None else written(tmp_path, text)
    assert main([verb, "--config", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("collimator: ")
    assert str(path) in err


def test_the_environment_goes_over_the_file_and_makes_sections_that_are_not_there(tmp_path: Path) -> None:
    settings = load(
        written(tmp_path, '[receiver]\nport = 104\nhost = "0.0.0.0"'),
        environment={
            "COLLIMATOR_RECEIVER__PORT": "11113",
            "COLLIMATOR_COMPLETION__QUIET_S": "7.5",
            "COLLIMATOR_TEST_DATA": "/somewhere",
            "PATH": "/bin",
            "OTHER__PORT": "1",
        },
    )
    assert (settings.receiver.port, settings.receiver.host) == (11113, "0.0.0.0")
    assert settings.completion.quiet_s == 7.5


def test_lists_and_tables_of_a_section_are_written_in_the_environment_as_in_toml(tmp_path: Path) -> None:
    settings = load(
        written(tmp_path, '[inference]\ndevices = ["cuda:1"]'),
        environment={
            "COLLIMATOR_INFERENCE__DEVICES": '["cuda:0", "cpu"]',
            "COLLIMATOR_STAT__DESCRIPTIONS": "['[A-Z]+ STAT']",
            "COLLIMATOR_ROUTING__RULES": '[{ name = "all", package = "chest" }]',
            "COLLIMATOR_ROUTING__TERMS": '{ BRUSTKORB = "chest" }',
            "COLLIMATOR_BILLING__NAME": "[Radiology] GmbH",
        },
    )
    assert settings.inference.devices == ("cuda:0", "cpu")
    assert settings.stat.descriptions == ("[A-Z]+ STAT",)
    assert [rule.name for rule in settings.routing.rules] == ["all"]
    assert settings.routing.terms == {"BRUSTKORB": "chest"}
    assert settings.billing.name == "[Radiology] GmbH"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("COLLIMATOR_RECEIVER__PORT", "many", "receiver.port: Input should be a valid integer"),
        ("COLLIMATOR_RECEIVER__PROT", "104", "receiver.prot: there is no such key"),
        ("COLLIMATOR_INFERENCE__DEVICES", "cuda:0", "inference.devices: Input should be a valid tuple"),
        ("COLLIMATOR_CLINICS__NAME", "mercy", "COLLIMATOR_CLINICS__NAME: [clinics] is a list"),
    ],
)
def test_a_wrong_variable_is_named_like_a_wrong_key(tmp_path: Path, variable: str, value: str, said: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(written(tmp_path, CLINIC), environment={variable: value})
    assert said in caught.value.message


def test_without_a_database_url_the_database_is_sqlite_in_the_data_folder() -> None:
    settings = check({"node": {"data_dir": "/srv/collimator"}}, origin="test")
    assert settings.database_url == "sqlite:////srv/collimator/collimator.db"


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "database_url"
    secret.write_text("postgresql://node:geheim@db/collimator\n", encoding="utf-8")
    settings = check({"node": {"database_url_file": str(secret)}}, origin="test")
    assert settings.database_url == "postgresql://node:geheim@db/collimator"
    assert "geheim" not in repr(settings)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"], ids=["missing", "not text"])
def test_a_secret_that_cannot_be_read_names_its_key(tmp_path: Path, content: bytes | None) -> None:
    secret = tmp_path / "database_url"
    if content is not None:
        secret.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"node\.database_url_file cannot be read"):
        _ = check({"node": {"database_url_file": str(secret)}}, origin="test").database_url


def test_the_defaults_are_those_of_a_node_on_one_machine() -> None:
    settings = Settings()
    assert (settings.node.ae_title, settings.receiver.host, settings.receiver.port) == (
        "COLLIMATOR",
        "127.0.0.1",
        11112,
    )
    assert (settings.portal.host, settings.portal.port) == ("127.0.0.1", 8080)
    rules = settings.completion_rules
    assert (rules.after_release_s, rules.quiet_s, rules.max_age_s) == (2.0, 30.0, 5400.0)
    assert settings.clinic_directory == ()


def test_a_caller_may_have_completion_times_of_its_own() -> None:
    callers = [{"ae_title": "CT1"}, {"ae_title": "US1", "completion": {"after_release_s": 60.0}}]
    clinic = {"name": "st-mary", "tier": "basic", "callers": callers}
    rules = check({"clinics": [clinic], "completion": {"quiet_s": 90.0}}, origin="test").completion_rules
    assert rules.of("st-mary", "CT1") is rules
    assert rules.of("mercy", "US1") is rules
    assert rules.of("st-mary", "US1") == CompletionRules(after_release_s=60.0, quiet_s=90.0, max_age_s=5400.0)


def test_one_ae_title_cannot_have_two_completions() -> None:
    callers = [
        {"ae_title": "US1", "host": "10.0.0.1", "completion": {"quiet_s": 1.0}},
        {"ae_title": "US1", "host": "10.0.0.2"},
    ]
    clinic = {"name": "st-mary", "tier": "basic", "callers": callers}
    with pytest.raises(Misconfigured, match=r"clinics\.st-mary\.callers: US1 is there more than once"):
        check({"clinics": [clinic]}, origin="test")


def test_clinics_become_what_the_domain_calls_them(tmp_path: Path) -> None:
    text = (
        '[[clinics]]\nname = "st-mary"\ntier = "professional"\nnotes = false\n'
        '[[clinics.callers]]\nae_title = " CT 1 "\nhost = "10.0.0.0/8"\n'
        '[[clinics.destinations]]\nname = "pacs"\nae_title = "ORTHANC"\nhost = "pacs.local"\nport = 4242\n'
    )
    assert load(written(tmp_path, text), environment={}).clinic_directory == (
        Clinic(
            name="st-mary",
            tier=Tier.PROFESSIONAL,
            sends_notes=False,
            callers=(Caller(ae_title="CT 1", host="10.0.0.0/8"),),
            destinations=(
                Destination(name="pacs", ae_title="ORTHANC", host="pacs.local", port=4242, profile="standard"),
            ),
        ),
    )


def test_callers_that_differ_in_their_certificate_only_are_two(tmp_path: Path) -> None:
    caller = '[[clinics.callers]]\nae_title = "CT"\nhost = "10.1.2.3"\n'
    text = f"[receiver]\ntls_port = 2762\n{TLS_FILES}\n" + CLINIC
    text += caller + caller + 'certificate_subject = "CN=ct1"\n' + caller + 'certificate_subject = "CN=ct2"\n'
    (clinic,) = load(written(tmp_path, text), environment={}).clinic_directory
    assert [caller.certificate_subject for caller in clinic.callers] == ["", "CN=ct1", "CN=ct2"]


@pytest.mark.parametrize(
    ("one", "other", "are_two"),
    [
        ('host = "127.0.0.1"', 'host = "127.0.0.1/32"', False),
        ('host = "10.1.0.0/16"', 'host = "10.1.2.3/16"', False),
        ('host = "10.1.2.3"', 'host = "::ffff:10.1.2.3"', False),
        ('host = "10.1.2.3"', 'host = "10.1.2.4"', True),
        ('host = "10.1.0.0/16"', 'host = "10.1.2.3"', True),
        ('host = "10.1.0.0/16"', 'host = "10.2.0.0/16"', True),
        ('host = "10.1.2.3"', "", True),
        ('host = "0.0.0.0/0"', 'host = "2001:db8::1"', True),
        ('host = "CT1.example"', 'host = "ct1.example."', False),
        ('host = "ct1.example"', 'host = "ct2.example"', True),
        ('certificate_subject = "CN=a,O=b"', 'certificate_subject = "O=b, cn=a"', False),
        ('certificate_subject = "CN=a,O=b"', 'certificate_subject = "CN=a"', True),
        ('certificate_subject = "CN=a"', 'certificate_subject = "O=b"', True),
        ('certificate_subject = "CN=a"', "", True),
        ('certificate_subject = "CN=a,O=c"', 'certificate_subject = "CN=b,O=c"', True),
        ('host = "10.1.2.3"\ncertificate_subject = "CN=a"', 'host = "10.1.2.3"\ncertificate_subject = "CN=b"', True),
    ],
)
def test_two_clinics_cannot_have_the_same_caller_however_it_is_written(
    tmp_path: Path, one: str, other: str, are_two: bool
) -> None:
    tls = f"[receiver]\ntls_port = 2762\n{TLS_FILES}\n"
    path = written(tmp_path, f"{tls}{CLINIC}{CALLER}{one}\n{MERCY}{CALLER}{other}\n")
    if are_two:
        assert len(load(path, environment={}).clinics) == 2
    else:
        with pytest.raises(
            Misconfigured,
            match=r"CT at .* appears more than once",
        ):
            load(path, environment={})


def test_one_clinic_may_have_a_caller_in_a_network_of_another_of_its_own(tmp_path: Path) -> None:
    text = f'{CLINIC}{CALLER}host = "10.1.0.0/16"\n{CALLER}host = "10.1.2.3"\nstat = true\n'
    assert len(load(written(tmp_path, text), environment={}).clinics[0].callers) == 2
    with pytest.raises(Misconfigured, match=r"CT at 10\.1\.2\.3 appears more than once"):
        load(written(tmp_path, f'{text}{CALLER}host = "::ffff:10.1.2.3"\n'), environment={})


def test_rules_of_ones_own_replace_the_shipped_ones_and_words_are_added_to_them() -> None:
    own = {
        "rules": [{"name": "all", "package": "chest"}],
        "words": {"ГРУДНОЙ": "chest", "Poumons": "chest", "CHEST": "bone"},
        "terms": {"brust korb": "chest"},
    }
    rulebook = check({"routing": own}, origin="test").rulebook
    assert [rule.name for rule in rulebook.rules] == ["all"]
    assert rulebook.words["POUMONS"] == "chest"
    assert rulebook.words["ГРУДНОИ"] == "chest"
    assert rulebook.words["CHEST"] == "bone"
    assert rulebook.words["HAND"] == "bone"
    assert rulebook.terms["BRUSTKORB"] == "chest"


def test_a_view_that_a_rule_asks_for_is_one_that_can_be_seen(tmp_path: Path) -> None:
    rule = '[[routing.rules]]\nname = "laterals"\npackage = "chest"\nviews = ["left lateral", "{}"]\n'
    assert load(written(tmp_path, rule.format("PA")), environment={}).rulebook.rules[0].views == ("LL", "PA")
    with pytest.raises(Misconfigured, match=r"routing\.rules\.0\.views\.1: a term of View Position is expected"):
        load(written(tmp_path, rule.format("SIDEWAYS")), environment={})


@pytest.mark.parametrize(
    ("written_as", "looked_up_as"),
    [
        ("51185009", "51185009"),
        ("SCT:51185009", "51185009"),
        ("srt : T-D3001", "T-D3001"),
        ("99acme:CXR2", "99ACME:CXR2"),
        ("1.2.3:99ACME:CXR2", "1.2.3:99ACME:CXR2"),
    ],
)
def test_a_code_is_found_however_its_scheme_is_written(written_as: str, looked_up_as: str) -> None:
    assert check({"routing": {"codes": {written_as: "chest"}}}, origin="test").rulebook.codes[looked_up_as] == "chest"


def test_a_modality_that_tells_the_body_part_is_read_in_any_case() -> None:
    assert check({"routing": {"modalities": {"io ": "jaw"}}}, origin="test").rulebook.modalities["IO"] == "jaw"


def test_a_rule_about_a_body_part_that_nothing_names_is_refused(tmp_path: Path) -> None:
    rule = '[[routing.rules]]\nname = "all lungs"\npackage = "chest"\nbody_parts = ["CHEST"]\n'
    with pytest.raises(Misconfigured, match="'all lungs': no term, code, word or modality names the body part CHEST"):
        load(written(tmp_path, rule), environment={})
    own = rule.replace("CHEST", "lung") + '[routing.words]\nLUNGS = "lung"\n'
    assert load(written(tmp_path, own), environment={}).rulebook.rules[0].body_parts == ("lung",)


def test_a_rule_that_can_never_hold_is_refused_and_modalities_are_read_in_any_case(tmp_path: Path) -> None:
    rule = '[[routing.rules]]\nname = "adults"\npackage = "chest"\nmodalities = ["dx", " CR "]\n'
    assert load(written(tmp_path, rule), environment={}).rulebook.rules[0].modalities == ("DX", "CR")
    with pytest.raises(Misconfigured, match="nobody is at least 18 and at most 5 years old"):
        load(written(tmp_path, f"{rule}age_min_years = 18\nage_max_years = 5\n"), environment={})


def test_every_shipped_word_and_term_is_written_as_it_is_looked_up() -> None:
    from domain.terms import plain_term, plain_words

    rulebook = Settings().rulebook
    assert [word for word in rulebook.words if plain_words(word) != word or " " in word] == []
    assert [term for term in rulebook.terms if plain_term(term) != term] == []


def test_every_body_part_that_a_shipped_rule_wants_can_be_said() -> None:
    rulebook = Settings().rulebook
    wanted = {part for rule in rulebook.rules for part in rule.body_parts}
    assert wanted == {"chest", "bone", "dental", "spine"}
    for table in (rulebook.terms, rulebook.codes, rulebook.words):
        assert wanted <= set(table.values())
