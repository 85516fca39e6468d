"""Pages for people: signed in once by key, safe from other sites, whole without a script."""

import re
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from playwright.sync_api import sync_playwright

from storage.api_keys import revoke_key
from storage.database import Database, utc_now
from storage.events import add_event
from storage.tables import sessions, studies
from tests.portal_api.rows import MERCY_STUDY, ST_MARY_STUDY

STUDY = f"/studies/{ST_MARY_STUDY}"
COOKIE = "__Host-collimator"
IS_ANALYSED = sa.and_(studies.c.study_instance_uid == ST_MARY_STUDY, studies.c.generation == 1)
SignIn = Callable[[str], TestClient]


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def browser(client: TestClient) -> TestClient:
    """It comes over HTTPS, and follows nothing by itself."""
    client.base_url = httpx.URL("https://testserver")
    client.follow_redirects = False
    return client


@pytest.fixture
def sign_in(browser: TestClient, keys: dict[str, str]) -> SignIn:
    def sign_in(role: str) -> TestClient:
        answer = browser.post("/sign-in", data={"key": keys[role], "to": STUDY})
        assert (answer.status_code, answer.headers["Location"]) == (303, f"/signed-in?to={STUDY}")
        return browser

    return sign_in


def form_of(page: httpx.Response, label: str = "Pneumonia") -> dict[str, str]:
    """What the form for this finding would send."""
    (form,) = [form for form in page.text.split("<form")[1:] if f'name="label" value="{label}"' in form]
    hidden = re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)">', form)
    return dict(hidden)


def test_who_has_not_signed_in_is_asked_to_and_comes_back(browser: TestClient, keys: dict[str, str]) -> None:
    answer = browser.get(STUDY)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/sign-in?to={STUDY}")
    page = Tags(browser.get(answer.headers["Location"]).text)
    assert {"type": "hidden", "name": "to", "value": STUDY} in page.of("input")
    browser.post("/sign-in", data={"key": f" {keys['viewer']} ", "to": STUDY})
    assert browser.get(f"/signed-in?to={STUDY}").headers["Location"] == STUDY
    assert browser.get(STUDY).status_code == 200


def test_the_cookie_is_kept_from_scripts_other_sites_and_open_lines(sign_in: SignIn, keys: dict[str, str]) -> None:
    answer = sign_in("viewer").post("/sign-in", data={"key": keys["viewer"]})
    cookie = answer.headers["Set-Cookie"]
    for attribute in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"):
        assert attribute in cookie
    assert cookie.startswith(f"{COOKIE}=")
    assert keys["viewer"] not in cookie


def test_a_browser_that_does_not_keep_the_cookie_is_told_why(browser: TestClient) -> None:
    answer = browser.get(f"/signed-in?to={STUDY}")
    assert answer.headers["Location"] == f"/sign-in?after=1&to={STUDY}"
    assert "did not keep the session" in browser.get(answer.headers["Location"]).text


@pytest.mark.parametrize("key", ["", "clm_wrong", "' OR 1=1 --"])
def test_a_key_that_is_not_valid_opens_nothing(browser: TestClient, key: str) -> None:
    answer = browser.post("/sign-in", data={"key": key})
    assert answer.status_code == 403
    assert "This key is not valid" in answer.text
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "to", ["https://evil.example", "//evil.example", "/studies/../docs", "javascript:1", "/metrics"]
)
def test_signing_in_leads_to_no_other_place_than_a_page_of_ours(
    browser: TestClient, keys: dict[str, str], to: str
) -> None:
    answer = browser.post("/sign-in", data={"key": keys["viewer"], "to": to})
    assert answer.headers["Location"] == "/signed-in?to=/studies"
    assert browser.get("/signed-in", params={"to": to}).headers["Location"] == "/studies"


def test_a_session_ends_with_its_key_and_when_it_is_not_used(
    sign_in: SignIn, filled: Database, keys: dict[str, str]
) -> None:
    browser = sign_in("viewer")
    for column, ago in (("seen_at", timedelta(minutes=16)), ("began_at", timedelta(hours=13))):
        assert browser.get(STUDY).status_code == 200
        with filled.write() as connection:
            connection.execute(sa.update(sessions).values({column: utc_now() - ago}))
        assert browser.get(STUDY).status_code == 303
        sign_in("viewer")
    revoke_key(filled, "viewer")
    assert browser.get(STUDY).status_code == 303


def test_use_keeps_a_session_alive(sign_in: SignIn, filled: Database) -> None:
    browser = sign_in("viewer")
    with filled.write() as connection:
        connection.execute(sa.update(sessions).values(seen_at=utc_now() - timedelta(minutes=14)))
    browser.get(STUDY)
    with filled.read() as connection:
        assert utc_now() - connection.scalars(sa.select(sessions.c.seen_at)).one() < timedelta(minutes=1)


