"""The places on the image itself, for every viewer that applies presentation states: a Grayscale Softcopy Presentation
State (1.2.840.10008.5.1.4.1.1.11.1) for each image that has any.

Each place is a closed line in the source image's pixels with its finding beside it, in a layer that a viewer can hide.
Grey values are shown as the image's own header says; where that goes through a look-up table there is no state, for it
would change how the image looks.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from highdicom.color import CIELabColor
from highdicom.content import ModalityLUTTransformation, PresentationLUTTransformation
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextObject,
)
from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from domain.findings import ModelIdentity
from reports.direct import DirectDraft
from reports.grayscale import Grayscale
from reports.material import Material
from reports.places import Place, places_of
from reports.provenance import Form, common_attributes, content_moment, stamp
from reports.source import SourceInstance, reference_header
from reports.words import finding_in_words, warnings_for
from reports.writer import Writer

KIND = "gsps"
SERIES_NUMBER = 9007
LAYER = "AI"
AMBER = (75.0, 20.0, 73.0)  # CIELab, as the overlay marks places
NEW_LINE = "\r\n"  # PS3.5 6.2, of a Short Text


def write(material: Material) -> Iterable[DirectDraft]:
    """One state for each image with a place to show."""
    analysis = material.request.analysis
    if analysis is None:
        return
    for number, image in enumerate(analysis.images, start=1):
        source = material.source_of(image)
        places = places_of(material, analysis, image)
        if places and source.grayscale is not None:
            form = Form(kind=KIND, series_number=SERIES_NUMBER, title="AI Marks", instance_number=number)
            yield _state(material, form, analysis.model, source, source.grayscale, places)


def _state(
    material: Material,
    form: Form,
    model: ModelIdentity,
    source: SourceInstance,
    grayscale: Grayscale,
    places: tuple[Place, ...],
) -> DirectDraft:
    def build() -> Dataset:
        header = reference_header(material.source, source)
        header.SamplesPerPixel = 1
        layer = GraphicLayer(LAYER, order=1, description="AI findings", display_color=CIELabColor(*AMBER))
        annotation = GraphicAnnotation(
            referenced_images=[header],
            graphic_layer=layer,
            graphic_objects=[_line(place) for place in places],
            text_objects=[_text(material, place, model) for place in places],
        )
        state = GrayscaleSoftcopyPresentationState(
            referenced_images=[header],
            content_label="AI FINDINGS",
            content_description="Places that a model has found",
            graphic_layers=[layer],
            graphic_annotations=[annotation],
            **_as_the_image_shows_it(grayscale),
            **_attributes(material, form),
        )
        _complete(state, material, grayscale)
        return stamp(state, material)

    return DirectDraft(material=material, form=form, direct=build)


def _line(place: Place) -> GraphicObject:
    return GraphicObject(
        graphic_type="POLYLINE",
        graphic_data=np.array(place.region.outline),
        units="PIXEL",
        tracking_id=place.tracking_identifier,
        tracking_uid=place.tracking_uid,
    )


def _text(material: Material, place: Place, model: ModelIdentity) -> TextObject:
    """At the line's highest point."""
    words = material.words
    lines = (f"AI {finding_in_words(place.region.finding, words)}", *warnings_for(model, words))
    column, row = min(place.region.outline, key=lambda point: point[1])
    return TextObject(
        NEW_LINE.join(material.source.writable(line) for line in lines),
        units="PIXEL",
        anchor_point=(column, row),
        tracking_id=place.tracking_identifier,
        tracking_uid=place.tracking_uid,
    )


def _as_the_image_shows_it(grayscale: Grayscale) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "presentation_lut_transformation": PresentationLUTTransformation(
            presentation_lut_shape="INVERSE" if grayscale.is_inverted else "IDENTITY"
        )
    }
    if grayscale.rescale is not None:
        slope, intercept = grayscale.rescale
        shown["modality_lut_transformation"] = ModalityLUTTransformation(
            rescale_intercept=intercept, rescale_slope=slope, rescale_type="US"
        )
    if grayscale.window is not None:
        center, width = grayscale.window
        shown["voi_lut_transformations"] = [
            SoftcopyVOILUTTransformation(
                window_center=center, window_width=width, voi_lut_function=grayscale.voi_lut_function
            )
        ]
    return shown


def _attributes(material: Material, form: Form) -> dict[str, Any]:
    """A state has the moment of its creation instead of a Content Date and Time (PS3.3 C.11.10)."""
    common = common_attributes(material, form)
    return {name: value for name, value in common.items() if name not in ("content_date", "content_time")}


def _complete(state: Dataset, material: Material, grayscale: Grayscale) -> None:
    moment = content_moment(material)
    state.PresentationCreationDate = moment.strftime("%Y%m%d")
    state.PresentationCreationTime = moment.strftime("%H%M%S")
    # Type 2C (PS3.3 C.7.3.1): it belongs to the series, and one series holds the states of both sides.
    state.Laterality = ""
    for area in state.DisplayedAreaSelectionSequence:
        area.PresentationPixelAspectRatio = list(grayscale.aspect_ratio)


WRITER = Writer(
    kind=KIND, sop_class_uid=GrayscaleSoftcopyPresentationStateStorage, series_number=SERIES_NUMBER, write=write
)
