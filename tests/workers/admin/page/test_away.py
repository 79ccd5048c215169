"""Nobody answers, or not everybody may ask: what the page says then, and that it comes back by itself."""

import pytest

from tests.kit.browser import Browser
from tests.kit.desk import Desk
from tests.kit.redis import Server

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-the-test-0123456789"


def test_the_store_goes_away_and_comes_back(browser: Browser, desk: Desk, cellar: Server) -> None:
    browser.open(desk.url)
    browser.wait_for("live", ".state")

    cellar.pause()
    try:
        browser.wait_for("The store does not answer", "#notices")
        assert "What is shown is from" in browser.read("#notices")
        assert browser.read(".state") == "store away"
        assert "adds up" in browser.read(".tile.ledger")  # what was known stays
    finally:
        cellar.go_on()

    browser.wait_for("live", ".state")
    assert browser.read("#notices") == ""


def test_the_service_goes_away_and_comes_back(browser: Browser, cellar: Server) -> None:
    with Desk(cellar.url) as desk:
        browser.open(desk.url)
        browser.wait_for("live", ".state")

        desk.kill()
        browser.wait_for("The admin service does not answer", "#notices")
        assert "Mail flows without it" in browser.read("#notices")

        desk.start()
        browser.wait_for("live", ".state")
        assert browser.read("#notices") == ""


def test_a_token_is_asked_for_once(browser: Browser, cellar: Server) -> None:
    with Desk(cellar.url, token=TOKEN) as desk:
        browser.open(desk.url)
        browser.wait_for("Who is there?")
        assert "adds up" not in browser.read("main")

        browser.type("[name=token]", "not-the-right-token-at-all\n")
        browser.wait_for("That token is not one", "#toasts")
        browser.type("[name=token]", TOKEN + "\n")
        browser.wait_for("adds up", ".tile.ledger")

        browser.chrome.refresh()
        browser.wait_for("adds up", ".tile.ledger")
        assert TOKEN not in browser.run("return document.cookie + JSON.stringify(localStorage)")

        browser.click("#top button", "Log out")
        browser.wait_for("Who is there?")
