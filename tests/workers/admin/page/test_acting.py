"""What operators do from the page: it asks first, wants a reason, and says what became of it."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.kit.browser import Browser
from tests.workers.admin.page.conftest import House

pytestmark = pytest.mark.slow


def read_status(house: House) -> Any:
    """Ask another process what the store holds."""
    command = [sys.executable, "-m", "workers.cli", "status", "-c", str(house.gateway.config)]
    done = subprocess.run([*command, "--json"], capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_a_queue_is_suspended_and_resumed(browser: Browser, house: House) -> None:
    browser.open(f"{house.url}#/queue/acme/later.test")
    browser.click(".title .act", "Suspend")
    browser.click("dialog .confirm")  # without a reason
    assert browser.run("return document.querySelector('dialog').open")
    assert read_status(house)["suspensions"] == []

    browser.type("dialog [name=why]", "they asked")
    browser.type("dialog [name=who]", "kim")
    browser.click("dialog .confirm")

    browser.wait_for("Suspended: tenant=acme domain=later.test", "#toasts")
    (one,) = read_status(house)["suspensions"]
    assert (one["what"], one["why"]) == ("tenant=acme domain=later.test", "they asked")
    assert one["who"].startswith("kim@admin from 127.0.0.1")

    browser.click("nav a", "Overview")
    browser.wait_for("they asked", ".wrong")
    browser.click(".wrong .act", "Resume")
    browser.type("dialog [name=why]", "they are well again")
    browser.click("dialog .confirm")

    browser.wait_for("Resumed: tenant=acme domain=later.test", "#toasts")
    assert read_status(house)["suspensions"] == []


def test_who_cancels_changes_nothing(browser: Browser, house: House) -> None:
    browser.open(f"{house.url}#/source/a")
    browser.click(".title .act", "Suspend")
    browser.type("dialog [name=why]", "a slip")
    browser.click("dialog button", "Cancel")

    browser.wait("return document.querySelector('dialog') === null")
    assert read_status(house)["suspensions"] == []


def test_a_message_is_bounced_after_it_was_counted(browser: Browser, house: House) -> None:
    (identity,) = house.post("later.test")
    browser.open(f"{house.url}#/message/{identity}")
    browser.wait_for("next attempt", "[aria-label='Now']")
    browser.click(".title .act", "Bounce")
    browser.wait_for("1 delivery would be meant", "dialog .preview")
    browser.type("dialog [name=why]", "sent by mistake")
    browser.click("dialog .confirm")

    browser.wait_for("1 delivery ended", "#toasts")
    browser.wait_for("ended", "[aria-label='Now']")
    browser.wait_for("sent by mistake", ".story")
