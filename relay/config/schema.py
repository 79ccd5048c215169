"""The configuration file, typed. The comments here are its manual (deploy/outgate.example.toml).

Rules, and what they name, stand in policy.py; who looks in, and the log, in running.py. Every key has
a default; an unknown key is an error. All of it is immutable: a process reads its configuration once,
at the start.
"""

from typing import Literal

from relay.config.policy import Footer, Rule, Scanner
from relay.config.running import Admin, Log
from relay.config.section import Section
from relay.config.units import Endpoint, Octets, Priority, Rate, Rates, Seconds

TlsLevel = Literal["none", "opportunistic", "require", "verify"]


class Store(Section, frozen=True):
    """Where the queue lives. Without ``url`` an embedded server runs under ``state_dir``."""

    # redis://, rediss://, unix://, redis+sentinel://, redis+cluster://; also
    # OUTGATE_STORE_URL in the environment.
    url: str = ""
    # Holds the password of the servers that `url` names, and nothing else; then `url` has none.
    password_file: str = ""
    replicas: int = 0  # what is acknowledged has reached so many replicas
    # "require" refuses to start on a server that can forget what it acknowledged; "warn" says so.
    durability: Literal["require", "warn"] = "require"
    # At this share of the server's maxmemory the ingress answers 452 4.3.1 to MAIL.
    memory_mark: float = 0.85
    # For the embedded server (its maxmemory). Bodies live in its memory until they are delivered.
    max_memory: Octets = Octets(1 << 30)
    # How long the story of an ended message is kept for `outgate explain`.
    remember: Seconds = Seconds(86400)
    # One round trip may take this long before the server counts as gone.
    timeout: Seconds = Seconds(10)


class Certificate(Section, frozen=True):
    """A certificate for more names of ours: chosen by the name that a client asks for (SNI)."""

    certificate: str  # PEM: the whole chain, ours first
    key: str  # PEM, without a password


class IngressTls(Section, frozen=True):
    """STARTTLS on the way in. Without a certificate it is not offered.

    The files are looked at every minute: a new pair serves new sessions, a broken one is reported.
    """

    certificate: str = ""  # PEM: the whole chain, ours first
    key: str = ""  # PEM, without a password
    required: bool = False  # true: 530 5.7.0 to MAIL before STARTTLS
    more: tuple[Certificate, ...] = ()
    requiretls: bool = True  # offer REQUIRETLS (RFC 8689) where TLS is in use


class NetworkSet(Section, frozen=True):
    """Networks under one name, for ``tenant.networks``; published by whoever owns them.

    Exactly one of ``spf`` and ``json``.
    """

    name: str  # how a tenant calls it
    spf: str = ""  # a domain whose SPF record lists them: include and redirect are followed
    json: str = ""  # a file, or an https:// URL, in the format of Google's goog.json
    refresh: Seconds = Seconds(3600)  # how often it is read again


class Ingress(Section, frozen=True):
    """The service that accepts mail."""

    listen: tuple[Endpoint, ...] = (Endpoint("127.0.0.1", 2525),)  # addresses that it listens on
    hostname: str = ""  # banner, Received line, EHLO of default sources; default: this host's name
    processes: int = 1  # they share the port; one for each core it may use
    max_message: Octets = Octets(50 << 20)  # larger ones: 552. Gmail sends at most about 36 MB
    max_recipients: int = 1000  # of a message; RFC 5321 §4.5.3.1.8: 100 or more
    # Per process; when there are so many, idle ones make room for who comes, who else is told 421.
    max_connections: int = 2000
    # Sessions of one client address with one process.
    client_connections: int = 500
    # TLS handshakes of one client address with one process; more are answered 421.
    client_handshakes: Rates | None = Rates((Rate(100, 1, 200),))
    # Load balancers, as networks, whose connections begin with a PROXY protocol header (1 or 2).
    proxies: tuple[str, ...] = ()
    # What messages take of the memory of a process; what would take more is answered 452. Beside
    # it each connection may hold the 256 KiB that have just arrived.
    memory: Octets = Octets(512 << 20)
    # Bare CR, bare LF and NUL in a message: "refuse" (550 5.6.0) or "repair" before it is stored.
    line_endings: Literal["refuse", "repair"] = "refuse"
    chunking: bool = True  # offer BDAT (RFC 3030)
    # Silence before a command; RFC 5321 §4.5.3.2.7: at least five minutes.
    command_timeout: Seconds = Seconds(300)
    # In the middle of DATA, between two pieces of it (§4.5.3.2.5: three minutes).
    data_timeout: Seconds = Seconds(180)
    # From one message to the next, or from the start to the first: who dribbles is cut off.
    message_timeout: Seconds = Seconds(900)
    tls: IngressTls = IngressTls()


