"""How ``outgate tls`` looks on a terminal."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from workers.cli.page import open_console
from workers.tls.outlook import VERIFIERS, Forecast, HostView, Record, Sts
from workers.tls.probe import Check, Probed, Session
from workers.tls.shown import Shown
from workers.views.words import format_count, format_span

_STATES = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "failed": ("FAILED", "bold red"),
    "skipped": ("-", "dim"),
}
_TITLES = {"starttls": "STARTTLS", "tls": "TLS"}
_VERDICTS = {"goes": "bold green", "waits": "bold yellow", "bounces": "bold red"}
_SHOWN_NAMES = 8
_RECORD = 30  # characters of a TLSA record
_NARROW, _WIDE = 9, 11  # columns of titles

_Rows = Iterable[tuple[str, str | Text]]


# -- outgate tls HOST


def show_probed(probed: Probed) -> None:
    """Print checks, certificates and records."""
    console = open_console()
    at = f" ({probed.address})" if probed.address not in ("", probed.host) else ""
    console.print(Text(f"{probed.host} port {probed.port}{at}", "bold"))
    console.print(_tabulate_checks(probed.checks))
    console.print(Text(f"\ntrusted: {probed.trusted}", "dim"))
    for number, one in enumerate(probed.certificates):
        title = f"certificate {number + 1}: {one.subject or 'without a subject'}"
        console.print(Text(f"\n{title}", "bold"))
        _print_rows(console, _list_certificate(one), _NARROW)
    _print_records(console, probed)
    console.print()
    if probed.ok:
        console.print(Text("would pass: senders that demand validated TLS will send", "bold green"))
        return
    failed = [_title(check.name) for check in probed.checks if check.state == "failed"]
    console.print(Text(f"would FAIL: {', '.join(failed) or 'not all was seen'}", "bold red"))


def _tabulate_checks(checks: Sequence[Check]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(min_width=7)
    table.add_column()
    table.add_column(overflow="fold")
    for check in checks:
        word, style = _STATES[check.state]
        text = Text(check.text, style if check.state == "skipped" else "")
        if check.advice:
            text.append(f"\n{check.advice}", "yellow")
        table.add_row(Text(word, style), _title(check.name), text)
    return table


def _title(name: str) -> str:
    return _TITLES.get(name, name)


def _list_certificate(one: Shown) -> _Rows:
    yield "issuer", one.issuer or "cannot be read"
    if one.names:
        more = len(one.names) - _SHOWN_NAMES
        rest = f" and {more} more" if more > 0 else ""
        yield "names", ", ".join(one.names[:_SHOWN_NAMES]) + rest
    yield "valid", _format_validity(one)
    yield "key", one.key
    yield "SHA-256", one.fingerprint


def _format_validity(one: Shown) -> str:
    return f"from {one.starts:%Y-%m-%d} {_format_end(one)}" if one.starts else _format_end(one)


def _format_end(one: Shown) -> str:
    if one.expires is None or one.days is None:
        return "until nobody knows when"
    left = f"{format_count(one.days, 'day')} left" if one.days >= 0 else "expired"
    return f"until {one.expires:%Y-%m-%d} ({left})"


def _print_records(console: Console, probed: Probed) -> None:
    records = [one for one in probed.certificates if one.tlsa]
    if not records or not probed.tlsa_name:
        return
    console.print(Text(f"\nTLSA records for {probed.tlsa_name}", "bold"))
    console.print(Text("  of use in a zone with DNSSEC; one is enough", "dim"))
    for number, one in enumerate(records):
        what = f"the key of {one.subject}" if number else "the host's own key"
        # To be copied: never broken, however narrow the terminal is.
        console.print(Text(f"  {one.tlsa}"), soft_wrap=True)
        console.print(Text(f"    {what}", "dim"))


# -- outgate tls --domain


def show_forecast(found: Forecast) -> None:
    """Print all that the decision stands on, and the decision."""
    console = open_console()
    console.print(Text(found.domain, "bold"))
    _print_rows(console, _list_domain(found), _WIDE)
    for number, host in enumerate(found.hosts):
        console.print(Text(f"\n{_title_host(number + 1, host)}", "bold"))
        _print_rows(console, _list_host(host), _WIDE)
    console.print()
    console.print(Text(found.text, _VERDICTS[found.verdict]))


def _list_domain(found: Forecast) -> _Rows:
    yield "resolver", _describe_resolver(found)
    if found.origin == "route":
        yield "hosts", "from a [[route]] of the configuration; no MX look-up, no MTA-STS"
    elif found.origin == "implicit":
        yield "MX", "none: the domain itself is the host"
    if found.mx:
        yield "MX", ", ".join(f"{mx.preference} {mx.name or '.'}" for mx in found.mx)
    if found.origin not in ("", "route"):
        yield "DNSSEC", "validated" if found.secure else "not validated: no DANE"
    if found.sts is not None:
        yield "MTA-STS", _describe_sts(found.sts)
    if found.origin:
        yield "reports", ", ".join(found.reports) or "not wanted (no record at _smtp._tls)"
    if found.site:
        yield "site", f"{found.site} (tls = {found.level})"


def _describe_resolver(found: Forecast) -> str | Text:
    servers = ", ".join(found.nameservers)
    if found.trusted:
        return f"{servers} (what it says it has validated is believed)"
    return Text(
        f"{servers}: not believed to validate, so no DANE. Run a validating resolver on this host "
        '(unbound) with [dns] nameservers = ["127.0.0.1:53"]; or set dns.trust_ad if the way to '
        "it is safe",
        "yellow",
    )


def _describe_sts(sts: Sts) -> str | Text:
    if not sts.mode:
        if sts.trouble:
            return Text(f"no policy could be had: {sts.trouble}", "yellow")
        return "none announced"
    hosts = f", mx {', '.join(sts.mx)}" if sts.mx else ""
    text = Text(f"{sts.mode}{hosts}, max_age {format_span(sts.max_age)}")
    if sts.trouble:
        text.append(f"; not refreshed: {sts.trouble}", "yellow")
    return text


def _title_host(number: int, host: HostView) -> str:
    port = f" port {host.port}" if host.port != 25 else ""
    preference = "" if host.preference is None else f" (preference {host.preference})"
    return f"{number}. {host.name}{port}{preference}"


def _list_host(host: HostView) -> _Rows:
    if host.addresses:
        secure = " (validated)" if host.addresses_secure else ""
        yield "addresses", ", ".join(host.addresses) + secure
    if host.left_out:
        yield "left out", Text(host.left_out, "yellow")
        return
    for number, record in enumerate(host.tlsa):
        yield "" if number else "TLSA", _describe_record(record)
    if host.tlsa_text:
        yield "" if host.tlsa else "TLSA", Text(f"do not count: {host.tlsa_text}", "yellow")
    yield "demanded", host.demand
    if host.session is not None:
        yield from _list_session(host.session)


def _describe_record(record: Record) -> Text:
    """Enough of it to tell it from others: whole digests are wider than the terminal."""
    text = record.text if len(record.text) <= _RECORD else f"{record.text[:_RECORD]}..."
    return Text(f"{text} ({record.why})", "yellow") if record.why else Text(text)


def _list_session(session: Session) -> _Rows:
    yield "session", f"{session.address}: {session.protocol or _name_clear(session)}"
    if session.certificates:
        leaf = session.certificates[0]
        names = ", ".join(leaf.names[:_SHOWN_NAMES]) or "no host name"
        yield "certificate", f"{names}; {_format_end(leaf)}"
    if session.state == "verified":
        yield "verified", Text(f"yes, by {VERIFIERS[session.verified]}", "green")
    elif session.text:
        style = "red" if session.state == "failed" else "yellow"
        yield (
            "failed" if session.state == "failed" else "verified",
            Text(session.text if session.state == "failed" else f"no: {session.text}", style),
        )
    if session.protocol:
        yield "REQUIRETLS", "offered" if session.requiretls else "not offered"


def _name_clear(session: Session) -> str:
    return "none" if session.state == "failed" else "in clear"


def _print_rows(console: Console, rows: _Rows, width: int) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(min_width=width)
    table.add_column(overflow="fold")
    for title, text in rows:
        table.add_row(Text(title, "dim"), text if isinstance(text, Text) else Text(text))
    console.print(Padding(table, (0, 0, 0, 2)))
