"""Every key in Redis: its name, its type, who writes it, who removes it.

All keys begin with a hash tag, ``{og7}``, so that in a Cluster one script touches one slot. There
are SHARDS tags. A delivery lives under the tag of its recipient domain; the *home* of a message is
the shard of its first recipient's domain; a gate lives under the tag of its site or tenant; what
belongs to nobody in particular, under the first. SHARDS is fixed for ever: changing it would make
queued mail invisible.

    key                     type    what                                  written by   removed by
    ----------------------  ------  ------------------------------------  -----------  -----------
    Books and bytes
    {ogN}:ledger            hash    accepted delivered bounced queued     every        never
                                    unknown, in recipients                transition
    {ogN}:notices           hash    the same for mail that we wrote       every        never
    {ogN}:body:<msg>:<n>    string  part n of the message's bytes (home)  ingress      last ending
    {ogN}:open:<msg>        set     deliveries not ended, when there are  accept       release
                                    several (home)
    {ogN}:ended:<id>        string  a delivery of several has ended       endings      expires
    {ogN}:story:<msg>       string  events, a line of JSON each           every        expires
    {ogN}:feedback:<msg>    set     complaints and late bounces that have feedback     expires
                                    been counted, by kind and recipient
                                    (home)
    {ogN}:signals           list    the same on their way to workers,     feedback     take_signals
                                    JSON (feedback.py), by the message's
                                    home

    Where deliveries wait. A *slip* is one delivery: a line of what scripts must know, and the
    record (scripts/queue/_prelude.lua).
    {ogN}:ready:<queue>     stream  slips that may go now                 accept ...   claim
    {ogN}:due:<queue>       zset    delivery id -> ms when it may go      defer        promote
    {ogN}:records           hash    delivery id -> queue and slip, of     claim,       promote,
                                    what is claimed or due                defer        endings
    {ogN}:claims            zset    delivery id -> ms when the claim ends claim        endings
    {ogN}:tokens            hash    delivery id -> token of its claim     claim        endings
    {ogN}:attempts          hash    delivery id -> event of the attempt   attempt      endings
                                    that is open
    {ogN}:last              hash    delivery id -> event of the last      defer        endings
                                    attempt
    {ogN}:outbox            hash    delivery id -> delivery that belongs  accept       shipped
                                    to another shard, not there yet
    {ogN}:arrived:<id>      string  it is there (makes enqueue idempotent) enqueue     expires

    Who may go next
    {ogN}:site:<queue>      string  the queue's site, when it is known    assign       expires
    {ogN}:round:<lane>      zset    queue with ready deliveries -> ms     accept ...   claim
                                    when it was served last
    {ogN}:lanes             zset    lane with such queues -> ms when it   accept ...   claim
                                    was served last
    {ogN}:agenda            zset    queue with due deliveries -> ms of    defer        promote
                                    the first
    {ogN}:closed            hash    queue, or */domain, that is suspended suspend      resume
                                    -> ms until when
    {ogN}:watch             hash    when reclaim last looked (seen), since reclaim     never
                                    when without a gap (since), ms, and
                                    how many gaps in a row (spared)

    Recipients that nobody has (suppression.py; under the tag of their domain)
    {ogN}:unknown:<digest>  string  how often its host said so, in a row  note         note,
                                                                                       expires
    {ogN}:suppressed        zset    address -> until when it is not       note         note, lift
                                    tried, s

    Gates (under the tag of the site, or of the tenant)
    {ogN}:slots:<site>      zset    connection -> ms when its lease ends  take_slot    free_slot
    {ogN}:berths:<s>:<site> zset    the same for one source               take_slot    free_slot
    {ogN}:meter:<name>      hash    seconds -> what is left of a rate     reserve      expires
    {ogN}:turns:<p>:<site>  hash    source -> its virtual time in the     reserve      expires
                                    rotation of pool p; @source -> ms
                                    since when its turn is not taken;
                                    #worker -> what it has reserved and
                                    not claimed; !: somebody waits
    {ogN}:standing:<site>   hash    source -> what is known of it there:  report,      expires
                                    evidence, pace, quarantine, warm-up   reserve
                                    (scripts/gate/_standing.lua), JSON
    {ogN}:scout:<site>      hash    who tries a higher pace there, for     report       expires
                                    all (who, since, from, pace); when
                                    one met the end, and what it found
                                    (met, era, was, is)
    {ogN}:judged            zset    site where a standing says more than  report       trimmed
                                    a score -> ms of the last report
    {ogN}:tenants:<site>    hash    tenant -> how often and until when    report       expires
                                    (ms) it sends nothing there
    {ogN}:share:<tenant>    hash    window, ms -> what hosts said of its  share        share,
                                    recipients in it, by slots; state:                 resume,
                                    slowed or held, since when and why                 expires
    {ogN}:rests:<site>      hash    source -> failures, ms until which it fail         recover
                                    does not try this site, and why

    TLS (under the tag of the recipient domain; of the host group for learnt)
    {ogN}:sts:<domain>      string  its MTA-STS policy, JSON              refresh      expires
    {ogN}:learnt:<group>    hash    ms when validated TLS was first and   sessions     expires
                                    last seen (first, last)
    {ogN}:sessions:<day>    hash    a kind of TLS session, JSON -> how    sessions     report,
                                    many there were (tlsrpt.py)                        expires

    For all (under the first tag)
    {og0}:present           zset    source:<name>, pool:<name>,           announce     announce
                                    worker:<id> -> ms when last heard of
    {og0}:suspensions       hash    what is suspended -> who, why, until  suspend      resume
    {og0}:networks          hash    set of networks -> the last good      refresh,     refresh,
                                    answer, JSON; ?set -> one that was    accept       accept
                                    refused (networks.py)
    {og0}:counters          hash    what all processes have counted, by   push_counts  never
                                    name and labels (counters.py)
    {og0}:gauges            hash    process and name -> how it is now     push_counts  push_counts
    {og0}:reporting         string  which worker sends the TLS reports    report       expires
    {og0}:checking          string  which worker looks at our sources     look         expires
                                    (checking.py)
    {og0}:checked           hash    source and check -> what was found    look         look
                                    last, JSON
    {ogN}:synced            string  nothing: replicas that have it have   the link     expires
                                    all before it (link.py)
    {og0}:decisions         list    operators' commands, JSON, the last   commands     trimmed
                                    thousand
    {og0}:heads             hash    chain of the audit trail -> number    its process  audit purge
                                    and hash of its last line
    {og0}:seals:<chain>     hash    day -> the same of the seal           its process  audit purge
    {og0}:lost              hash    chain and number -> hash of a line    its next     audit purge
                                    that was there, and is not any more   process

A delivery is at every moment in exactly one of ready, due, claims, outbox (tests/kit/audit.py).

A *queue* is ``tenant/domain``, with ``/urgent`` or ``/bulk`` behind it for those priorities, and
``@source`` for what must go from one source. A *lane* is ``pool/priority/tenant/site``: the queues of
one tenant and priority at one site that one pool may send; for pinned queues the pool is
``pool@source``. Some lanes have no place for a site: it is empty while nobody has looked up where its
domains' mail goes, NOWHERE when that cannot be told, and SHUT for queues that are suspended.
"""

