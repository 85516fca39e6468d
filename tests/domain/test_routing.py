"""Where an image goes and why: the shipped rules with literal facts, one row a case."""

from dataclasses import replace

import pytest
from pydicom.sr.codedict import codes

from config.settings import check
from domain.findings import Code
from domain.routing import Decision, GateClause, ImageDecision, Rule, decide, explain
from domain.study import Instance, InstanceFacts, Study
from tests.factories.sources import COMPLETED_AT

SHIPPED = check({}, origin="the shipped rules").rulebook
HAND = Code(value="85562004", scheme="SCT", meaning="Hand")
PA = Code(value="272479007", scheme="SCT", meaning="postero-anterior")
OLD_CHEST = Code(value="T-D3000", scheme="SRT", meaning="Chest")


def image(**facts: object) -> InstanceFacts:
    return replace(InstanceFacts(modality="DX", patient_age_years=40.0, has_pixels=True), **facts)  # type: ignore[arg-type]


def study(*images: InstanceFacts, caller: str = "MODALITY1") -> Study:
    return Study(
        clinic="st-mary",
        study_instance_uid="1.2.3",
        generation=1,
        calling_ae_title=caller,
        completed_at=COMPLETED_AT,
        completion_reason="released",
        instances=tuple(
            Instance(
                sop_instance_uid=f"1.2.3.{number}",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
                series_instance_uid="1.2.3.100",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                path="",
                facts=facts,
            )
            for number, facts in enumerate(images, start=1)
        ),
    )


def decided(facts: InstanceFacts) -> ImageDecision:
    return decide(study(facts), SHIPPED).images[0]