class PriorityRule(Section, frozen=True):
    """Messages of some senders are more, or less, urgent than the tenant's others."""

    senders: tuple[str, ...]  # "news@acme.example", "*@lists.acme.example"
    priority: Priority  # the priority of what they send


class DkimKey(Section, frozen=True):
    """A key to sign with what a rule has changed: the signature of before does not hold any more."""

    domain: str  # a domain of the tenant's
    selector: str  # the public half is in the DNS at SELECTOR._domainkey.DOMAIN
    key_file: str  # PEM, RSA or Ed25519


class Tenant(Section, frozen=True):
    """An organisation that may send: its domains, and how it proves itself."""

    name: str  # how it is called in events, reports and commands
    domains: tuple[str, ...]  # domains of MAIL FROM that are its own
    subdomains: bool = False  # what is below those domains is its own, too
    networks: tuple[str, ...] = ("google",)  # names of sets, addresses or CIDR blocks
    # What else a message must show, one of these: a DKIM signature of its domains that verifies, or
    # the secret header. Without either, network and MAIL FROM domain are enough.
    proof: tuple[Literal["dkim", "header"], ...] = ()
    # Google signs for domains without a key of their own, as acme-example.DATE.gappssmtp.com.
    dkim_fallback: bool = True
    header: str = ""  # a header field that is taken off before the message is stored
    header_secret_file: str = ""  # a secret a line: all of them are valid
    align_from: bool = False  # the message has one From field, and all in it are of its domains
    pool: str = "default"  # the [pool.NAME] that its mail leaves through
    rate: Rates | None = None  # deliveries, over all workers
    messages: Rates | None = None  # accepted, over all ingress processes; more: 451
    max_message: Octets | None = None  # larger ones: 552; not more than ingress.max_message
    max_recipients: int | None = None  # further ones: 452; not more than ingress.max_recipients
    connections: int | None = None  # sessions with one ingress process that have sent its mail
    dkim: tuple[DkimKey, ...] = ()
    # Who goes first where a site takes less than there is: urgent before normal before bulk, and
    # none waits for ever. The first that says something: the header, the rules, this.
    priority: Priority = "normal"
    priority_header: str = ""  # a header field that says urgent, normal or bulk; it stays
    priority_rule: tuple[PriorityRule, ...] = ()


class S3(Section, frozen=True):
    """A bucket of any store that speaks S3. Keys: from the file, else AWS_ACCESS_KEY_ID and so on."""

    bucket: str = ""  # none: no bucket
    endpoint: str = ""  # default: Amazon's
    region: str = ""  # where the bucket is
    prefix: str = ""  # what names of objects begin with
    credentials_file: str = ""  # two lines: access key id, secret access key


class Archive(Section, frozen=True):
    """Where copies of messages are kept, envelope included, before their 250."""

    directory: str = ""  # this, s3.bucket, or a copy in each; neither: no archive
    s3: S3 = S3()
    messages: Literal["all", "rules"] = "all"  # rules: those that a rule says `archive` of
    key_file: str = ""  # 32 octets in base64, a key a line: the first encrypts, all decrypt
    retention: Seconds = Seconds(0)  # `outgate archive purge` takes away what is older; 0: nothing
    timeout: Seconds = Seconds(30)  # for a copy to be written; else the message is answered 451


class Audit(Section, frozen=True):
    """The trail of all events, in chains that show what was changed or taken out."""

    directory: str = ""  # none: no trail
    key_file: str = ""  # seals are signed with it (HMAC-SHA-256): at least 32 octets
    retention: Seconds = Seconds(0)  # `outgate audit purge` takes away what is older; 0: nothing


class Source(Section, frozen=True):
    """An address that mail leaves from, and the name it says in EHLO."""

    name: str  # how pools, events and commands call it
    address: str  # "0.0.0.0" leaves the choice to the kernel
    ehlo: str = ""  # default: ingress.hostname
    # An address of another host: "socks5://HOST:PORT", with "USER@" if it wants a password, or
    # "haproxy://HOST:PORT", which is told the address in a PROXY protocol header, version 2.
    proxy: str = ""
    proxy_password_file: str = ""  # holds the password for the proxy, and nothing else
    # A new address begins with little mail a day at each site: "default", or the name of a
    # [warmup.NAME]. "": it is warm.
    warmup: str = ""


class Limits(Section, frozen=True):
    """What one site, or one source at one site, may be given: over all workers of all hosts."""

    connections: int | None = None  # open at a time
    messages_per_connection: int | None = None  # then the connection is closed
    rate: Rates | None = None  # deliveries: one rate, or a list of them


