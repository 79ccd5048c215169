"""Services of the Compose file as processes on loopback, from the commands that stand there.

What a container would have is put in its place: its address is one of 127.N.0.0/16 (172.30.24.10 is
127.N.24.10), names of services become addresses, mounts and secrets files of a temporary directory.
Everything else, commands, environment, configuration and health checks, is what Docker would run.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from relay.store.binary import find_binary
from tests.kit.composed import find_file, find_mounts, read_composed
from tests.kit.egress import find_program

_ROOT = Path(__file__).parents[2]
# The address of the first container of a service, without its network's beginning.
_ADDRESSES = {
    "store": "23.2",
    "balancer": "24.10",
    "ingress": "24.64",
    "worker": "25.8",
    "admin": "26.2",
    "prometheus": "26.3",
}
RUNNING = tuple(_ADDRESSES)
_OUTGATE = [sys.executable, "-m", "workers.cli"]


def find_missing(*services: str) -> str | None:
    """Return why some of these cannot run here, or None."""
    for service, program in (("balancer", "haproxy"), ("prometheus", "prometheus")):
        if service in services and find_program(program) is None:
            return f"{program} is not installed (Debian package {program})"
    return None


class Uncontained:
    """Processes of services, until ``stop``. ``edits``: more replacements in files, text -> text."""

    def __init__(self, base: Path, edits: Mapping[str, str]) -> None:
        self._base = base
        self._edits = edits
        self._services: dict[str, dict[str, Any]] = read_composed()["services"]
        self._secrets = read_composed()["secrets"]
        self._running: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        # Ports are those of the file, so the network is one that nobody else has.
        self.network = f"127.{random.randrange(31, 250)}"
        deploy = base / "deploy"
        (deploy / "secrets").mkdir(parents=True)
        shutil.copy(_ROOT / "deploy/make-secrets.sh", deploy)
        subprocess.run(["sh", deploy / "make-secrets.sh"], check=True, capture_output=True)

    def find_address(self, service: str, number: int = 1) -> str:
        """Return the address of the Nth container of a service."""
        third, _, last = _ADDRESSES[service].partition(".")
        return f"{self.network}.{third}.{int(last) + number - 1}"

    def find_secret(self, name: str) -> Path:
        """Return the file of a secret."""
        return self._base / "deploy/secrets" / Path(self._secrets[name]["file"]).name

    def start(self, service: str, number: int = 1) -> None:
        """Run the Nth container of a service, without its container."""
        place = self._find_place(service, number)
        place.mkdir(parents=True)
        for target, source in find_mounts(self._services[service]).items():
            self._mount(source, place / target.lstrip("/"), service, number)
        for target in self._services[service].get("tmpfs", ()):
            (place / target.partition(":")[0].lstrip("/")).mkdir(parents=True, exist_ok=True)
        with (place / "output").open("wb") as output:
            self._running[service, number] = subprocess.Popen(
                self._make_command(service, number), cwd=_ROOT, stdin=subprocess.DEVNULL,
                env=self._make_environment(service, number), stdout=output, stderr=output,
            )  # fmt: skip

    def check(self, service: str, number: int = 1) -> bool:
        """Run the health check of a container that runs; say whether it is well."""
        process = self._running[service, number]
        if process.poll() is not None:
            raise RuntimeError(
                f"{service} {number} has ended:\n{self.read_output(service, number)}"
            )
        words = [self._translate(word, service, number) for word in self._find_test(service)]
        here = self.find_address(service, number)
        words = [re.sub(r"127\.0\.0\.1(?=[:/])", here, word) for word in words]
        client = shutil.which("valkey-cli") or "redis-cli"
        words = [re.sub(r"\bvalkey-cli\b", f"{client} -h {here}", word) for word in words]
        done = subprocess.run(
            self._choose_program(words, here), cwd=_ROOT, capture_output=True, check=False,
            env=self._make_environment(service, number), timeout=60,
        )  # fmt: skip
        return done.returncode == 0 and done.stdout.strip() in (b"", b"PONG")

    def ask(self, service: str, *words: str) -> Any:
        """Return what `docker compose exec SERVICE outgate WORDS --json` would print."""
        done = subprocess.run(
            [*_OUTGATE, *words, "--json"], cwd=_ROOT, capture_output=True, check=True, timeout=60,
            env=self._make_environment(service, 1),
        )  # fmt: skip
        return json.loads(done.stdout)

    async def wait_until_well(self, *services: tuple[str, int], seconds: float = 90) -> None:
        """Wait until the health checks of these say yes."""
        for service, number in services:
            deadline = time.monotonic() + seconds
            while not await trio.to_thread.run_sync(self.check, service, number):
                if time.monotonic() > deadline:
                    said = self.read_output(service, number)
                    raise RuntimeError(f"{service} {number} does not get well:\n{said}")
                await trio.sleep(0.2)

    def end(self, service: str, number: int = 1) -> int:
        """End one as Docker does; return its exit status."""
        process = self._running.pop((service, number))
        process.terminate()
        grace = int(self._services[service].get("stop_grace_period", "10s").removesuffix("s"))
        return process.wait(grace)

    def stop(self) -> None:
        """End all, those first that need the others."""
        for process in reversed(self._running.values()):
            process.terminate()
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()

    def read_output(self, service: str, number: int = 1) -> str:
        """Return what it has printed."""
        return (self._find_place(service, number) / "output").read_text("utf-8", "replace")

    def _find_place(self, service: str, number: int) -> Path:
        return self._base / f"{service}-{number}"

    def _find_test(self, service: str) -> list[str]:
        test: list[str] = self._services[service]["healthcheck"]["test"]
        assert test[0] == "CMD"
        return test[1:]

    def _mount(self, source: str, target: Path, service: str, number: int) -> None:
        """Copy a file, or a directory of files, with what differs here; a volume is a directory."""
        if not source.startswith("."):
            target.mkdir(parents=True)
            return
        file = find_file(source)
        for one in file.iterdir() if file.is_dir() else [file]:
            copy = target / one.name if file.is_dir() else target
            copy.parent.mkdir(parents=True, exist_ok=True)
            text = self._translate(one.read_text("utf-8"), service, number)
            for old, new in self._edits.items():
                text = text.replace(old, new)
            copy.write_text(text)

    def _translate(self, text: str, service: str, number: int) -> str:
        """Replace names, addresses and paths of containers."""
        place, here = self._find_place(service, number), self.find_address(service, number)
        text = re.sub(
            r"\b(store|admin|prometheus):(?=\d)", lambda m: f"{self.find_address(m[1])}:", text
        )
        text = text.replace("172.30.", f"{self.network}.").replace("0.0.0.0", here)
        # A balancer's connections come from its address; on loopback that has to be said.
        text = text.replace("bind :", f"bind {here}:")
        text = text.replace(
            "backend ingress\n    balance", f"backend ingress\n    source {here}\n    balance"
        )
        text = re.sub(r"/run/secrets/(\w+)", lambda m: str(self.find_secret(m[1])), text)
        if service == "worker":
            # It has one address of its network's, and cannot bind the others.
            mine = here.rpartition(".")[2]
            text = re.sub(
                rf"{self.network}\.25\.(\d+)",
                lambda m: m[0] if m[1] == mine else f"192.0.2.{m[1]}",
                text,
            )
        mounted = [*find_mounts(self._services[service])]
        mounted += [one.partition(":")[0] for one in self._services[service].get("tmpfs", ())]
        for target in sorted(mounted, key=len, reverse=True):
            if target != "/tmp":
                text = re.sub(rf"(?<![\w.-]){target}(?=[/\"]|$)", f"{place}{target}", text)
        return text

    def _make_environment(self, service: str, number: int) -> dict[str, str]:
        there: dict[str, str] = self._services[service].get("environment", {})
        clean = {key: value for key, value in os.environ.items() if not key.startswith("OUTGATE_")}
        return clean | {
            key: self._translate(value, service, number) for key, value in there.items()
        }

    def _make_command(self, service: str, number: int) -> list[str]:
        there: list[str] = self._services[service]["command"]
        words = [self._translate(word, service, number) for word in there]
        if self._services[service]["image"] == "outgate":
            return [*_OUTGATE, *words]
        here, place = self.find_address(service, number), self._find_place(service, number)
        if service == "store":
            words += ["--bind", here, "--dir", f"{place}/data"]
        if service == "prometheus":
            words = ["prometheus", *words, f"--web.listen-address={here}:9090"]
        return self._choose_program(words, here)

    def _choose_program(self, words: list[str], here: str) -> list[str]:
        """Take the program that is on this machine for one that an image has."""
        name, *rest = words
        if name == "outgate":
            return [*_OUTGATE, *rest]
        if name == "valkey-server":
            return [str(find_binary().path), *rest]
        found = find_program(name)
        assert found, f"{name} is not installed"
        return [found, *rest]