@pytest.mark.parametrize(
    ("facts", "package"),
    [
        (image(body_part_examined="CHEST"), "chest"),
        (image(body_part_examined="CHEST", modality="CR"), "chest"),
        (image(body_part_examined="chest"), "chest"),
        (image(body_part_examined="THORAX"), "chest"),
        (image(body_part_examined="CHEST PA"), "chest"),
        (image(body_part_examined="LEFT HAND"), "bone_fracture"),
        (image(body_part_examined="CHEST", patient_age_years=3.0), "pediatric_chest"),
        (image(body_part_examined="HAND"), "bone_fracture"),
        (image(body_part_examined="LOWER LEG"), "bone_fracture"),
        (image(body_part_examined="TIBIA/FIBULA"), "bone_fracture"),
        (image(body_part_examined="HAND", patient_age_years=None), "bone_fracture"),
        (image(body_part_examined="HANDS"), "bone_fracture"),
        (image(body_part_examined="FEET"), "bone_fracture"),
        (image(study_description="Knie bds."), "bone_fracture"),
        (image(study_description="Röntgen Fuß links"), "bone_fracture"),
        (image(study_description="both knees"), "bone_fracture"),
        (image(body_part_examined="JAW"), "dental"),
        (image(modality="PX"), "dental"),
        (image(modality="IO"), "dental"),
        # The teeth are in the head: a panoramic film of a HEAD is no other film.
        (image(modality="PX", body_part_examined="HEAD"), "dental"),
        (image(modality="PX", body_part_examined="SKULL", study_description="Schädel"), "dental"),
        (image(modality="PX", anatomic_regions=(Code(value="69536005", scheme="SCT", meaning="Head"),)), "dental"),
        (image(modality="IO", body_part_examined="MOUTH"), "dental"),
        (image(body_part_examined="Brustkorb"), "chest"),  # no defined term, but a word that is known
        (image(body_part_examined="TORAX"), "chest"),
        (image(body_part_examined=r"HAND\WRIST"), "bone_fracture"),
        (image(body_part_examined="CSPINE"), "spine"),
        (image(body_part_examined="LSPINE", modality="CR"), "spine"),
        (image(anatomic_regions=(HAND,)), "bone_fracture"),
        (image(anatomic_regions=(OLD_CHEST,)), "chest"),
        (image(procedure_codes=(Code(value="X", scheme="99LOCAL", meaning="Chest PA"),)), "chest"),
        (image(anatomic_regions=(replace(OLD_CHEST, scheme="SNM3"),)), "chest"),
        # A value of another scheme is another code, and a code that nobody knows has the words of its meaning.
        (image(anatomic_regions=(Code(value="T-D3000", scheme="99ACME", meaning="Left knee"),)), "bone_fracture"),
        (image(anatomic_regions=(Code(value="39607008", scheme="SCT", meaning="Lung"),)), "chest"),
        (image(procedure_codes=(Code(value="51185008", scheme="SCT", meaning="Brustkorb"),)), "chest"),
        (image(study_description="Chest PA and lateral"), "chest"),
        (image(series_description="THORAX"), "chest"),
        (image(protocol_name="Wrist AP"), "bone_fracture"),
        (image(study_description="Tórax póstero-anterior"), "chest"),
        (image(study_description="Röntgen Lunge p.a."), "chest"),
        (image(study_description="胸部正面 CHEST"), "chest"),
        (image(study_description="ＣＨＥＳＴ　ＰＡ"), "chest"),
        (image(study_description="HAND_LEFT"), "bone_fracture"),
        (image(study_description="Radiographie de la main gauche"), "bone_fracture"),
        (image(study_description="Lendenwirbelsäule in 2 Ebenen"), "spine"),
        (image(study_description="Herz/Lunge"), "chest"),
    ],
)
def test_each_shipped_rule_takes_its_images(facts: InstanceFacts, package: str) -> None:
    assert decided(facts).package == package


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (image(has_pixels=False, body_part_examined="CHEST"), "not an image"),
        (image(), "no attribute tells the body part"),
        (image(body_part_examined="FLUX CAPACITOR"), "no attribute tells the body part"),
        (image(study_description="胸部正面"), "no attribute tells the body part"),
        (image(study_description="CHESTNUT ALLERGY"), "no attribute tells the body part"),
        (
            image(body_part_examined="CHEST", study_description="Left hand AP"),
            "conflict about the body part: Body Part Examined (0018,0015) 'CHEST' says chest, "
            "Study Description (0008,1030) 'Left hand AP' says bone",
        ),
        (
            image(body_part_examined="CHEST", anatomic_regions=(HAND,)),
            "conflict about the body part: Body Part Examined (0018,0015) 'CHEST' says chest, "
            "Anatomic Region Sequence (0008,2218) 'Hand' says bone",
        ),
        (
            image(study_description="Chest and left hand"),
            "conflict about the body part: Study Description (0008,1030) 'Chest and left hand' says chest or bone",
        ),
        (
            image(modality="PX", body_part_examined="CHEST"),
            "conflict about the body part: Modality (0008,0060) 'PX' says dental, "
            "Body Part Examined (0018,0015) 'CHEST' says chest",
        ),
        (
            image(modality="MG"),
            "Modality (0008,0060) 'MG' says breast, and no rule takes it: no rule is about this body part",
        ),
        (
            image(body_part_examined="CHEST", modality="CT"),
            "Body Part Examined (0018,0015) 'CHEST' says chest, and no rule takes it: "
            "rule 'chest of an adult' wants Modality (0008,0060) CR or DX, and it is CT",
        ),
        (
            image(body_part_examined="CHEST", modality=""),
            "Body Part Examined (0018,0015) 'CHEST' says chest, and no rule takes it: "
            "rule 'chest of an adult' wants Modality (0008,0060) CR or DX, and it is absent",
        ),
        (
            image(body_part_examined="CHEST", patient_age_years=None),
            "Body Part Examined (0018,0015) 'CHEST' says chest, and no rule takes it: "
            "rule 'chest of a small child' wants Patient's Age (0010,1010) 1 to 5 years, and it is unknown",
        ),
        (
            image(body_part_examined="CHEST", patient_age_years=10.0),
            "Body Part Examined (0018,0015) 'CHEST' says chest, and no rule takes it: "
            "rule 'chest of a small child' wants Patient's Age (0010,1010) 1 to 5 years, and it is 10 years",
        ),
    ],
)
def test_an_image_that_goes_nowhere_says_why_in_one_sentence(facts: InstanceFacts, reason: str) -> None:
    decision = decided(facts)
    assert (decision.package, decision.reason) == (None, reason)