class Site(Limits, frozen=True, kw_only=True):
    """Domains that are one receiver. First match wins.

    A domain belongs to it by name, or because all of its best MX hosts match; without ``mx`` and
    ``domains`` the entry is for what no other matches, each set of MX hosts by itself.
    """

    name: str  # how it is called in events and commands; of a known provider: changes that one
    mx: tuple[str, ...] = ()  # names of MX hosts: "mx.example.org", "*.example.org", "*"
    domains: tuple[str, ...] = ()  # recipient domains: "example.org", "*.example.org"
    # none: in clear. opportunistic: TLS where offered, any certificate. require: TLS, any
    # certificate. verify: TLS, chain and host name checked. Default: opportunistic.
    tls: TlsLevel | None = None
    retry: tuple[Seconds, ...] = ()  # default: delivery.retry
    source: Limits = Limits()  # of each source at this site


class Route(Section, frozen=True):
    """Hosts for some domains, instead of the MX look-up; tried in order."""

    domains: tuple[str, ...]  # recipient domains: "example.org", "*.example.org", "*"
    hosts: tuple[Endpoint, ...]  # names or addresses, with ports


# Special-purpose addresses (RFC 6890) that no mail host of the Internet has.
PROHIBITED = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"),
    *("::/127", "fc00::/7", "fe80::/10", "ff00::/8"),
)


class Delivery(Section, frozen=True):
    """The delivery pool."""

    processes: int = 1  # one for each core it may use
    # Waits between attempts; the last one repeats until `expire`. Each is spread by +-10 %.
    retry: tuple[Seconds, ...] = tuple(Seconds(s) for s in (60, 300, 900, 3600, 14400))
    expire: Seconds = Seconds(5 * 86400)  # then what is left bounces
    # The connection was lost after the end of the message: it may arrive twice, wait, or be missing.
    unknown_outcome: Literal["retry", "hold", "assume-delivered"] = "retry"
    # After this long the sender is told that a message is delayed, once; 0: never.
    delay_notice: Seconds = Seconds(0)
    # A delivery that could go and was not touched for this long is reported: "stalled".
    stalled: Seconds = Seconds(900)
    # A recipient that was unknown to its host so many times in a row is not tried any more, and its
    # mail bounces at once; 0: never. `outgate suppressed` lists them.
    suppress_after: int = 0
    suppress_for: Seconds = Seconds(30 * 86400)  # then it is tried again
    claim: Seconds = Seconds(60)  # ownership of a delivery without a sign of life; renewed
    in_flight: int = 2000  # deliveries that one process holds at a time
    connections: int = 20  # of each source at each site, where no [[site]] says otherwise
    messages_per_connection: int = 100  # then it is closed, where no [[site]] says otherwise
    idle: Seconds = Seconds(5)  # a session without work is kept this long
    grace: Seconds = Seconds(30)  # a stopping process finishes what it holds for this long
    port: int = 25  # of hosts found by MX look-up
    ca_file: str = ""  # trusted authorities; default: the system's
    # MX hosts that are never connected to: networks, addresses and names ("*.example.org"). A stranger
    # writes them into his zone; what stands in a [[route]] is ours and is not looked up here.
    prohibited_hosts: tuple[str, ...] = PROHIBITED


class Dns(Section, frozen=True):
    """How names are looked up."""

    nameservers: tuple[Endpoint, ...] = ()  # default: /etc/resolv.conf
    timeout: Seconds = Seconds(10)  # for one name, all servers and tries together
    # Believe a name server that says it has validated an answer (the AD bit; DANE needs it).
    # Default: when all of them are on this host. Anybody on the way to another could set the bit.
    trust_ad: bool | None = None
    cache: int = 20_000  # answers that a process keeps; a large one counts once for each KiB


class Tls(Section, frozen=True):
    """TLS on the way out, beside what a [[site]] asks for. What receivers publish goes first."""

    dane: bool = True  # RFC 7672; works with a resolver whose AD bit is believed (dns.trust_ad)
    mta_sts: bool = True  # RFC 8461
    mta_sts_port: int = 443  # where policies are fetched; 443 but for tests
    # Hosts that have shown validated TLS for so long are expected to go on.
    learn_after: Seconds = Seconds(86400)
    learnt_for: Seconds = Seconds(30 * 86400)  # without validated TLS it is forgotten
    # Mail that would go to such a host in clear after all is an event ("report"), or waits ("refuse").
    downgrade: Literal["report", "refuse"] = "report"


class TlsReports(Section, frozen=True):
    """Daily reports to domains that ask for them, of how TLS to their hosts went (RFC 8460)."""

    send: bool = False  # true: they are sent
    organization: str = ""  # default: ingress.hostname
    sender: str = ""  # default: tls-reports@ingress.hostname
    contact: str = ""  # default: sender
    # Receivers drop reports by mail that are not signed: the sender's domain signs.
    dkim_selector: str = ""
    dkim_key_file: str = ""  # PEM, RSA or Ed25519


