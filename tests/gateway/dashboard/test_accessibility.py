"""axe-core finds nothing on any tab: light, dark, and on a narrow screen, which scrolls down only."""

from __future__ import annotations

from importlib.resources import files

import pytest
from playwright.sync_api import Browser, expect

from tests.gateway.dashboard.test_browser import ADMIN, browser, dashboard, pytestmark
from tests.support.live_gateway import LiveGateway

__all__ = ["browser", "dashboard", "pytestmark"]
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
RUN = "axe.run().then(found => found.violations.map(v => [v.id, v.nodes.length, v.nodes[0].html]))"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_every_tab(browser: Browser, dashboard: LiveGateway, scheme: str, width: int) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 844},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page = context.new_page()
    page.goto(f"{dashboard.url}/dashboard")
    page.get_by_label("Key", exact=True).fill(ADMIN)
    page.keyboard.press("Enter")
    expect(page.locator("#sign-in")).to_be_hidden()
    page.evaluate(AXE)
    for name in ("Overview", "Requests", "Playground", "Policy"):
        page.get_by_role("tab", name=name).click()
        if name == "Playground":
            expect(page.locator("#play-words .word").first).to_be_visible()
        assert page.evaluate(RUN) == [], name
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
    context.close()