@pytest.mark.parametrize(
    "coded",
    [
        {"anatomic_regions": (Code(value="T-D3000", scheme="99ACME", meaning=""),)},
        {"anatomic_regions": (Code(value="43799004", scheme="", meaning=""),)},
        {"anatomic_regions": (Code(value="1", scheme="99ACME", meaning="flux capacitor"),)},
        {"procedure_codes": (Code(value="CXR2", scheme="99OTHER", meaning="2 views"),)},
    ],
)
def test_a_code_of_a_scheme_that_nobody_named_says_nothing(coded: dict[str, object]) -> None:
    assert decided(image(**coded)).reason == "no attribute tells the body part"


@pytest.mark.parametrize("attribute", ["anatomic_regions", "procedure_codes"])
def test_a_code_of_a_scheme_of_ones_own_is_named_with_the_scheme(attribute: str) -> None:
    rulebook = check({"routing": {"codes": {"99ACME:CXR2": "chest"}}}, origin="test").rulebook
    for scheme in ("99ACME", "99acme"):
        facts = image(**{attribute: (Code(value="CXR2", scheme=scheme, meaning="2 views"),)})
        assert decide(study(facts), rulebook).packages == ("chest",)


def test_an_age_that_two_attributes_contradict_is_told_as_such() -> None:
    facts = image(
        body_part_examined="CHEST", patient_age_years=None, age_conflict="5 years by the one and 74 by the other"
    )
    assert decided(facts).reason.endswith("1 to 5 years, and it is 5 years by the one and 74 by the other")


@pytest.mark.parametrize(
    ("age", "package"),
    [
        (0.0, None),
        (0.99, None),
        (1.0, "pediatric_chest"),
        (5.0, "pediatric_chest"),
        (5.9, "pediatric_chest"),
        (6.0, None),
        (17.99, None),
        (18.0, "chest"),
        (104.0, "chest"),
        (None, None),
    ],
)
def test_ages_are_completed_years_and_an_unknown_age_is_never_inside(age: float | None, package: str | None) -> None:
    assert decided(image(body_part_examined="CHEST", patient_age_years=age)).package == package


def test_an_age_that_differs_by_a_birthday_is_inside_only_where_both_are() -> None:
    facts = image(body_part_examined="CHEST", patient_age_years=18.0, other_age_years=17.0)
    assert decided(facts).package is None
    assert "Patient's Age (0010,1010) 1 to 5 years, and it is 18 years or 17 years" in decided(facts).reason
    assert decided(replace(facts, patient_age_years=19.0, other_age_years=18.0)).package == "chest"


def test_a_description_that_names_several_parts_agrees_with_the_coded_one_among_them() -> None:
    decision = decided(image(body_part_examined="CHEST", study_description="Chest and abdomen, lying"))
    assert decision.package == "chest"
    assert decision.reason == (
        "Body Part Examined (0018,0015) 'CHEST' says chest, so rule 'chest of an adult' sends it to chest"
    )


def test_the_reason_names_the_attribute_that_tells_the_one_body_part() -> None:
    facts = image(study_description="Chest and leg", series_description="Leg AP")
    assert decided(facts).reason.startswith("Series Description (0008,103E) 'Leg AP' says bone")


HAND_AND_CHEST = (
    Code(value="P1", scheme="99LOCAL", meaning="Chest PA"),
    Code(value="P2", scheme="99LOCAL", meaning="Hand, 2 views"),
)


@pytest.mark.parametrize(("term", "package"), [("CHEST", "chest"), ("HAND", "bone_fracture"), ("", None)])
def test_of_two_procedures_in_one_study_each_image_is_the_one_that_it_says(term: str, package: str | None) -> None:
    assert decided(image(body_part_examined=term, procedure_codes=HAND_AND_CHEST)).package == package


