"""Which view a text names: whole words, in the languages that films come in; two of them are about two films."""

import pytest

from domain.views import is_same_view, view_named


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("PA", "PA"),
        ("Chest p.a.", "PA"),
        ("postero-anterior", "PA"),
        ("THORAX_AP_SUPINE", "AP"),
        ("Chest LATERAL", "LATERAL"),
        ("Chest LAT.", "LATERAL"),
        ("Thorax seitlich", "LATERAL"),
        ("left lateral", "LL"),
        ("right lateral", "RL"),
        ("Chest lateral decubitus", "DECUBITUS"),
        ("Chest AP, left lateral decubitus", "LLD"),
        ("antero-posterior oblique", "OBLIQUE"),
        ("left anterior oblique", "OBLIQUE"),
        ("Thorax lateral LL", "LL"),
        ("frontal AP", "AP"),
        ("frontal", "FRONTAL"),
        ("Chest PA and LAT", ""),
        ("PA/LL", ""),
        ("Thorax de face", "FRONTAL"),
        ("Thorax face et profil", ""),
        ("Tórax perfil", "LATERAL"),
        ("Torace laterolaterale", "LATERAL"),
        ("Thorax seitliche Aufnahme", "LATERAL"),
        ("Chest LLAT", "LL"),
        ("Thorax schräg", "OBLIQUE"),
        ("Tórax oblicua", "OBLIQUE"),
        ("Chest RAO", "RAO"),
        ("Tórax AP decúbito lateral", "DECUBITUS"),
        ("Radiographie postéro-antérieure", ""),
        ("postéro-antérieur", "PA"),
        ("BILATERAL", ""),
        ("Laterality", ""),
        ("PAT 12", ""),
        ("胸部正面", ""),
        ("", ""),
    ],
)
def test_a_text_names_one_view_or_says_nothing(text: str, view: str) -> None:
    assert view_named(text) == view


def test_a_lateral_whose_side_is_left_open_is_a_left_one_and_a_right_one() -> None:
    assert [is_same_view("LATERAL", view) for view in ("LL", "RL", "LATERAL", "PA", "LLD")] == [True] * 3 + [False] * 2
    assert not is_same_view("LL", "RL")


def test_a_frontal_whose_side_is_left_open_is_either() -> None:
    assert [is_same_view(view, "FRONTAL") for view in ("AP", "PA", "FRONTAL", "LL", "LLD")] == [True] * 3 + [False] * 2