class TenantShare(Section, frozen=True):
    """What a tenant may do to the reputation of the sources that it shares with others.

    Shares of what was sent for it within `window`: recipients unknown to their hosts, refused as
    spam or malware, complained about. 0: never.
    """

    window: Seconds = Seconds(86400)  # how far back it is counted
    at_least: int = 500  # recipients tried; before that no share says anything
    slow_unknown: float = 0.1  # of recipients unknown to their hosts: then it is slowed
    slow_content: float = 0.1  # of refusals as spam or malware: then it is slowed
    slow_complaints: float = 0.002  # of complaints: then it is slowed
    slow_to: Rates = Rates((Rate(1, 1),))  # deliveries of a tenant that is slowed
    hold_unknown: float = 0.0  # of recipients unknown to their hosts: then it is held
    hold_content: float = 0.0  # of refusals as spam or malware: then it is held
    hold_complaints: float = 0.0  # of complaints: then it is held


class Reputation(Section, frozen=True):
    """What receivers' answers do to pace, rotation and quarantine of each source at each site."""

    enabled: bool = True  # false: pace, rotation and quarantine stay out of it
    half_life: Seconds = Seconds(86400)  # within which evidence loses half its weight
    # A score below, after a hundred answers, quarantines a source at a site, 0 to 1; 0: never.
    floor: float = 0.3
    # How long the first quarantine lasts, the second ...; the last repeats. Then it is probed.
    quarantine: tuple[Seconds, ...] = tuple(
        Seconds(s) for s in (1800, 1800, 3600, 7200, 14400, 28800, 86400)
    )
    probes: int = 5  # messages that must get through before it is over
    slowest: Rates = Rates((Rate(1, 60),))  # no pace falls below
    # A source that was throttled is silent there for twice this; how long is enough is learnt then, but
    # it is never less than this. 65: most who count, count by the minute.
    silence: Seconds = Seconds(65)
    tenant: TenantShare = TenantShare()


class Warmup(Section, frozen=True):
    """How a new source is warmed up, at each site: [warmup.NAME]."""

    days: tuple[int, ...]  # deliveries of each day; after the last the source is warm
    # A day with a larger share of throttled and blocked attempts does not count.
    spoilt: float = 0.05
    idle: Seconds = Seconds(7 * 86400)  # without mail for longer, it goes back a day for each day


class Feedback(Section, frozen=True):
    """Mailboxes of ours to which receivers send complaints (ARF) and operators late bounces."""

    domains: tuple[str, ...] = ()  # any address there; taken from anybody, counted, never relayed
    max_message: Octets = Octets(1 << 20)  # larger reports are refused


class Checks(Section, frozen=True):
    """What is looked at of our own sources, from time to time and by `outgate doctor`."""

    interval: Seconds = Seconds(3600)  # 0: only by `outgate doctor`
    dnsbl: tuple[str, ...] = ()  # zones of block lists: "zen.spamhaus.org"
    # A source that fails one of these does not send until it passes: any of "ptr", "dnsbl",
    # "spf" (of every tenant whose pool it is in).
    gate: tuple[Literal["ptr", "dnsbl", "spf"], ...] = ()


class Config(Section, frozen=True):
    """The whole file; what is a tuple here is an array of tables there."""

    state_dir: str = (
        "state"  # the embedded store, its lock and the event log; one running outgate each
    )
    store: Store = Store()
    ingress: Ingress = Ingress()
    network: tuple[NetworkSet, ...] = ()
    tenant: tuple[Tenant, ...] = ()
    rule: tuple[Rule, ...] = ()
    scanner: tuple[Scanner, ...] = ()
    footer: tuple[Footer, ...] = ()
    archive: Archive = Archive()
    audit: Audit = Audit()
    # Default: one, "default", whose address the system chooses.
    source: tuple[Source, ...] = ()
    # How a tenant's mail is spread over sources: their weights; 0 rests one. Default: one pool,
    # "default", of all sources with weight 1.
    pool: dict[str, dict[str, int]] = {}  # noqa: RUF012 - a default that msgspec copies
    site: tuple[Site, ...] = ()
    route: tuple[Route, ...] = ()
    delivery: Delivery = Delivery()
    dns: Dns = Dns()
    tls: Tls = Tls()
    tls_reports: TlsReports = TlsReports()
    reputation: Reputation = Reputation()
    warmup: dict[str, Warmup] = {}  # noqa: RUF012
    feedback: Feedback = Feedback()
    checks: Checks = Checks()
    admin: Admin = Admin()
    log: Log = Log()
