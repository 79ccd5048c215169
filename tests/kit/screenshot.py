"""A picture of the dashboard for the README: a gateway that sends to emulated providers for a while.

    python -m tests.kit.screenshot [FILE] [SECONDS] [light|dark]     default: deploy/dashboard.png 600 light

What is to be seen is real: providers have limits and lose patience (``outgate emulate``), sources are
slowed and quarantined by what is answered, and one is being warmed up.
"""

import json
import random
import re
import smtplib
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.authority import Authority
from tests.kit.browser import Browser, find_obstacle
from tests.kit.gateway import Gateway
from tests.kit.inbox import Inbox
from tests.kit.load import Load
from tests.kit.ports import find_free_port

_ROOT = Path(__file__).parents[2]
_PROVIDERS = _ROOT / "workers" / "emulation" / "providers" / "default.toml"
_MOST = 150_000  # octets of the picture
# How much of the mail goes where.
_SHARES = {
    "gmail.test": 40, "workspace.test": 10, "outlook.test": 14, "hotmail.test": 6, "yahoo.test": 8,
    "icloud.test": 4, "orange.test": 6, "grey.test": 2, "plain.test": 2, "gone.test": 1,
}  # fmt: skip
_TABLES = """
[[tenant]]
name = "shop"
domains = ["shop.example"]
networks = ["127.0.0.0/8"]
pool = "news"
[[source]]
name = "d"
address = "127.0.0.14"
ehlo = "d.out.example.net"
[[source]]
name = "e"
address = "127.0.0.15"
ehlo = "e.out.example.net"
warmup = "default"
[pool.news]
d = 3
e = 1
[[site]]
name = "gone.test"
domains = ["gone.test"]
[[site]]
name = "our-own"
domains = ["acme.example", "shop.example"]
"""


class Town(Load):
    """Senders of two tenants, who write to people at all providers, over TLS."""

    def _send_one(self, session: smtplib.SMTP, mark: str, count: int) -> None:
        if session.has_extn("starttls"):  # not said any more once it is on
            session.starttls(context=ssl._create_unverified_context())
            session.ehlo()
        chance = random.Random(mark)
        (domain,) = chance.choices(list(_SHARES), list(_SHARES.values()))
        sender = chance.choice(["kim@acme.example", "lee@acme.example", "news@shop.example"])
        session.mail(sender)
        session.rcpt(f"person{chance.randrange(100_000)}@{domain}")
        session.data(f"From: <{sender}>\r\nSubject: {mark}\r\n\r\n{'hello ' * 200}\r\n")


@contextmanager
def open_providers(directory: Path) -> Iterator[str]:
    """Run ``outgate emulate`` on free ports; yields the sites and routes that lead there, TOML."""
    file = directory / "providers.toml"
    text = re.sub(r"127\.0\.0\.1:26\d\d", _find_place, _PROVIDERS.read_text("utf-8"))
    file.write_text(text.replace('rate = "20/s burst 50"', 'rate = "2/s burst 20"'))
    command = [sys.executable, "-m", "workers.cli", "emulate", "-c", str(file), "--json"]
    command += ["--authority", str(directory / "providers.pem")]
    command += ["--every", "1h"]  # one line; nobody reads more of them
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["routes"]
        finally:
            process.terminate()


def _find_place(_: re.Match[str]) -> str:
    return f"127.0.0.1:{find_free_port()}"


def take(file: Path, seconds: float, *, dark: bool = False) -> None:
    """Send for so long, and take the picture. Raises RuntimeError when there is no browser."""
    if (obstacle := find_obstacle()) is not None:
        raise RuntimeError(obstacle)
    port = find_free_port()
    with (
        tempfile.TemporaryDirectory(prefix="screenshot-") as name,
        open_providers(Path(name)) as routes,
        Inbox() as ours,  # where notices go
        Gateway(
            {"gone.test": find_free_port(), "*.example": ours.port},
            delivery='processes = 1\nretry = ["30s", "2m", "10m"]\n'
            f'ca_file = "{name}/providers.pem"',
            ingress=_write_certificate(Path(name)),
            admin=f'listen = ["127.0.0.1:{port}"]',
            tables=_TABLES + routes,
        ) as gateway,
        Browser() as browser,
    ):
        browser.open(f"http://127.0.0.1:{port}/", dark=dark)
        with Town(gateway.port, list(_SHARES), threads=2, pause=0.04):
            time.sleep(seconds)
            browser.wait_for("adds up", ".tile.ledger")
            browser.shoot(file)
    shrink(file)


def _write_certificate(directory: Path) -> str:
    """Make a certificate for the ingress; return the lines of its configuration."""
    certificate, key = (
        Authority("screenshot authority").issue("gateway.example.net").write(directory)
    )
    return f'tls.certificate = "{certificate}"\ntls.key = "{key}"'


def shrink(file: Path) -> None:
    """Leave so many colours that the picture is small enough; text stays sharp."""
    from PIL import Image  # comes with matplotlib

    with Image.open(file) as picture:
        plain = picture.convert("RGB")
    for colours in (256, 128, 64, 32):
        plain.quantize(colours, dither=Image.Dither.NONE).save(file, optimize=True)
        if file.stat().st_size <= _MOST:
            return
    raise RuntimeError(f"{file} has {file.stat().st_size:,} octets; more than {_MOST:,}")


def main() -> None:
    """Read the arguments, and take it."""
    given = sys.argv[1:]
    file = Path(given[0]) if given else _ROOT / "deploy" / "dashboard.png"
    take(file, float(given[1]) if given[1:] else 600, dark=given[2:] == ["dark"])


if __name__ == "__main__":
    main()
