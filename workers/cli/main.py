"""The command ``outgate``: finds the subcommand, loads it, and turns errors into exit codes.

A command is a module ``workers/cli/<name>.py`` with ``add_arguments(parser)`` and
``run(arguments) -> int``; ``-c FILE`` (``arguments.config``) and, where the command prints state,
``--json`` are added here. Only the module that is called gets imported: `outgate --help` must not
wait for a mail server to load.

Exit codes: 0 it did what was asked; 1 it ran and failed; 2 the command line or the configuration
is wrong; 130 Ctrl-C.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from relay import __version__
from relay.errors import ConfigError, OutgateError, flatten
from relay.tether import watch_parent

# What these say may be JSON (log.format).
_SERVICES = frozenset(("up", "ingress", "worker", "admin"))
_INTERRUPTED = 130  # what a shell reports for a program that SIGINT ended
_CONFIG_HELP = "the configuration, a TOML file (default: $OUTGATE_CONFIG, else the defaults)"


@dataclass(frozen=True, slots=True)
class _Command:
    summary: str
    examples: tuple[str, ...]
    prints_state: bool = False
    config_help: str = _CONFIG_HELP


_COMMANDS = {
    "demo": _Command(
        "send a corpus through the whole system on loopback, and count what arrived",
        ("outgate demo", "outgate demo --watch", "outgate demo --json"),
        prints_state=True,
    ),
    "simulate": _Command(
        "send for weeks in minutes: the control loop, a fixed table and an oracle, compared",
        (
            "outgate simulate --out report.html",
            "outgate simulate --mix changing --policy loop --seed 2 --json",
            "outgate simulate -c providers.toml --days 30",
        ),
        prints_state=True,
        config_help="providers and mail, a TOML file as of `outgate emulate` (default: --mix)",
    ),
    "emulate": _Command(
        "run receivers on loopback that behave like providers: limits, greylisting, blocks, complaints",
        ("outgate emulate", "outgate emulate -c providers.toml --for 10m --json"),
        prints_state=True,
        config_help="the providers, a TOML file of their own (default: some that come with it)",
    ),
    "replay": _Command(
        "send a corpus of real messages to a server, or write it without what is personal",
        (
            "outgate replay corpus/ --to 127.0.0.1:2525",
            "outgate replay march.tar.zst --to gate.example.net:25 --as-recorded --factor 10",
            "outgate replay box.mbox --to 127.0.0.1:2525 --rate 100/s --state run.journal --report run.html",
            "outgate replay corpus/ --scrub clean.tar.zst",
        ),
        prints_state=True,
        config_help="the configuration; of it, [dns] looks up --to (default: $OUTGATE_CONFIG, else the defaults)",
    ),
    "up": _Command(
        "run ingress, workers and, without a [store] url, the store; in the foreground",
        ("outgate up -c outgate.toml",),
    ),
    "ingress": _Command(
        "run the service that accepts mail",
        ("outgate ingress -c outgate.toml",),
    ),
    "worker": _Command(
        "run a delivery service for all sources or for some",
        ("outgate worker -c outgate.toml", "outgate worker -c outgate.toml --source a --source b"),
    ),
    "admin": _Command(
        "run the dashboard, the HTTP interface and the metrics; `outgate up` runs it, too",
        ("outgate admin -c outgate.toml",),
    ),
    "alive": _Command(
        "say whether a service on this machine works; for the health checks of containers",
        ("outgate alive worker -c outgate.toml", "outgate alive"),
    ),
    "check": _Command(
        "read the configuration and say what is wrong with it; starts nothing",
        (
            "outgate check -c outgate.toml",
            "outgate check -c outgate.toml --json",
            "outgate check --reference | less",
        ),
        prints_state=True,
    ),
    "doctor": _Command(
        "look at store, resolver, certificate and sources: PTR, block lists, SPF; changes nothing",
        (
            "outgate doctor -c outgate.toml",
            "outgate doctor --only source,spf --source a",
            "outgate doctor --json",
        ),
        prints_state=True,
    ),
    "status": _Command(
        "print the ledger and what waits",
        ("outgate status -c outgate.toml", "outgate status -c outgate.toml --json"),
        prints_state=True,
    ),
    "explain": _Command(
        "tell the story of one message: what happened to it, why it waits, what comes next",
        ("outgate explain -c outgate.toml 01K9VZ8G5TQ4X7M2N3P6R8S900",),
        prints_state=True,
    ),
    "tail": _Command(
        "print events as they happen, a line each, until Ctrl-C",
        (
            "outgate tail -c outgate.toml",
            "outgate tail --event deferred --event bounced --site google",
            "outgate tail --tenant acme --json | jq -r .id",
        ),
        prints_state=True,
    ),
    "classify": _Command(
        "tell what replies of receivers mean: whose fault, what is done, by which rule",
        (
            "outgate classify --provider google < replies.txt",
            "echo '550 5.1.1 no such user' | outgate classify",
            "grep -oE ' [45][0-9]{2} .*' mail.log | outgate classify --json",
        ),
        prints_state=True,
    ),
    "top": _Command(
        "watch it live: what flows, what waits and why, how sources stand, what happened last",
        ("outgate top -c outgate.toml", "outgate top --once", "outgate top --interval 5s --json"),
        prints_state=True,
    ),
    "queues": _Command(
        "list what waits, for whom, since when, and for what",
        ("outgate queues -c outgate.toml", "outgate queues --site google --limit 50 --json"),
        prints_state=True,
    ),
    "sources": _Command(
        "list the addresses that mail leaves from, and how each stands with receivers",
        ("outgate sources -c outgate.toml", "outgate sources --source a --site google"),
        prints_state=True,
    ),
    "sites": _Command(
        "list receivers: limits, connections, what is left of rates, how sources stand there",
        ("outgate sites -c outgate.toml", "outgate sites --site google"),
        prints_state=True,
    ),
    "networks": _Command(
        "list the sets of networks that tenants send from, look one up, or accept a refused change",
        (
            "outgate networks -c outgate.toml",
            "outgate networks --check google",
            "outgate networks --accept google --why 'announced: ticket 4711'",
        ),
        prints_state=True,
    ),
    "suspend": _Command(
        "let a source, site, tenant or domain send nothing, until a time or until it is resumed",
        (
            "outgate suspend --source a --site google --for 4h --why 'blocked: ticket 4711'",
            "outgate suspend --domain example.com --why 'their postmaster asks for a pause'",
        ),
        prints_state=True,
    ),
    "resume": _Command(
        "end a suspension before its time",
        ("outgate resume --source a --site google --why delisted", "outgate resume --all"),
        prints_state=True,
    ),
    "retry": _Command(
        "try now what waits for its next attempt, is held, or whose site rests",
        (
            "outgate retry --domain example.com --why 'their server is back'",
            "outgate retry --id 01K9VZ8G5TQ4X7M2N3P6R8S900",
        ),
        prints_state=True,
    ),
    "bounce": _Command(
        "end deliveries now, and tell their senders",
        (
            "outgate bounce --tenant acme --domain example.com --dry-run",
            "outgate bounce --id 01K9VZ8G5TQ4X7M2N3P6R8S900 --why 'sent by mistake'",
        ),
        prints_state=True,
    ),
    "hold": _Command(
        "let deliveries wait until they are retried, bounced, or their time is over",
        ("outgate hold --tenant acme --why 'looks like a hacked account'",),
        prints_state=True,
    ),
    "tls": _Command(
        "check a host's TLS as strict senders do, or tell what would become of mail to a domain",
        (
            "outgate tls -c outgate.toml gateway.example.net",
            "outgate tls 127.0.0.1:2525 --name gateway.example.net",
            "outgate tls -c outgate.toml --domain example.org",
        ),
        prints_state=True,
    ),
    "audit": _Command(
        "verify the audit trail, export a tenant's part of it, seal it, take away what is old",
        (
            "outgate audit verify -c outgate.toml",
            "outgate audit export --tenant acme --from 2026-01-01 --to 2026-01-31 --output acme.jsonl",
            "outgate audit purge --dry-run",
        ),
        prints_state=True,
    ),
    "suppressed": _Command(
        "list recipients that are not tried any more, or let one be tried again",
        ("outgate suppressed", "outgate suppressed --lift bob@example.com --why 'he is back'"),
        prints_state=True,
    ),
    "archive": _Command(
        "find, get, hold and purge copies of messages that the archive keeps",
        (
            "outgate archive find --tenant acme --recipient bob@example.com --from 2026-07-01",
            "outgate archive get 01K9VZ8G5TQ4X7M2N3P6R8S900 --output message.eml",
            "outgate archive hold --tenant acme --to 2026-06-30 --why 'case 4711'",
            "outgate archive purge --dry-run",
        ),
        prints_state=True,
    ),
    "completion": _Command(
        "print what a shell needs to complete outgate's words: bash, zsh or fish",
        (
            "outgate completion bash > ~/.local/share/bash-completion/completions/outgate",
            "outgate completion zsh > ~/.zfunc/_outgate  # with fpath+=~/.zfunc before compinit",
            "outgate completion fish > ~/.config/fish/completions/outgate.fish",
        ),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the return value is the process' exit code."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except BaseException as error:
        return _report(error)


def _run(argv: Sequence[str]) -> int:
    # The only options before the command are --help and --version, so it is the first other word.
    name = next((word for word in argv if not word.startswith("-")), "")
    module = importlib.import_module(f"workers.cli.{name}") if name in _COMMANDS else None
    arguments = _build_parser({} if module is None else {name: module}).parse_args(argv)
    assert module is not None  # parse_args leaves when there is no such command
    watch_parent()
    _start_log(name, arguments.config)
    status: int = module.run(arguments)
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands, with all that they take. It imports each of them."""
    return _build_parser(
        {name: importlib.import_module(f"workers.cli.{name}") for name in _COMMANDS}
    )


