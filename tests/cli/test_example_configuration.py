"""collimator.example.toml explains every key there is, and loads as it stands."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from config.settings import Settings, check, load

EXAMPLE = Path(__file__).parents[2] / "collimator.example.toml"
WITH_ALL_SWITCHED_ON = re.sub(r"^#(?=\S)", "", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_example_loads_as_it_stands() -> None:
    settings = load(EXAMPLE, environment={})
    assert settings.clinics[0].name == "st-mary"


def test_the_example_loads_with_every_setting_switched_on() -> None:
    settings = check(tomllib.loads(WITH_ALL_SWITCHED_ON), origin="the example")
    assert settings.routing.rules[0].package == "chest"


def test_but_for_its_clinic_the_example_says_what_is_so_without_it() -> None:
    said = load(EXAMPLE, environment={}).model_dump(exclude={"clinics"})
    assert said == Settings().model_dump(exclude={"clinics"})


def test_every_key_is_in_the_example() -> None:
    content, keys = tomllib.loads(WITH_ALL_SWITCHED_ON), list(keys_of(Settings))
    assert {"node.ae_title", "clinics.callers.host", "routing.rules.age_min_years", "routing.words"} < set(keys)
    assert [key for key in keys if not is_in(content, key.split("."))] == []


def test_every_setting_has_an_explanation_close_above_it() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#?[a-z_]+ = ", line):
            above = lines[max(0, number - 6) : number]
            assert any(earlier.startswith("# ") for earlier in above), line


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted name of every field, through sections and lists of sections."""
    for name, field in model.model_fields.items():
        nested = next((kind for kind in (field.annotation, *get_args(field.annotation)) if is_model(kind)), None)
        if nested is None:
            yield f"{prefix}{name}"
        else:
            yield from keys_of(nested, f"{prefix}{name}.")


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def is_in(content: Any, names: list[str]) -> bool:
    """Whether a key is there; of a list of sections, one that has it is enough."""
    if not names:
        return True
    if isinstance(content, list):
        return any(is_in(one, names) for one in content)
    return isinstance(content, Mapping) and names[0] in content and is_in(content[names[0]], names[1:])
