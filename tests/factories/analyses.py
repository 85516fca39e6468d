"""What a model might have said, without a model."""

from dataclasses import replace

import numpy as np

from domain.care import Rejection
from domain.findings import (
    ActivationMap,
    Analysis,
    Code,
    DisplayImage,
    Finding,
    ImageAnalysis,
    Line,
    Measurement,
    ModelIdentity,
    Region,
)
from domain.study import Study
from reports.request import NodeIdentity, ReportRequest

NODE = NodeIdentity(
    manufacturer="Collimator project", model_name="Collimator", serial_number="NODE-1", software_version="0.1.0"
)
LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")
PLEURA = Code(value="3120008", scheme="SCT", meaning="Pleura")
DECISION = ("Body Part Examined is CHEST.", "The patient is 56 years old; the model is made for 18 and older.")

MODEL = ModelIdentity(
    package="chest",
    title="torchxrayvision densenet121-res224-all",
    version="1.0.0",
    manufacturer="mlmed",
    device_uid="2.25.123456789012345678901234567890",
    weights_sha256="56524913dd16a906422e8d8b66a7a5c46be1d82eb7ac012d8103776f1aa68899",
    intended_use="Research on adult chest radiographs, PA or AP.",
    limits=("It reads frontal views of adults only.", "It was never tested on portable films."),
    is_cleared=False,
    is_demonstration=False,
)
DEMONSTRATION_MODEL = replace(MODEL, is_demonstration=True)
CLEARED_MODEL = replace(MODEL, is_cleared=True)


def finding(label: str, certainty: float, *, threshold: float = 0.5, code: Code | None = None) -> Finding:
    pneumonia = Code(value="233604007", scheme="SCT", meaning="Pneumonia")
    return Finding(label=label, code=code or pneumonia, site=LUNG, certainty=certainty, threshold=threshold)


PNEUMONIA = finding("Pneumonia", 0.83)
EFFUSION = replace(
    finding("Effusion", 0.12, code=Code(value="60046008", scheme="SCT", meaning="Pleural effusion")), site=PLEURA
)
PLEURAL_THICKENING = replace(
    finding("Pleural_Thickening", 0.05, code=Code(value="PLTHICK", scheme="99COLLIM", meaning="Pleural thickening")),
    site=PLEURA,
)
FINDINGS = (PNEUMONIA, EFFUSION, PLEURAL_THICKENING)


PLACES = (
    Region(label="Pneumonia", certainty=0.83, left=10.0, top=12.0, width=20.0, height=8.0),
    Region(label="Pneumonia", certainty=0.61, left=30.0, top=40.0, width=40.0, height=9.5),  # reaches over the edge
)
COBB_ANGLE = Measurement(
    label="Cobb angle",
    code=Code(value="COBB", scheme="99COLLIM", meaning="Cobb angle"),
    site=Code(value="421060004", scheme="SCT", meaning="Vertebral column"),
    value=24.96,
    unit=Code(value="deg", scheme="UCUM", meaning="degree"),
    threshold=25.0,
    lines=(Line(start=(10.0, 20.0), end=(30.0, 24.0)), Line(start=(12.0, 50.0), end=(31.0, 44.0))),
)


def activation(
    rows: int = 64,
    columns: int = 56,
    label: str = "Pneumonia",
    *,
    centre: tuple[float, float] = (0.3, 0.6),
    spread: tuple[float, float] = (0.17, 0.2),
) -> ActivationMap:
    """One warm spot in the centred square that a network looks at; 14 by 14.

    centre, spread: across and down, parts of that square.
    """
    side = min(rows, columns)
    y, x = (np.mgrid[0:14, 0:14] + 0.5) / 14
    warmth = np.exp(-(((x - centre[0]) / spread[0]) ** 2 + ((y - centre[1]) / spread[1]) ** 2))
    return ActivationMap(
        label=label,
        rows=14,
        columns=14,
        values=tuple((warmth / warmth.max() * 255).round().astype(int).ravel().tolist()),
        left=(columns - side) / 2,
        top=(rows - side) / 2,
        width=side,
        height=side,
    )


def display(rows: int = 64, columns: int = 56) -> DisplayImage:
    """A grey ramp."""
    ramp = np.broadcast_to(np.linspace(20, 200, columns).astype(np.uint8), (rows, columns))
    return DisplayImage(rows=rows, columns=columns, pixels=ramp.tobytes(), source_rows=rows, source_columns=columns)


def analysis(
    study: Study, *, model: ModelIdentity = MODEL, findings: tuple[Finding, ...] = FINDINGS, images: int = 1
) -> Analysis:
    return Analysis(
        model=model,
        images=tuple(
            ImageAnalysis(sop_instance_uid=instance.sop_instance_uid, findings=findings, activation=activation())
            for instance in study.instances[:images]
        ),
    )


def rejection_request(study: Study) -> ReportRequest:
    """As if the study's instances were results."""
    return ReportRequest(study=study, node=NODE, rejection=Rejection.SAFETY)


def report_request(study: Study, answer: Analysis | None = None) -> ReportRequest:
    answer = answer or analysis(study)
    return ReportRequest(
        study=study,
        node=NODE,
        analysis=answer,
        displays={image.sop_instance_uid: display() for image in answer.images},
        decision=DECISION,
    )
