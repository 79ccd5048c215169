"""What the types of the configuration cannot say: references, ranges, names, files; and bad ideas."""

import ipaddress
from collections.abc import Iterator

from relay.config.keeping import find_keeping_problems
from relay.config.reputation import find_reputation_problems
from relay.config.rules import find_rule_notices, find_rule_problems
from relay.config.running import find_running_problems
from relay.config.schema import Config, Delivery, IngressTls, Site, Source, Store, TlsReports
from relay.config.shapes import (
    DOMAIN,
    LOCAL,
    NAME,
    check_files,
    check_name,
    check_patterns,
    is_file,
    write_key,
)
from relay.config.storeurl import has_password, read_store_url
from relay.config.tenants import find_tenant_notices, find_tenant_problems
from relay.config.units import Seconds, parse_network, parse_proxy


def find_problems(config: Config) -> Iterator[str]:
    """Yield what the types cannot say: references, ranges, names, files."""
    yield from _ranges(config)
    yield from _store_problems(config.store)
    if not config.ingress.listen:
        yield "ingress.listen: expected at least one address"
    if not DOMAIN.fullmatch(config.ingress.hostname.lower()):
        yield f"ingress.hostname: expected a host name, got {config.ingress.hostname!r}"
    for number, network in enumerate(config.ingress.proxies):
        try:
            parse_network(network)
        except ValueError:
            yield (
                f"ingress.proxies[{number}]: expected an address or a network such as "
                f'"192.0.2.0/24", got {network!r}'
            )
    yield from _tls_problems(config.ingress.tls)
    yield from find_tenant_problems(config)
    yield from find_rule_problems(config)
    yield from find_keeping_problems(config)
    yield from _source_problems(config)
    for number, route in enumerate(config.route):
        if not route.hosts or not route.domains:
            yield f"route[{number}]: expected at least one domain and one host"
        yield from check_patterns(f"route[{number}].domains", route.domains)
    yield from find_site_problems(config.site)
    yield from _delivery_problems(config.delivery)
    yield from _report_problems(config.tls_reports)
    yield from find_reputation_problems(config)
    yield from find_running_problems(config.admin)


def _ranges(config: Config) -> Iterator[str]:
    """Numbers that would make a service stand still or eat the machine."""
    for path, value, low, high in (
        ("ingress.processes", config.ingress.processes, 1, 256),
        ("ingress.max_recipients", config.ingress.max_recipients, 100, 100_000),
        ("ingress.max_connections", config.ingress.max_connections, 1, 1_000_000),
        ("ingress.max_message", config.ingress.max_message, 65_536, 1 << 30),
        ("ingress.command_timeout", config.ingress.command_timeout, 1, 3600),
        ("ingress.data_timeout", config.ingress.data_timeout, 1, 3600),
        # Parts of a message that is not accepted yet are kept by the store for an hour.
        ("ingress.message_timeout", config.ingress.message_timeout, 10, 3600),
        ("ingress.client_connections", config.ingress.client_connections, 1, 1_000_000),
        ("ingress.memory", config.ingress.memory, 1 << 20, 1 << 40),
        ("delivery.processes", config.delivery.processes, 1, 256),
        ("delivery.in_flight", config.delivery.in_flight, 1, 1_000_000),
        ("delivery.connections", config.delivery.connections, 1, 10_000),
        ("delivery.messages_per_connection", config.delivery.messages_per_connection, 1, 1_000_000),
        ("delivery.claim", config.delivery.claim, 1, 86_400),
        ("delivery.expire", config.delivery.expire, 1, 90 * 86_400),
        ("delivery.stalled", config.delivery.stalled, 1, 90 * 86_400),
        ("delivery.suppress_after", config.delivery.suppress_after, 0, 100),
        ("delivery.suppress_for", config.delivery.suppress_for, 1, 3660 * 86_400),
        ("delivery.port", config.delivery.port, 1, 65_535),
        ("store.memory_mark", config.store.memory_mark, 0.1, 1),
        ("delivery.grace", config.delivery.grace, 0, 3600),
        ("delivery.idle", config.delivery.idle, 0, 3600),
        ("store.replicas", config.store.replicas, 0, 10),
        ("store.timeout", config.store.timeout, 0.1, 600),
        ("store.max_memory", config.store.max_memory, 16 << 20, 1 << 42),
        ("dns.timeout", config.dns.timeout, 0.1, 300),
        ("dns.cache", config.dns.cache, 100, 10_000_000),
        ("tls.mta_sts_port", config.tls.mta_sts_port, 1, 65_535),
        ("tls.learn_after", config.tls.learn_after, 0, 365 * 86_400),
        ("tls.learnt_for", config.tls.learnt_for, 60, 365 * 86_400),
    ):
        if not low <= value <= high:
            unit = " seconds" if isinstance(value, Seconds) else ""
            yield f"{path}: expected {low} to {high}{unit}, got {value}"


