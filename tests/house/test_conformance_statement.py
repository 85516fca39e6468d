"""docs/conformance.md says what the code does."""

import re

from docs.conformance import PAGE, TABLES, generated


def test_the_tables_are_those_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert generated(page) == page, "run `make conformance`"


def test_every_table_stands_in_the_page_once() -> None:
    assert sorted(re.findall(r"<!-- table: (\w+) -->", PAGE.read_text(encoding="utf-8"))) == sorted(TABLES)


def test_a_changed_table_is_noticed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert generated(page.replace("| 0xA700 |", "| 0xA701 |")) == page
