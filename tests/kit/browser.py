"""A real browser without a window: Debian's Chromium, which meets nothing but this host's loopback.

What is on a page is asked of it by scripts (``run``, ``wait``); what a user does is done by real events
(``click``, ``type``). Console errors and violations of the page's policy are kept (``read_problems``).
"""

import base64
import os
import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

_DRIVER = "/usr/bin/chromedriver"
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en-US",
    # Whatever a page asks for: no name is looked up, and no other host met.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
_PATIENCE = 20.0  # seconds until something should be there; the machine may be busy


def find_obstacle() -> str | None:
    """Return why there is no browser here, or None."""
    if find_spec("selenium") is None:
        return "selenium is not installed (make install)"
    if shutil.which("chromium") is None or not Path(_DRIVER).exists():
        return "chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"
    return None


class Browser:
    """One Chromium with a profile of its own; also a context manager."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        self._chrome: Chrome | None = None

    def __enter__(self) -> Self:
        from selenium.webdriver import ChromeOptions, ChromeService
        from selenium.webdriver.chrome.webdriver import WebDriver

        os.environ |= {"SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}  # it looks for no driver
        options = ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*_FLAGS, f"--user-data-dir={self._profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self._chrome = WebDriver(options, ChromeService(_DRIVER))
        return self

    def __exit__(self, *_: object) -> None:
        if self._chrome is not None:
            self._chrome.quit()
        shutil.rmtree(self._profile, ignore_errors=True)

    @property
    def chrome(self) -> "Chrome":
        """What drives it."""
        assert self._chrome is not None, "open it first"
        return self._chrome

    # -- pages --------------------------------------------------------------------------------

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show a page as a new visitor would see it, on a screen of that size, in px."""
        self.chrome.get("about:blank")
        self.chrome.execute_cdp_cmd("Network.clearBrowserCookies", {})
        origin = url.partition("#")[0]
        wipe = {"origin": origin.rstrip("/"), "storageTypes": "local_storage"}
        self.chrome.execute_cdp_cmd("Storage.clearDataForOrigin", wipe)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.read_problems()
        self.chrome.get(url)

    def read_problems(self) -> list[str]:
        """Return what the console has said since the last time, but for answers that were errors."""
        entries: list[dict[str, Any]] = self.chrome.get_log("browser")  # type: ignore[no-untyped-call]
        texts = [str(entry["message"]) for entry in entries if entry["level"] == "SEVERE"]
        return [text for text in texts if "Failed to load resource" not in text]

    def shoot(self, path: Path) -> None:
        """Take a picture of the whole page, PNG."""
        tall = self.run("return document.documentElement.scrollHeight")
        wide = self.run("return document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": wide, "height": tall, "scale": 1}
        wanted = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        shot = self.chrome.execute_cdp_cmd("Page.captureScreenshot", wanted)
        path.write_bytes(base64.b64decode(shot["data"]))

    # -- looking ------------------------------------------------------------------------------

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page, and return what it returns."""
        return self.chrome.execute_script(script, *arguments)

    def wait(self, script: str, *arguments: object, seconds: float = _PATIENCE) -> Any:
        """Run a script again and again until it returns something true, and return that."""
        deadline = time.monotonic() + seconds
        while not (found := self.run(script, *arguments)):
            if time.monotonic() > deadline:
                raise AssertionError(f"it did not come to that: {script}\n\n{self.read()}")
            time.sleep(0.1)
        return found

    def read(self, css: str = "body") -> str:
        """Return the text of the first element of a selector, as it is seen; "": there is none."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", css))

    def wait_for(self, text: str, css: str = "body", *, seconds: float = _PATIENCE) -> None:
        """Wait until an element of a selector shows a text."""
        script = "return [...document.querySelectorAll(arguments[0])].some((one) => (one.innerText ?? one.textContent).includes(arguments[1]))"
        self.wait(script, css, text, seconds=seconds)

    # -- doing --------------------------------------------------------------------------------

    def find(self, css: str, text: str = "") -> "WebElement":
        """Wait for the first element of a selector that shows a text, and return it."""
        script = "return [...document.querySelectorAll(arguments[0])].find((one) => (one.innerText ?? one.textContent).includes(arguments[1]))"
        element: WebElement = self.wait(script, css, text)
        return element

    def click(self, css: str, text: str = "") -> None:
        """Click on the first element of a selector that shows a text.

        The page is drawn anew all the time: an element that has gone meanwhile is looked for again.
        """
        from selenium.common import StaleElementReferenceException

        for _ in range(5):
            try:
                element = self.find(css, text)
                self.run("arguments[0].scrollIntoView({ block: 'center' })", element)
                return element.click()
            except StaleElementReferenceException:
                continue
        raise AssertionError(f"{css} {text!r} does not stay where it is")

    def type(self, css: str, text: str) -> None:
        """Put a text into a field, in place of what it holds."""
        field = self.find(css)
        field.clear()
        field.send_keys(text)