@pytest.mark.parametrize(
    "facts",
    [
        image(study_description="Chest and leg", series_description="Leg AP"),
        image(study_description="Thorax, Knie rechts", series_description="Knie rechts a.p."),
        image(study_description="Torace e ginocchio", series_description="Ginocchio"),
        image(study_description="Chest and hands", body_part_examined="HANDS"),
        image(study_description="Chest", series_description="Ribs"),
        image(body_part_examined=r"CHEST\ABDOMEN"),
        image(body_part_examined=r"CHEST\HAND", study_description="Chest"),
        image(modality="PX", body_part_examined=r"HEAD\CHEST"),
        image(study_description="Chest", body_part_examined="HWS"),
        image(study_description="Chest", body_part_examined="FACIAL BONES"),
        image(study_description="Chest", body_part_examined="SI JOINTS"),
        image(study_description="Thorax", series_description="Brustwirbelsäule seitlich"),
        image(study_description="Thorax", series_description="Kniegelenk links"),
        image(study_description="Thorax", series_description="Genoux de face"),
        image(study_description="Tórax", series_description="Húmero derecho"),
        image(study_description="Torace", series_description="Cranio"),
        image(study_description="Chest", series_description="KUB"),
        image(study_description="Chest", series_description="Facial bones"),
        image(study_description="Chest", series_description="Skeletal survey"),
        image(study_description="Chest", body_part_examined="RIBS"),
        image(study_description="Chest", body_part_examined="STERNUM"),
        image(study_description="Chest", body_part_examined="CHESTABDOMEN", patient_age_years=2.0),
        image(study_description="Chest", body_part_examined="NECKCHEST"),
        image(study_description="Chest", body_part_examined="PHANTOM"),
        image(study_description="BWS", body_part_examined="CHEST"),
        image(study_description="Chest", anatomic_regions=(Code(value="69695003", scheme="SCT", meaning="Stomach"),)),
        image(anatomic_regions=(Code(value="417437006", scheme="SCT", meaning="Neck and Chest"),)),
    ],
)
def test_a_body_part_without_a_model_is_known_and_not_taken_for_the_chest(facts: InstanceFacts) -> None:
    assert decided(facts).package in (None, "bone_fracture")


def test_a_film_of_the_head_is_one_of_the_teeth_only_where_its_modality_says_so() -> None:
    decision = decided(image(body_part_examined="SKULL", study_description="Orthopantomogramm"))
    assert (decision.package, decision.reason) == (
        None,
        "conflict about the body part: Body Part Examined (0018,0015) 'SKULL' says head, "
        "Study Description (0008,1030) 'Orthopantomogramm' says dental",
    )


@pytest.mark.parametrize("term", ["RIB", "STERNUM", "HEAD", "ABDOMEN", "CHESTABDOMEN", "PHANTOM"])
def test_what_no_model_is_meant_for_goes_nowhere(term: str) -> None:
    """The fracture model is for limbs, shoulder and pelvis: a rib is another bone."""
    assert decided(image(body_part_examined=term)).reason.endswith("no rule is about this body part")


def test_every_anatomic_region_of_cid_4009_is_known_by_its_code() -> None:
    regions = codes.cid4009.concepts.values()
    assert len(regions) > 100
    assert [region.meaning for region in regions if region.value not in SHIPPED.codes] == []


def test_a_word_that_nobody_knows_does_not_stand_against_one_that_is_known() -> None:
    decision = decided(image(body_part_examined="UNSPECIFIED", series_description="Knee left"))
    assert decision.package == "bone_fracture"
    assert [(signal.seen, signal.body_parts) for signal in decision.signals] == [
        ("UNSPECIFIED", ()),
        ("Knee left", ("bone",)),
    ]


@pytest.mark.parametrize(("caller", "package"), [("ICU", "chest"), ("ER", None), ("icu", None), ("", None)])
def test_a_rule_can_be_for_some_callers_only(caller: str, package: str | None) -> None:
    rule = Rule(name="from the ICU", package="chest", body_parts=("chest",), callers=("ICU",))
    facts = image(body_part_examined="CHEST")
    decision = decide(study(facts, caller=caller), replace(SHIPPED, rules=(rule,)))
    assert decision.images[0].package == package


LATERAL = Rule(name="laterals", package="lateral_chest", body_parts=("chest",), views=("LATERAL",))


@pytest.mark.parametrize(
    ("facts", "package"),
    [
        (image(body_part_examined="CHEST", view_position="LL"), "lateral_chest"),
        (image(body_part_examined="CHEST", series_description="Thorax seitlich"), "lateral_chest"),
        (image(body_part_examined="CHEST", view_position="PA"), "chest"),
        (image(body_part_examined="CHEST"), "chest"),
        (image(body_part_examined="CHEST", view_position="LL", view_codes=(PA,)), "chest"),  # which refuses a conflict
    ],
)
def test_a_rule_can_ask_for_a_view(facts: InstanceFacts, package: str) -> None:
    assert decide(study(facts), replace(SHIPPED, rules=(LATERAL, *SHIPPED.rules))).images[0].package == package


