"""From a figure to a message, and what strangers wrote on the way: in a real browser."""

import pytest

from tests.kit.browser import Browser
from tests.workers.admin.page.conftest import HOSTILE, House

pytestmark = pytest.mark.slow


def check_harmless(browser: Browser) -> None:
    """What was written as HTML is text."""
    assert browser.run("return window.pwned === undefined")
    assert browser.run("return document.querySelectorAll('main img').length") == 0


def test_a_click_leads_to_a_queue_and_to_a_message(browser: Browser, house: House) -> None:
    browser.open(house.url)
    browser.click("[aria-label='What waits, by site'] a", "later.test")
    browser.wait_for("later.test", "h1")
    browser.click("[aria-label='Queues'] a", "later.test")
    browser.wait_for("next attempt", ".why")
    browser.click("[aria-label='Deliveries'] a", house.waiting[0])

    browser.wait_for("Story")
    assert house.waiting[0] in browser.read("h1")
    assert "next attempt" in browser.read("[aria-label='Now']")
    story = browser.read(".story")
    assert "accepted" in story
    assert "deferred" in story
    assert "from source" in story


def test_what_a_host_replied_is_text_and_nothing_else(browser: Browser, house: House) -> None:
    browser.open(f"{house.url}#/message/{house.waiting[0]}")

    browser.wait_for(f"450 4.2.0 {HOSTILE}", ".replies q")
    browser.click("summary", "all of it")
    browser.wait_for("img src=x", ".event pre")
    check_harmless(browser)


@pytest.mark.parametrize("by", ["recipient", "domain", "id"])
def test_messages_are_found(browser: Browser, house: House, by: str) -> None:
    wanted = house.bounced[0]
    texts = {"recipient": "r0@gone.test", "domain": "gone.test", "id": wanted}
    browser.open(house.url)
    browser.type(".find input", texts[by] + "\n")
    if by != "id":
        browser.click("[aria-label='Messages'] a", wanted)

    browser.wait_for("ended", "[aria-label='Now']")
    assert wanted in browser.read("h1")
    assert "nobody of that name" in browser.read(".story")


def test_the_search_form_says_what_was_searched_for(browser: Browser, house: House) -> None:
    browser.open(f"{house.url}#/messages?domain=later.test&outcome=queued")

    browser.wait_for(house.waiting[0], "[aria-label='Messages']")
    assert HOSTILE in browser.read("[aria-label='Messages']")  # in the Message-ID
    check_harmless(browser)
    assert browser.run("return document.querySelector('main [name=text]').value") == "later.test"
    assert browser.run("return document.querySelector('[name=outcome]').value") == "queued"
    assert house.bounced[0] not in browser.read("main")


def test_events_show_up_as_they_happen(browser: Browser, house: House) -> None:
    browser.open(f"{house.url}#/events?domain=good.test")
    browser.wait_for("Nothing has happened since.")

    (identity,) = house.post("good.test")

    browser.wait_for(identity, ".tail")
    browser.wait_for("delivered", ".tail")


def test_an_address_that_names_nothing_says_so(browser: Browser, house: House) -> None:
    browser.open(f"{house.url}#/nowhere/at/all")
    browser.wait_for("There is no such page")

    browser.open(f"{house.url}#/message/{'0' * 24}")
    browser.wait_for("nothing is known of")
