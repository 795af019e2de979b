"""The dashboard in a real Chromium, driven by Playwright: what a person sees, with keyboard and pointer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gateway.config import Secret
from gateway.settings import Settings
from tests.support.fake_upstream import fake_upstream
from tests.support.live_gateway import LiveGateway, live_gateway
from tests.support.waiting import until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"
)
ADMIN = "sk-admin-of-the-browser-test"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MEETING = "The committee met on Tuesday and talked at length about the budget of the coming year. " * 60


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    settings = Settings(data_dir=str(tmp_path_factory.mktemp("data")), master_key=Secret(ADMIN))
    with fake_upstream() as upstream, live_gateway(upstream, settings=settings) as gateway:
        with gateway.client(authorization=f"Bearer {ADMIN}") as client:
            messages = [{"role": "user", "content": f"{MEETING}\n\nWhat was decided? <b>bold</b>"}]
            body = {"model": "gpt-4o-mini", "messages": messages}
            for _ in range(3):
                assert client.post("/v1/chat/completions", json=body).status_code == 200
            until(lambda: len(client.get("/dashboard/data/recent").json()["receipts"]) == 3)
        yield gateway


@pytest.fixture
def page(browser: Browser, dashboard: LiveGateway) -> Iterator[Page]:
    """A tab with the key already given; any error of a script fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda line: troubles.append(line.text) if "Content Security" in line.text else None)
    page.goto(f"{dashboard.url}/dashboard")
    page.get_by_label("Key", exact=True).fill(ADMIN)
    page.keyboard.press("Enter")
    expect(page.locator("#sign-in")).to_be_hidden()
    yield page
    context.close()
    assert not troubles


def shot(page: Page, name: str) -> None:
    """A picture, where a folder for pictures is named."""
    folder = os.environ.get("TERSE_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png")


def test_a_wrong_key_is_told(browser: Browser, dashboard: LiveGateway) -> None:
    page = browser.new_page()
    page.goto(f"{dashboard.url}/dashboard")
    page.get_by_label("Key", exact=True).fill("sk-wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_contain_text("does not open")
    page.close()


def test_the_overview_shows_the_requests(page: Page) -> None:
    expect(page.locator("#tiles")).to_contain_text("Requests")
    expect(page.locator("#tiles .tile dd").first).to_have_text("3")
    expect(page.locator("#chart-money canvas")).to_be_visible()
    expect(page.locator("#table-by")).to_contain_text("gpt-4o-mini")
    shot(page, "overview")


def test_the_tail_shows_receipts_and_no_markup_of_theirs(page: Page) -> None:
    page.get_by_role("tab", name="Requests").click()
    expect(page.locator("#table-requests tbody tr")).to_have_count(3)
    expect(page.locator("#table-requests b")).to_have_count(0)


def test_the_playground_shows_words_and_reasons(page: Page) -> None:
    page.get_by_role("tab", name="Playground").click()
    expect(page.locator("#play-words .word").first).to_be_visible()
    assert page.locator("#play-words .word.dropped").count() > 10
    assert page.locator("#play-words .word.protected").count() > 3
    before = page.locator("#play-state").inner_text()
    page.locator("#play-keep").fill("80")
    expect(page.locator("#play-state")).not_to_have_text(before)
    page.locator("#play-words").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#play-reason")).to_contain_text("score")
    shot(page, "playground")


def test_the_playground_counts_characters_beyond_the_basic_plane(page: Page) -> None:
    page.get_by_role("tab", name="Playground").click()
    page.locator("#play-text").fill("Team 👩‍👩‍👧 met 🎉 and <script>alert(1)</script> agreed 42 times. " * 20)
    page.get_by_role("button", name="Shorten").click()
    expect(page.locator("#play-words")).to_contain_text("agreed 42 times")
    assert page.locator("#play-words script").count() == 0
    assert "42" in page.locator("#play-words .word.protected").all_inner_texts()


def test_the_editor_points_at_a_mistake(page: Page) -> None:
    page.get_by_role("tab", name="Policy").click()
    page.locator("#policy-text").fill("policies:\n  default: {keeep: 0.5}\n")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#policy-result")).to_contain_text("keeep")
    expect(page.locator("#policy-result")).to_contain_text("terse.yaml:2")


def test_tabs_work_with_the_keyboard_and_the_theme_stays(page: Page) -> None:
    page.get_by_role("tab", name="Overview").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Requests")).to_have_attribute("aria-selected", "true")
    page.get_by_role("button", name="Switch between light and dark").click()
    theme = page.locator("html").get_attribute("data-theme")
    assert theme in {"dark", "light"}
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", str(theme))


def test_every_control_has_a_name(page: Page) -> None:
    page.get_by_role("tab", name="Playground").click()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea")]
            .filter((e) => !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim()))
            .map((e) => e.outerHTML)"""
    )
    assert nameless == []
