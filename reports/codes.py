"""Every code the reports use, in one table, each with where it was checked.

The labels of a model bring their own codes in their findings; what stands here is the frame around them, and the codes
that packages choose from.

Sources, as written beside each code:
    PS3.16   the code and its meaning stand in the standard (checked in pydicom's copy of its code tables)
    HPO      a SNOMED CT cross-reference of the Human Phenotype Ontology, release 2025-01
    SNOMED   SNOMED International's own editorial guide
    public   the same code and term in several independent public implementation guides
    local    no public code could be verified: our own scheme, 99COLLIM
"""

from dataclasses import dataclass

from domain.findings import Code
from domain.identity import LOCAL_CODING_SCHEME

LOCAL_CODING_SCHEME_NAME = "Collimator local codes"

# Certainty and its test against the threshold
CERTAINTY_OF_FINDING = Code(value="111012", scheme="DCM", meaning="Certainty of Finding")  # PS3.16
THRESHOLD_VALUE = Code(value="122411", scheme="DCM", meaning="Threshold Value")  # PS3.16
PERCENT = Code(value="%", scheme="UCUM", meaning="Percent")  # PS3.16
PIXELS = Code(value="{pixels}", scheme="UCUM", meaning="Pixels")  # PS3.16
MILLIMETER = Code(value="mm", scheme="UCUM", meaning="mm")  # PS3.16
PRESENCE = Code(value="705057003", scheme="SCT", meaning="Presence")  # public
DETECTED = Code(value="260373001", scheme="SCT", meaning="Detected")  # public
# "Absent" (272519000) would say more than a score below its threshold can.
NOT_DETECTED = Code(value="260415000", scheme="SCT", meaning="Not detected")  # public

# The frame of the documents
QUALITATIVE_EVALUATIONS = Code(value="C0034375", scheme="UMLS", meaning="Qualitative Evaluations")  # PS3.16
COMMENT = Code(value="121106", scheme="DCM", meaning="Comment")  # PS3.16
FINDINGS = Code(value="121070", scheme="DCM", meaning="Findings")  # PS3.16
FINDING = Code(value="121071", scheme="DCM", meaning="Finding")  # PS3.16
LANGUAGE = Code(value="121049", scheme="DCM", meaning="Language of Content Item and Descendants")  # PS3.16
ENGLISH = Code(value="en-US", scheme="RFC5646", meaning="English (United States)")  # PS3.16
GERMAN = Code(value="de-DE", scheme="RFC5646", meaning="German (Germany)")  # RFC 5646
OBSERVER_TYPE = Code(value="121005", scheme="DCM", meaning="Observer Type")  # PS3.16
DEVICE = Code(value="121007", scheme="DCM", meaning="Device")  # PS3.16
DEVICE_OBSERVER_UID = Code(value="121012", scheme="DCM", meaning="Device Observer UID")  # PS3.16
DEVICE_OBSERVER_NAME = Code(value="121013", scheme="DCM", meaning="Device Observer Name")  # PS3.16
IMAGE_LIBRARY = Code(value="111028", scheme="DCM", meaning="Image Library")  # PS3.16
IMAGE_LIBRARY_GROUP = Code(value="126200", scheme="DCM", meaning="Image Library Group")  # PS3.16
MODALITY = Code(value="121139", scheme="DCM", meaning="Modality")  # PS3.16
PIXEL_DATA_ROWS = Code(value="110910", scheme="DCM", meaning="Pixel Data Rows")  # PS3.16
PIXEL_DATA_COLUMNS = Code(value="110911", scheme="DCM", meaning="Pixel Data Columns")  # PS3.16
PATIENT_ORIENTATION_ROW = Code(value="111044", scheme="DCM", meaning="Patient Orientation Row")  # PS3.16
PATIENT_ORIENTATION_COLUMN = Code(value="111043", scheme="DCM", meaning="Patient Orientation Column")  # PS3.16
HORIZONTAL_PIXEL_SPACING = Code(value="111026", scheme="DCM", meaning="Horizontal Pixel Spacing")  # PS3.16
VERTICAL_PIXEL_SPACING = Code(value="111066", scheme="DCM", meaning="Vertical Pixel Spacing")  # PS3.16
SOURCE = Code(value="260753009", scheme="SCT", meaning="Source")  # PS3.16