def _build_parser(modules: Mapping[str, ModuleType]) -> argparse.ArgumentParser:
    """Return the parser; commands whose module is not given take only what all do."""
    parser = argparse.ArgumentParser(
        prog="outgate",
        description="Outbound mail gateway: SMTP in, Redis streams, validated TLS out.",
        epilog="example: outgate demo\n\n`outgate COMMAND --help` says more about each command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"outgate {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        found = commands.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog="\n".join(["example:", *(f"  {line}" for line in command.examples)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        found.add_argument("-c", "--config", metavar="FILE", help=command.config_help)
        if command.prints_state:
            found.add_argument("--json", action="store_true", help="print JSON, for programs")
        if name in modules:
            modules[name].add_arguments(found)
    return parser


def _start_log(command: str, config: str | None) -> None:
    """What services say to people goes to stderr, a line each: ``outgate: text``, or JSON.

    Raises ConfigError: services read their configuration once for this, and once for the rest.
    """
    from workers.cli.journal import start_journal

    as_json = False
    if command in _SERVICES:
        from relay.config import load

        as_json = load(config).log.format == "json"
    start_journal(command, as_json=as_json)


def _report(error: BaseException) -> int:
    """Say what went wrong, if it is for people; raise the rest, which is a bug's traceback.

    What comes out of nurseries is in groups; people do not need to know.
    """
    leaves = list(flatten(error))
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return _INTERRUPTED
    if all(isinstance(leaf, BrokenPipeError) for leaf in leaves):
        # `outgate status | head -1`: the reader has what it wanted. Python must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if not all(isinstance(leaf, OutgateError) for leaf in leaves):
        raise error
    from workers.cli.journal import say_error

    for leaf in leaves:
        for line in leaf.problems if isinstance(leaf, ConfigError) else [str(leaf)]:
            say_error(line)
    return 2 if any(isinstance(leaf, ConfigError) for leaf in leaves) else 1
