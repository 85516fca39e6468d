"""What the documentation names is there: files, headings, settings, metrics, verbs and their options."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from cli.__main__ import VERBS, main
from config.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docker/*.md")])
SECTIONS = "|".join(Settings.model_fields)


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target, _, heading in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())):
        if not target.startswith("https://"):
            there = page.parent / target if target else page
            assert there.exists(), target
            assert not heading or heading in headings(there), f"{target}#{heading}"


def test_every_setting_that_is_named_with_its_section_is_there(page: Path) -> None:
    named = re.findall(rf"`((?:{SECTIONS})\.[a-z_]+)", page.read_text())
    assert [key for key in named if key not in settings(Settings)] == []


def test_every_metric_that_is_named_is_there(page: Path) -> None:
    metrics = (ROOT / "portal_api" / "routes" / "metrics.py").read_text()
    named = re.findall(r"`(collimator_[a-z_]+)", page.read_text())
    assert [metric for metric in named if f'"{metric}"' not in metrics] == []


def test_every_verb_that_is_called_has_the_options_that_it_is_given(page: Path) -> None:
    for call in re.findall(r"collimator ([a-z]+(?: [^`\n#]*)?)", page.read_text()):
        verb, *words = call.split()
        if verb in VERBS and (options := re.findall(r"--[a-z][a-z-]+", call)):
            helped = help_of(verb) + (help_of(verb, words[0]) if re.fullmatch("[a-z-]+", words[0]) else "")
            assert [option for option in options if option not in helped] == [], call


def help_of(*words: str) -> str:
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return told.getvalue()


def headings(page: Path) -> set[str]:
    """As GitHub makes anchors of them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings and sections."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from settings(kind, f"{prefix}{name}.")