import zlib
from typing import NamedTuple

SHARDS = 16
WAKE_CHANNEL = "og:wake"
EVENTS_CHANNEL = "outgate:events"  # as they happen (broadcast.py)
UNKNOWN = ""
NOWHERE = "-"
SHUT = "!"
ABSENT = "-"  # behind a tag: a key that nobody ever writes (scripts.py)

# name -> number of parts after it. The Lua side of each is generated from this (scripts.py).
SHAPES = {
    "ledger": 0,
    "notices": 0,
    "body": 2,
    "open": 1,
    "ended": 1,
    "story": 1,
    "feedback": 1,
    "signals": 0,
    "ready": 1,
    "due": 1,
    "records": 0,
    "claims": 0,
    "tokens": 0,
    "attempts": 0,
    "last": 0,
    "outbox": 0,
    "arrived": 1,
    "site": 1,
    "round": 1,
    "lanes": 0,
    "agenda": 0,
    "closed": 0,
    "watch": 0,
    "unknown": 1,
    "suppressed": 0,
    "slots": 1,
    "berths": 2,
    "meter": 1,
    "turns": 2,
    "rests": 1,
    "standing": 1,
    "scout": 1,
    "judged": 0,
    "tenants": 1,
    "share": 1,
    "sts": 1,
    "learnt": 1,
    "sessions": 1,
    "networks": 0,
    "counters": 0,
    "gauges": 0,
    "synced": 0,
    "reporting": 0,
    "checking": 0,
    "checked": 0,
    "present": 0,
    "suspensions": 0,
    "decisions": 0,
    "heads": 0,
    "seals": 1,
    "lost": 0,
}


class Lane(NamedTuple):
    """The parts of a lane's name."""

    pool: str
    source: str  # "": any of the pool's
    priority: str
    tenant: str
    site: str


class Queue(NamedTuple):
    """The parts of a queue's name."""

    tenant: str
    domain: str
    priority: str  # "" for normal
    source: str  # "": any


def find_shard(name: str) -> int:
    """Return the shard of a recipient domain (lower case, A-labels), a site or a tenant."""
    return zlib.crc32(name.encode("ascii", "replace")) % SHARDS


def make_tag(shard: int) -> str:
    """Return the hash tag that all keys of a shard begin with."""
    return f"{{og{shard}}}"


def make_key(shard: int, name: str, *parts: str | int) -> str:
    """Return a key. ``name`` is one of SHAPES, with that many parts."""
    assert len(parts) == SHAPES[name], name
    return ":".join([make_tag(shard), name, *map(str, parts)])


def make_queue(tenant: str, domain: str, priority: str = "", source: str = "") -> str:
    """Return the name of a destination queue."""
    urgency = f"/{priority}" if priority else ""
    return f"{tenant}/{domain}{urgency}@{source}" if source else f"{tenant}/{domain}{urgency}"


def read_queue(name: str) -> Queue:
    """Take a queue's name apart."""
    path, _, source = name.partition("@")
    tenant, domain, *priority = path.split("/")
    return Queue(tenant, domain, priority[0] if priority else "", source)


def read_lane(name: str) -> Lane:
    """Take a lane's name apart."""
    pool, priority, tenant, site = name.split("/", 3)
    pool, _, source = pool.partition("@")
    return Lane(pool, source, priority, tenant, site)