def _store_problems(store: Store) -> Iterator[str]:
    if not store.url:
        if store.replicas:
            yield "store.replicas: the embedded server has none; set store.url, or leave it at 0"
        if store.password_file:
            yield "store.password_file: the embedded server has a password of its own; set store.url"
        return
    yield from check_files("store", password_file=store.password_file)
    try:
        read_store_url(store.url)
    except ValueError as error:
        yield f"store.url: {error}"
        return
    if store.password_file and has_password(store.url):
        yield "store.password_file: there is a password in store.url (or OUTGATE_STORE_URL) already"


def _delivery_problems(delivery: Delivery) -> Iterator[str]:
    if not delivery.retry:
        yield "delivery.retry: expected at least one duration"
    yield from _waits("delivery.retry", delivery.retry)
    if delivery.delay_notice and delivery.delay_notice >= delivery.expire:
        yield (
            f"delivery.delay_notice: expected less than delivery.expire ({delivery.expire} "
            f"seconds), or 0 for never, got {delivery.delay_notice}"
        )
    if delivery.ca_file and not is_file(delivery.ca_file):
        yield f"delivery.ca_file: no such file: {delivery.ca_file}"
    for number, entry in enumerate(delivery.prohibited_hosts):
        try:
            parse_network(entry)
        except ValueError:
            yield from check_patterns(f"delivery.prohibited_hosts[{number}]", (entry,))


def _waits(path: str, waits: tuple[Seconds, ...]) -> Iterator[str]:
    if any(wait < 1 for wait in waits):
        yield f"{path}: expected waits of at least 1s"


def find_site_problems(sites: tuple[Site, ...]) -> Iterator[str]:
    """Yield what the types cannot say of a list of sites."""
    names: set[str] = set()
    for number, site in enumerate(sites):
        path = f"site[{number}]"
        yield from check_name(path, site.name, names)
        yield from check_patterns(f"{path}.mx", site.mx)
        yield from check_patterns(f"{path}.domains", site.domains)
        yield from _waits(f"{path}.retry", site.retry)
        for place, limits in ((path, site), (f"{path}.source", site.source)):
            for key in ("connections", "messages_per_connection"):
                value: int | None = getattr(limits, key)
                # To let nothing through is what `outgate suspend` is for; it can be undone.
                if value is not None and not 1 <= value <= 1_000_000:
                    yield f"{place}.{key}: expected 1 to 1000000, got {value}"


def _tls_problems(tls: IngressTls) -> Iterator[str]:
    yield from check_files("ingress.tls", certificate=tls.certificate, key=tls.key)
    for number, pair in enumerate(tls.more):
        path = f"ingress.tls.more[{number}]"
        yield from check_files(path, certificate=pair.certificate, key=pair.key)
    if bool(tls.certificate) != bool(tls.key):
        yield "ingress.tls: expected both certificate and key, got one of them"
    if tls.required and not tls.certificate:
        yield "ingress.tls.required: needs a certificate and a key"
    if tls.more and not tls.certificate:
        yield "ingress.tls.more: needs a certificate and a key in [ingress.tls], for all other names"


