"""``outgate check``: reads the configuration and says what is wrong with it. Starts nothing."""

import argparse
import datetime as dt
import json
import os
from collections.abc import Iterator

from relay.archive.seal import read_keys
from relay.config import Config, find_notices, load
from relay.config.schema import IngressTls
from relay.dkim.sign import load_signer
from relay.errors import CertificateRefused, ConfigError, StartError
from relay.ingress.desk import load_signers
from relay.net.certificates import Certificate, list_pairs, load_pair, read_certificate
from workers.cli.reference import write_reference
from workers.site import find_notices as find_site_notices
from workers.tls.pkix import Authorities


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The reference."""
    parser.add_argument(
        "--reference", action="store_true", help="print all keys that there are, as Markdown"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print ``FILE: ok`` and the notices; raises ConfigError, or prints it as JSON."""
    if arguments.reference:
        print(write_reference(), end="")
        return 0
    name = arguments.config or os.environ.get("OUTGATE_CONFIG") or "no file, all defaults"
    try:
        config = _load(arguments.config, name)
    except ConfigError as error:
        if not arguments.json:
            raise
        _print_json(problems=error.problems, notices=[])
        return 2
    notices = _find_notices(config)
    if arguments.json:
        _print_json(problems=[], notices=notices)
    else:
        print("\n".join([f"{name}: ok", *(f"{name}: note: {notice}" for notice in notices)]))
    return 0


def _load(path: str | None, name: str) -> Config:
    config = load(path)
    if problems := [
        *find_tls_problems(config.ingress.tls),
        *_find_ingress_problems(config),
        *_find_worker_problems(config),
    ]:
        raise ConfigError([f"{name}: {problem}" for problem in problems])
    return config


def _print_json(*, problems: list[str], notices: list[str]) -> None:
    print(json.dumps({"ok": not problems, "problems": problems, "notices": notices}))


def find_tls_problems(tls: IngressTls) -> list[str]:
    """Load certificates and keys as the ingress will: are they what they should be, pairs?"""
    problems = []
    for pair in list_pairs(tls):
        try:
            load_pair(pair)
        except CertificateRefused as error:
            problems.append(str(error))
    return problems


def _find_ingress_problems(config: Config) -> Iterator[str]:
    """Read the keys that an ingress will read."""
    try:
        for _ in load_signers(config.tenant):
            pass
    except StartError as error:
        yield str(error)
    try:
        read_keys(config.archive.key_file)
    except StartError as error:
        yield str(error)


def _find_worker_problems(config: Config) -> Iterator[str]:
    """Read the files that a worker will read."""
    reports = config.tls_reports
    try:
        Authorities.load(config.delivery.ca_file)
    except StartError as error:
        yield str(error)
    try:
        if reports.dkim_key_file:
            load_signer(reports.sender, reports.dkim_selector, reports.dkim_key_file)
    except StartError as error:
        yield str(error)


def _find_notices(config: Config) -> list[str]:
    now = dt.datetime.now(dt.UTC)
    ends = [_describe(read_certificate(pair), now) for pair in list_pairs(config.ingress.tls)]
    return [*find_notices(config), *find_site_notices(config), *ends]


def _describe(certificate: Certificate, now: dt.datetime) -> str:
    """Say how long the certificate is good for."""
    text = certificate.describe(now)
    if certificate.find_fault(now):
        return f"{text}: senders that verify it will not come; renew it"
    return f"{text}: renew it" if certificate.ends_soon(now) else text