ILLUSTRATION_OF_FINDING = Code(value="125201", scheme="DCM", meaning="Illustration of Finding")  # PS3.16
SUMMARY = Code(value="121111", scheme="DCM", meaning="Summary")  # PS3.16

AI_RESULT = Code(value="AIRESULT", scheme=LOCAL_CODING_SCHEME, meaning="AI Result")  # local
AI_NOTE = Code(value="AINOTE", scheme=LOCAL_CODING_SCHEME, meaning="AI Note")  # local
WARNING = Code(value="WARNING", scheme=LOCAL_CODING_SCHEME, meaning="Warning")  # local
LOOKED_FOR = Code(value="LOOKEDFOR", scheme=LOCAL_CODING_SCHEME, meaning="Looked for and not found")  # local
NOT_LOOKED_FOR = Code(value="NOTLOOKEDFOR", scheme=LOCAL_CODING_SCHEME, meaning="Not looked for")  # local
MODEL = Code(value="MODEL", scheme=LOCAL_CODING_SCHEME, meaning="Model")  # local
IMAGES = Code(value="IMAGES", scheme=LOCAL_CODING_SCHEME, meaning="Images")  # local
WHY_THIS_MODEL = Code(value="WHYTHISMODEL", scheme=LOCAL_CODING_SCHEME, meaning="Why this model")  # local
LIMITS = Code(value="LIMITS", scheme=LOCAL_CODING_SCHEME, meaning="Limits")  # local
REASON = Code(value="REASON", scheme=LOCAL_CODING_SCHEME, meaning="Reason")  # local

# Purposes of reference
PROCESSING_EQUIPMENT = Code(value="109102", scheme="DCM", meaning="Processing Equipment")  # PS3.16 CID 7005
SOURCE_IMAGE = Code(value="121322", scheme="DCM", meaning="Source image for image processing operation")  # PS3.16
SPATIAL_RESAMPLING = Code(value="113085", scheme="DCM", meaning="Spatial resampling")  # PS3.16
ARTIFICIAL_INTELLIGENCE = Code(value="123110", scheme="DCM", meaning="Artificial Intelligence")  # PS3.16 CID 7162

# Titles of Key Object Selections, PS3.16 CID 7010. Those that reject are also reasons for removal from use, CID 7031.
OF_INTEREST = Code(value="113000", scheme="DCM", meaning="Of Interest")  # PS3.16
REJECTED_FOR_QUALITY = Code(value="113001", scheme="DCM", meaning="Rejected for Quality Reasons")  # PS3.16
REJECTED_FOR_SAFETY = Code(value="113037", scheme="DCM", meaning="Rejected for Patient Safety Reasons")  # PS3.16
INCORRECT_WORKLIST_ENTRY = Code(value="113038", scheme="DCM", meaning="Incorrect Modality Worklist Entry")  # PS3.16
RETENTION_EXPIRED = Code(value="113039", scheme="DCM", meaning="Data Retention Policy Expired")  # PS3.16

# Where something is rather than what: a box or half of an activation map is no outline of an organ or a disease
# (PS3.16 CID 7150).
SPATIAL_CONCEPT = Code(value="309825002", scheme="SCT", meaning="Spatial and Relational Concept")  # PS3.16

# Modality (0008,0060) as a concept, PS3.16 CID 29
MODALITIES = {
    "CR": Code(value="CR", scheme="DCM", meaning="Computed Radiography"),
    "DX": Code(value="DX", scheme="DCM", meaning="Digital Radiography"),
    "IO": Code(value="IO", scheme="DCM", meaning="Intra-oral Radiography"),
    "MG": Code(value="MG", scheme="DCM", meaning="Mammography"),
    "PX": Code(value="PX", scheme="DCM", meaning="Panoramic X-Ray"),
    "RG": Code(value="RG", scheme="DCM", meaning="Radiographic imaging"),
}

# Procedures reported
PLAIN_XRAY_OF_CHEST = Code(value="399208008", scheme="SCT", meaning="Plain X-ray of chest")  # public
RADIOGRAPHIC_IMAGING = Code(value="363680008", scheme="SCT", meaning="Radiographic imaging procedure")  # SNOMED