def test_signing_out_ends_the_session_itself(sign_in: SignIn, filled: Database) -> None:
    browser = sign_in("viewer")
    token = form_of(browser.get(STUDY))["token"]
    assert browser.post("/sign-out", data={"token": token}).headers["Location"] == "/sign-in"
    with filled.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(sessions)) == 0


def test_the_page_lists_the_findings_with_what_was_found_first(sign_in: SignIn) -> None:
    page = Tags(sign_in("viewer").get(STUDY).text)
    labels = re.findall(r"(?:Pneumonia|Effusion|Cobb angle)\n", page.text)
    assert [label.strip() for label in labels] == ["Pneumonia", "Cobb angle", "Effusion"]
    for words in ("version 1.0.0", "Not for diagnostic use", "score 0.83, threshold 0.50, 2 places", "24.96 deg"):
        assert words in page.text
    assert "generation 2 is receiving" in page.text


def test_a_score_that_is_just_below_its_threshold_is_not_shown_as_at_it(sign_in: SignIn, filled: Database) -> None:
    with filled.write() as connection:
        kept = connection.execute(sa.select(studies.c.analyses).where(IS_ANALYSED)).scalar_one()
        kept[0]["images"][0]["findings"][1]["certainty"] = 0.4996
        connection.execute(sa.update(studies).where(IS_ANALYSED).values(analyses=kept))
    page = Tags(sign_in("viewer").get(STUDY).text)
    assert "score 0.4996, threshold 0.5000" in page.text


def test_the_page_names_the_images_that_nobody_has_looked_at(sign_in: SignIn, filled: Database) -> None:
    assert "Not analysed" not in sign_in("viewer").get(STUDY).text
    with filled.write() as connection:
        study_id = connection.scalar(sa.select(studies.c.id).where(IS_ANALYSED)) or 0
        add_event(connection, study_id, "left_out", "chest, 1.2.3.1.7: the pixels cannot be decoded")
    page = Tags(sign_in("viewer").get(STUDY).text)
    assert "Not analysed" in page.text
    assert "chest, 1.2.3.1.7: the pixels cannot be decoded" in page.text


def test_a_word_is_kept_and_shown_where_the_reader_was(sign_in: SignIn) -> None:
    browser = sign_in("viewer")
    form = form_of(browser.get(STUDY))
    answer = browser.post(STUDY, data={**form, "verdict": "disagree", "note": "A <b>skin</b> fold & Müller"})
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{STUDY}?clinic=st-mary#finding-1-1")
    page = browser.get(STUDY)
    assert "A &lt;b&gt;skin&lt;/b&gt; fold &amp; Müller" in page.text
    pressed = [button["value"] for button in Tags(page.text).of("button") if "aria-pressed" in button]
    assert pressed == ["disagree"]


def test_words_of_others_are_shown_beside_ones_own(sign_in: SignIn, client: TestClient, keys: dict[str, str]) -> None:
    word = {"label": "Pneumonia", "verdict": "agree", "note": "Clear."}
    client.post(f"/api/v1{STUDY}/feedback", json=word, headers={"X-API-Key": keys["operator"]})
    client.post(f"/api/v1{STUDY}/feedback", json=word, headers={"X-API-Key": keys["operator"]})
    page = sign_in("viewer").get(STUDY).text
    assert 'operator <b class="agree">agrees</b>: <q>Clear.</q>' in page
    assert "1 earlier word" in page
    assert "aria-pressed" not in page


@pytest.mark.parametrize(
    ("change", "headers", "status"),
    [
        ({"token": ""}, {}, 403),
        ({"token": "0" * 64}, {}, 403),
        ({}, {"Sec-Fetch-Site": "cross-site"}, 403),
        ({}, {"Sec-Fetch-Site": "same-origin"}, 303),
    ],
    ids=["no token", "another token", "another site", "its own site"],
)
def test_a_form_of_another_site_changes_nothing(
    sign_in: SignIn, change: dict[str, str], headers: dict[str, str], status: int
) -> None:
    browser = sign_in("viewer")
    form = {**form_of(browser.get(STUDY)), "verdict": "agree", **change}
    assert browser.post(STUDY, data=form, headers=headers).status_code == status
    assert ("You <b" in browser.get(STUDY).text) == (status == 303)


def test_another_site_cannot_sign_somebody_in(browser: TestClient, keys: dict[str, str]) -> None:
    answer = browser.post("/sign-in", data={"key": keys["viewer"]}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"label": "Gout"}, 409, "the study has no such finding"),
        ({"verdict": "maybe"}, 422, "verdict: Input should be"),
        ({"note": "x" * 2001}, 422, "note: String should have at most 2000"),
    ],
)
def test_a_word_that_cannot_be_kept_is_told_on_the_page(
    sign_in: SignIn, change: dict[str, str], status: int, said: str
) -> None:
    browser = sign_in("viewer")
    answer = browser.post(STUDY, data={**form_of(browser.get(STUDY)), "verdict": "agree", **change})
    assert answer.status_code == status
    assert said in answer.text
    assert "Pneumonia" in answer.text


