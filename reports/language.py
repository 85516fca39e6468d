"""What a language has to have a word for: everything that a result says to its reader.

reports/languages/ has one table of these for each language. What stands in {braces} is filled in when it is said.
Codes are the same in every language (only how a heading's code reads is not), and so are Series Descriptions, by which
viewers arrange what they show. What others wrote is told in their own words: a package's limits, routing's reasons.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from domain.findings import Code
from domain.states import Reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """language: Language of Content Item and Descendants. decimal_mark: of a number with decimals.

    headings: of the readable report, by the code value of each. labels: of models, by their name there.
    """

    language: Code
    decimal_mark: str

    # What stands on every result that it concerns
    not_for_diagnostic_use: str
    demonstration_model: str
    demonstration_reason: str
    certainty_is_not_probability: str
    no_one_has_checked: str

    # Answers
    labels: Mapping[str, str]
    finding: str
    finding_without_threshold: str
    threshold_of_all: str
    measurement: str
    measurement_with_threshold: str
    places: str
    nothing_found: str
    nothing_found_on: str
    found: str
    found_on: str
    not_found: str
    not_found_on: str
    all_found: str
    measured: str
    measured_on: str
    not_looked_for: str
    not_analysed: str

    # The rest of the readable report
    headings: Mapping[str, str]
    model: str
    made_by: str
    intended_use: str
    weights: str
    image: str
    other_object: str
    image_analysed: str
    image_not_analysed: str
    image_of_another_model: str
    more_images_came: str
    unread: str
    version_is_tried: str

    # A study that was not analysed
    note_titles: Mapping[Reason, str]
    note_message: str
    note_kept: str
    note_nothing_looked_for: str

    # The overlay
    banner_of_result: str
    banner_of_note: str
    at_or_above_threshold: str
    below_threshold: str
    threshold: str
    threshold_of: str
    no_finding: str
    activation_map: str
    activation_map_below_threshold: str
    colour_and_line: str
    corner_marks: str
    boxes: str
    lines: str
    low: str
    high: str
    image_of: str
