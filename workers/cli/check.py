"""``outgate check``: reads the configuration and says what is wrong with it. Starts nothing."""

import argparse
import datetime as dt
import json
import os
import ssl
from pathlib import Path

from cryptography import x509

from relay.config import Config, find_notices, load
from relay.config.schema import IngressTls
from relay.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Print ``FILE: ok`` and the notices; raises ConfigError, or prints it as JSON."""
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
    if problems := find_tls_problems(config.ingress.tls):
        raise ConfigError([f"{name}: {problem}" for problem in problems])
    return config


def _print_json(*, problems: list[str], notices: list[str]) -> None:
    print(json.dumps({"ok": not problems, "problems": problems, "notices": notices}))


def find_tls_problems(tls: IngressTls) -> list[str]:
    """Load certificate and key as the ingress will: are they what they should be, a pair?"""
    if not tls.certificate:
        return []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password given, OpenSSL would ask for that of an encrypted key at the terminal.
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        return [f"ingress.tls: {_explain(error, tls)}"]
    return []


def _explain(error: Exception, tls: IngressTls) -> str:
    files = f"{tls.certificate}, {tls.key}"
    reason = getattr(error, "reason", None) or ""
    if reason == "KEY_VALUES_MISMATCH":
        return f"the key does not belong to the certificate ({files})"
    if isinstance(error, ssl.SSLError | ValueError):
        return f"expected a certificate chain and its key without a password, in PEM ({files})"
    return f"cannot be read ({files}): {error}"


def _find_notices(config: Config) -> list[str]:
    notices = list(find_notices(config))
    if config.ingress.tls.certificate:
        notices.append(_describe_certificate(Path(config.ingress.tls.certificate)))
    return notices


def _describe_certificate(path: Path) -> str:
    """Say how long the certificate is good for."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    end = certificate.not_valid_after_utc
    days = (end - dt.datetime.now(dt.UTC)).days
    if days < 0:
        return (
            f"the certificate has expired, on {end:%Y-%m-%d}: senders that verify it will not come"
        )
    return f"the certificate is good until {end:%Y-%m-%d} ({days} days)"