def _report_problems(reports: TlsReports) -> Iterator[str]:
    yield from check_files("tls_reports", dkim_key_file=reports.dkim_key_file)
    for name in ("sender", "contact"):
        address: str = getattr(reports, name)
        local, _, domain = address.rpartition("@")
        if not LOCAL.fullmatch(local) or local == "*" or not DOMAIN.fullmatch(domain.lower()):
            yield f"tls_reports.{name}: expected an address, got {address!r}"
    if bool(reports.dkim_selector) != bool(reports.dkim_key_file):
        yield "tls_reports: expected both dkim_selector and dkim_key_file, got one of them"
    if reports.dkim_selector and not DOMAIN.fullmatch(reports.dkim_selector):
        yield (
            "tls_reports.dkim_selector: expected the labels before ._domainkey, "
            f"got {reports.dkim_selector!r}"
        )


def _source_problems(config: Config) -> Iterator[str]:
    names: set[str] = set()
    for number, source in enumerate(config.source):
        yield from check_name(f"source[{number}]", source.name, names)
        try:
            ipaddress.ip_address(source.address)
        except ValueError:
            yield f"source[{number}].address: expected an IP address, got {source.address!r}"
        if not DOMAIN.fullmatch(source.ehlo.lower()):
            yield f"source[{number}].ehlo: expected a host name, got {source.ehlo!r}"
        yield from _proxy_problems(f"source[{number}]", source)
    for pool, members in config.pool.items():
        path = f"pool.{write_key(pool)}"
        if not NAME.fullmatch(pool):
            yield f"{path}: expected a name of letters, digits, _ . -"
        for name, weight in members.items():
            here = f"{path}.{write_key(name)}"
            if name not in names:
                yield f"{here}: no [[source]] of that name"
            if not 0 <= weight <= 10_000:
                yield f"{here}: expected a weight of 0 to 10000, got {weight}"
        if not any(members.values()):
            yield f"{path}: expected at least one source with a weight above 0"


def _proxy_problems(path: str, source: Source) -> Iterator[str]:
    user = ""
    if source.proxy:
        try:
            kind, user, _ = parse_proxy(source.proxy)
        except ValueError as error:
            yield f"{path}.proxy: {error}"
            return
        if kind == "haproxy" and source.address in ("0.0.0.0", "::"):  # noqa: S104
            yield f"{path}.address: a haproxy:// proxy must be told an address, got {source.address!r}"
    file = source.proxy_password_file
    if user and not file:
        yield f"{path}.proxy_password_file: missing; the proxy knows us as {user!r}"
    if file and not user:
        yield f"{path}.proxy_password_file: needs a proxy of the form socks5://USER@HOST:PORT"
    if file and not is_file(file):
        yield f"{path}.proxy_password_file: no such file: {file}"


def find_notices(config: Config) -> Iterator[str]:
    """Yield what is allowed but probably not meant; printed by `check` and on every start."""
    if not config.tenant:
        yield "no [[tenant]]: nobody may send, every MAIL will be refused with 550 5.7.1"
    yield from find_tenant_notices(config)
    yield from find_rule_notices(config)
    yield from _memory_notices(config)
    if not config.ingress.tls.certificate:
        yield "no [ingress.tls] certificate: STARTTLS is not offered to senders"
    if config.tls_reports.send and not config.tls_reports.dkim_key_file:
        yield (
            "tls_reports.dkim_key_file is not set: TLS reports go to https: addresses only, "
            "receivers drop mail that is not signed"
        )
    if config.store.durability == "warn":
        yield 'store.durability = "warn": acknowledged mail can be lost when the store restarts'


def _memory_notices(config: Config) -> Iterator[str]:
    """What is looked into is in memory as a whole, and twice while a rule changes it."""
    ingress, archive = config.ingress, config.archive
    looks = bool(config.rule or archive.directory or archive.s3.bucket)
    if looks and ingress.memory < 2 * ingress.max_message:
        yield (
            f"ingress.memory is {ingress.memory}: messages of up to ingress.max_message "
            f"({ingress.max_message}) that a rule or the archive must see may need twice that, and "
            f"are answered 452 for ever: expected {2 * ingress.max_message} or more"
        )