def test_where_the_form_came_from_leads_nowhere_else(sign_in: SignIn) -> None:
    browser = sign_in("viewer")
    form = {**form_of(browser.get(STUDY)), "verdict": "agree", "name": "x\r\nSet-Cookie: a=b"}
    answer = browser.post(STUDY, data=form)
    assert answer.headers["Location"] == f"{STUDY}?clinic=st-mary#"


def test_who_may_only_read_gets_no_form(sign_in: SignIn) -> None:
    browser = sign_in("auditor")
    page = browser.get(STUDY)
    assert "Pneumonia" in page.text
    assert 'name="verdict"' not in page.text
    token = re.findall(r'name="token" value="([0-9a-f]+)"', page.text)[0]
    word = {"token": token, "label": "Pneumonia", "verdict": "agree"}
    assert browser.post(STUDY, data=word).status_code == 403


def test_who_may_not_see_studies_sees_none(sign_in: SignIn) -> None:
    browser = sign_in("billing")
    assert browser.get("/studies").headers["Location"] == "/usage"
    assert browser.get(STUDY).status_code == 404


def test_another_clinics_study_is_not_there(sign_in: SignIn) -> None:
    browser = sign_in("st-mary")
    assert browser.get(f"/studies/{MERCY_STUDY}").status_code == 404
    listed = browser.get("/studies").text
    assert ST_MARY_STUDY in listed
    assert MERCY_STUDY not in listed
    assert "mercy" not in listed


def test_results_that_were_withdrawn_are_said_to_be(
    sign_in: SignIn, client: TestClient, keys: dict[str, str], filled: Database
) -> None:
    page = sign_in("viewer")
    assert "withdrawn" not in page.get(STUDY).text
    for verb in ("cancel", "withdraw"):
        headers = {"X-API-Key": keys["operator"]}
        client.post(f"/api/v1{STUDY}/{verb}", headers=headers, json={"rejection": "safety"}).raise_for_status()
    assert "These results were withdrawn. Do not use them." in page.get(STUDY).text


def test_a_study_without_an_analysis_says_why(sign_in: SignIn) -> None:
    page = sign_in("admin").get(f"/studies/{MERCY_STUDY}").text
    assert "No model has analysed this study: not configured." in page


@pytest.mark.parametrize(
    "route", ["/sign-in", "/studies", STUDY, "/studies/1.2.3.999", "/usage", "/usage?clinic=st-mary"]
)
def test_a_page_has_no_script_and_no_style_of_its_own_and_loads_nothing_from_elsewhere(
    sign_in: SignIn, route: str
) -> None:
    page = Tags(sign_in("admin").get(route).text)
    assert page.of("script") == page.of("style") == []
    attributes = [(name, value or "") for _, tag in page.tags for name, value in tag.items()]
    assert not any(name == "style" or name.startswith("on") for name, _ in attributes)
    assert all(value.startswith(("/", "#")) for name, value in attributes if name in ("href", "src", "action"))
    assert page.of("html") == [{"lang": "en"}]


def test_every_control_can_be_named_by_a_screen_reader(sign_in: SignIn) -> None:
    page = Tags(sign_in("viewer").get(STUDY).text)
    shown = [one for one in page.of("input") if one["type" if "type" in one else "name"] != "hidden"]
    assert all(one.get("aria-label") for one in shown)
    assert len({one["id"] for one in page.of("article")}) == 3
    assert all(one["aria-label"] for one in page.of("svg"))


@pytest.mark.parametrize("asset", ["style.css", "mark.svg"])
def test_the_pages_files_are_served_and_nothing_beside_them(browser: TestClient, asset: str) -> None:
    assert browser.get(f"/pages/{asset}").status_code == 200
    for outside in ("../rendering.py", "%2e%2e/rendering.py", "../templates/base.html"):
        assert browser.get(f"/pages/{outside}").status_code == 404


@pytest.mark.parametrize("path", ["/sign-in", "/studies", STUDY, "/usage", "/usage?clinic=st-mary"])
def test_on_a_telephone_no_page_is_wider_than_the_screen(
    sign_in: SignIn, require_program: Callable[[str], str], path: str
) -> None:
    browser = sign_in("admin")
    style = browser.get("/pages/style.css").text
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=require_program("chromium"), args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 360, "height": 800})
        page.set_content(browser.get(path).text)
        page.add_style_tag(content=style)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        chromium.close()