def test_a_rule_that_asks_for_a_view_says_what_it_saw() -> None:
    rulebook = replace(SHIPPED, rules=(LATERAL,))
    reasons = [
        decide(study(image(body_part_examined="CHEST", view_position=view)), rulebook).reason for view in ("PA", "")
    ]
    assert [reason.partition("rule 'laterals' wants ")[2] for reason in reasons] == [
        "view LATERAL, and it is PA",
        "view LATERAL, and it is absent",
    ]


def test_the_first_rule_that_holds_wins() -> None:
    rules = (Rule(name="all", package="first"), Rule(name="all again", package="second"))
    assert decide(study(image(body_part_examined="HAND")), replace(SHIPPED, rules=rules)).packages == ("first",)


def test_without_rules_nothing_goes_anywhere() -> None:
    decision = decide(study(image(body_part_examined="HAND")), replace(SHIPPED, rules=()))
    assert decision.packages == ()
    assert decision.reason.endswith("no rule takes it: there are no rules")


def test_images_of_one_study_may_go_to_several_packages_in_the_order_of_the_images() -> None:
    chest, hand = image(body_part_examined="CHEST"), image(body_part_examined="HAND")
    assert decide(study(hand, chest, hand), SHIPPED).packages == ("bone_fracture", "chest")


def test_the_reason_of_a_study_leaves_out_the_images_that_go_nowhere() -> None:
    chest, report = image(body_part_examined="CHEST"), image(has_pixels=False)
    assert decide(study(report, chest), SHIPPED).reason == (
        "Body Part Examined (0018,0015) 'CHEST' says chest, so rule 'chest of an adult' sends it to chest"
    )


def test_a_study_without_an_instance_says_so() -> None:
    assert decide(study(), SHIPPED) == Decision(images=())
    assert decide(study(), SHIPPED).reason == "the study has no instance"


def test_the_explanation_holds_every_gate_and_says_where_the_model_refuses_what_it_was_sent() -> None:
    decision = decide(study(image(body_part_examined="CHEST"), image(body_part_examined="CHEST")), SHIPPED)
    frontal, lateral = (
        replace(one, gates=(GateClause(name="view", expected="AP or PA", seen=view, passed=view != "LL"),))
        for one, view in zip(decision.images, ("", "LL"), strict=True)
    )
    decision = replace(decision, images=(frontal, lateral))
    sent = "Body Part Examined (0018,0015) 'CHEST' says chest, so rule 'chest of an adult' sends it to chest"
    lines = explain(decision)
    assert [line for line in lines if not line.startswith("  ")] == [
        f"1.2.3.1: {sent}",
        f"1.2.3.2: {sent}, which refuses it: view LL where AP or PA is accepted",
    ]
    assert [line for line in lines if "gate of" in line] == [
        "  gate of chest: view wants AP or PA, saw none: yes",
        "  gate of chest: view wants AP or PA, saw LL: no",
    ]
    assert decision.reason == f"{sent}; {sent}, which refuses it: view LL where AP or PA is accepted"


def test_the_explanation_holds_every_signal_and_every_clause_with_what_it_saw() -> None:
    facts = image(body_part_examined="CHEST", study_description="Thorax p.a.", protocol_name="P7")
    assert explain(decide(study(facts), SHIPPED)) == (
        "1.2.3.1: Body Part Examined (0018,0015) 'CHEST' says chest, so rule 'chest of an adult' sends it to chest",
        "  Body Part Examined (0018,0015) 'CHEST': chest",
        "  Study Description (0008,1030) 'Thorax p.a.': chest",
        "  Protocol Name (0018,1030) 'P7': no known word",
        "  rule 'chest of a small child': body part wants chest, saw chest: yes",
        "  rule 'chest of a small child': Modality (0008,0060) wants CR or DX, saw DX: yes",
        "  rule 'chest of a small child': Patient's Age (0010,1010) wants 1 to 5 years, saw 40 years: no",
        "  rule 'chest of an adult': body part wants chest, saw chest: yes",
        "  rule 'chest of an adult': Modality (0008,0060) wants CR or DX, saw DX: yes",
        "  rule 'chest of an adult': Patient's Age (0010,1010) wants at least 18 years, saw 40 years: yes",
    )
