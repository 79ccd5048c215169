"""The first page, in a real browser: empty, with mail, on a phone, in the dark, without a reload."""

import pytest

from tests.kit.browser import Browser
from tests.kit.desk import Desk, ask
from tests.workers.admin.page.conftest import GONE, GOOD, LATER, House

pytestmark = pytest.mark.slow

VIEWS = (
    "", "#/queues", "#/queue/acme/later.test", "#/sources", "#/source/a", "#/site/later.test",
    "#/standing/a/later.test", "#/messages", "#/events", "#/tenants",
)  # fmt: skip


def read_tile(browser: Browser, name: str) -> str:
    return browser.read(f".tile.{name} .text")


def test_where_nothing_has_happened_it_says_what_to_do_first(browser: Browser, desk: Desk) -> None:
    browser.open(desk.url)

    browser.wait_for("No mail yet")
    assert "swaks --server" in browser.read("pre")
    assert "--from you@acme.example" in browser.read("pre")
    assert "No worker is alive" in browser.read(".wrong")
    assert "adds up" in browser.read(".tile.ledger")


def test_its_figures_are_those_of_the_ledger(browser: Browser, house: House) -> None:
    browser.open(house.url)
    browser.wait_for("adds up", ".tile.ledger")

    ledger = house.gateway.read_ledger()
    assert ask(house.url, "status")["ledger"] == {
        name: getattr(ledger, name) for name in ledger.__slots__
    }
    browser.wait_for(f"{ledger.accepted} recipients in all", ".tile.accepted")
    assert read_tile(browser, "delivered") == f"{ledger.delivered} in all"
    assert read_tile(browser, "bounced").startswith(f"{ledger.bounced} in all")
    assert browser.read(".tile.queued .value") == f"{ledger.queued}"
    assert ledger.accepted >= GOOD + LATER + GONE


def test_it_says_why_mail_waits(browser: Browser, house: House) -> None:
    browser.open(house.url)

    browser.wait_for("later.test", "[aria-label='What waits, by site'] table")
    # Why is in another answer than how many, and may come after it.
    row = browser.find("[aria-label='What waits, by site'] tbody tr", "next attempt").text
    assert row.startswith("later.test")
    assert f"{LATER}" in row
    browser.wait_for("good.test", ".heat")  # a source has sent there
    browser.wait_for("acme", "[aria-label='Tenants'] table")


def test_what_is_accepted_meanwhile_shows_up_without_a_reload(
    browser: Browser, house: House
) -> None:
    before = house.gateway.read_ledger().accepted
    browser.open(house.url)
    browser.wait_for(f"{before} recipients in all", ".tile.accepted")
    browser.run("window.mark = 'still the same page'")

    house.post("good.test", 4)

    browser.wait_for(f"{before + 4} recipients in all", ".tile.accepted")
    assert browser.run("return window.mark") == "still the same page"


def test_a_chart_tells_its_values_to_who_points_at_it(browser: Browser, house: House) -> None:
    browser.open(house.url)
    browser.find(".plot .curve, .plot circle")

    browser.run("document.querySelector('.plot svg').focus()")
    browser.chrome.switch_to.active_element.send_keys("\ue012")  # the left arrow

    browser.wait_for("accepted", ".plot .reading")


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_shows_all_of_it(browser: Browser, house: House, view: str) -> None:
    browser.open(house.url + view, width=390, height=844)
    browser.wait(
        "return document.querySelector('main .view') && !document.querySelector('main [aria-busy]')"
    )

    assert browser.run("return document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", ["", "#/queues", "#/sources", "#/messages"])
def test_text_can_be_read(browser: Browser, house: House, view: str, dark: bool) -> None:
    browser.open(house.url + view, dark=dark)
    browser.wait(
        "return document.querySelector('main .view') && !document.querySelector('main [aria-busy]')"
    )

    assert browser.run(_FIND_FAINT) == []
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in ground[4:-1].split(",")) < 200) is dark


def test_colours_can_be_chosen(browser: Browser, desk: Desk) -> None:
    browser.open(desk.url)
    browser.click(".theme")  # light
    browser.click(".theme")  # dark

    browser.wait("return document.documentElement.dataset.theme === 'dark'")
    browser.chrome.refresh()
    assert browser.wait("return document.documentElement.dataset.theme") == "dark"


# WCAG 2.2, 1.4.3: of each text, its colour against what lies under it, 4.5 at least. A canvas reads
# colours in any notation.
_FIND_FAINT = """
const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
  .getContext("2d", { willReadFrequently: true });
const read = (grounds) => {
  pen.clearRect(0, 0, 1, 1);
  for (const ground of grounds) { pen.fillStyle = ground; pen.fillRect(0, 0, 1, 1); }
  return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const shine = (rgb) => {
  const [r, g, b] = rgb.map((part) => part / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const found = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest(".unseen, .skip")) continue;
  const style = getComputedStyle(element);
  const grounds = [];
  for (let one = element; one !== null; one = one.parentElement) grounds.unshift(getComputedStyle(one).backgroundColor);
  const [text, ground] = [read([...grounds, element.closest("svg") ? style.fill : style.color]), read(grounds)].map(shine);
  const contrast = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
  if (contrast < 4.5) found.add(`${walker.currentNode.data.trim()}: ${contrast.toFixed(2)} (${element.className})`);
}
return [...found];
"""