# Finding sites
LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")  # PS3.16
PLEURA = Code(value="3120008", scheme="SCT", meaning="Pleura")  # PS3.16
HEART = Code(value="80891009", scheme="SCT", meaning="Heart")  # PS3.16
MEDIASTINUM = Code(value="72410000", scheme="SCT", meaning="Mediastinum")  # PS3.16
SITES_IN_THE_CHEST = frozenset(site.value for site in (LUNG, PLEURA, HEART, MEDIASTINUM))


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownFinding:
    """A label that models commonly have, the code for it, and where the code was checked."""

    label: str
    code: Code
    site: Code | None
    source: str


def _known(label: str, value: str, scheme: str, meaning: str, site: Code | None, source: str) -> KnownFinding:
    return KnownFinding(label=label, code=Code(value=value, scheme=scheme, meaning=meaning), site=site, source=source)


KNOWN_FINDINGS = (
    _known("Atelectasis", "46621007", "SCT", "Atelectasis", LUNG, "HPO, public"),
    _known("Consolidation", "95436008", "SCT", "Lung consolidation", LUNG, "public"),
    _known("Infiltration", "409609008", "SCT", "Radiologic infiltrate of lung", LUNG, "public"),
    _known("Pneumothorax", "36118008", "SCT", "Pneumothorax", PLEURA, "PS3.16, HPO"),
    _known("Edema", "19242006", "SCT", "Pulmonary edema", LUNG, "PS3.16, HPO"),
    _known("Emphysema", "87433001", "SCT", "Pulmonary emphysema", LUNG, "HPO, public"),
    _known("Fibrosis", "51615001", "SCT", "Fibrosis of lung", LUNG, "HPO"),
    _known("Effusion", "60046008", "SCT", "Pleural effusion", PLEURA, "PS3.16, HPO"),
    _known("Pneumonia", "233604007", "SCT", "Pneumonia", LUNG, "HPO, public"),
    _known("Pleural_Thickening", "PLTHICK", LOCAL_CODING_SCHEME, "Pleural thickening", PLEURA, "local"),
    # pydicom names 287272002 "Cardiomegaly" too; SNOMED CT calls that one an enlarged septal foramen.
    _known("Cardiomegaly", "8186001", "SCT", "Cardiomegaly", HEART, "HPO, public"),
    _known("Nodule", "786838002", "SCT", "Nodule of lung", LUNG, "public"),
    _known("Mass", "309529002", "SCT", "Mass of lung", LUNG, "public"),
    _known("Hernia", "39839004", "SCT", "Diaphragmatic hernia", None, "public"),
    _known("Lung Lesion", "52988006", "SCT", "Lesion", LUNG, "PS3.16"),
    _known("Fracture", "125605004", "SCT", "Fracture of bone", None, "public"),
    _known("Lung Opacity", "112001", "DCM", "Opacity", LUNG, "PS3.16"),
    _known(
        "Enlarged Cardiomediastinum",
        "ENLCARDMED",
        LOCAL_CODING_SCHEME,
        "Enlarged cardiomediastinum",
        MEDIASTINUM,
        "local",
    ),
    _known("Dislocation", "108367008", "SCT", "Dislocation of joint", None, "HPO, public"),
    _known("Arthritis", "3723001", "SCT", "Arthritis", None, "HPO"),
    _known("Osteoarthritis", "396275006", "SCT", "Osteoarthritis", None, "HPO"),
    _known("Osteoporosis", "64859006", "SCT", "Osteoporosis", None, "HPO"),
    _known("Dental Caries", "80967001", "SCT", "Dental caries", None, "HPO, public"),
    _known("Periodontal Disease", "2556008", "SCT", "Periodontal disease", None, "HPO, public"),
    _known("Periodontitis", "41565005", "SCT", "Periodontitis", None, "HPO"),
    _known("Root Canal Filling", "ROOTCANAL", LOCAL_CODING_SCHEME, "Root canal filling", None, "local"),
    _known("Scoliosis", "298382003", "SCT", "Scoliosis deformity of spine", None, "public"),
    _known("Disc Degeneration", "77547008", "SCT", "Degeneration of intervertebral disc", None, "public"),
    _known("Lumbar Stenosis", "18347007", "SCT", "Spinal stenosis of lumbar region", None, "HPO"),
    _known("Bronchiolitis", "4120002", "SCT", "Bronchiolitis", None, "HPO"),
)


def procedure_reported(sites: frozenset[str]) -> Code:
    """The procedure that a model looking at these finding sites reports on (TID 1500, Procedure reported)."""
    return PLAIN_XRAY_OF_CHEST if sites & SITES_IN_THE_CHEST else RADIOGRAPHIC_IMAGING
