"""Every key in Redis: its name, its type, who writes it, who removes it.

All keys begin with their shard's hash tag, ``{og7}``, so that in a Cluster one script touches
one slot. The shard of a delivery is a hash of its recipient domain; the *home* shard of a message
is the shard of its first recipient's domain. SHARDS is fixed for ever: changing it would make
queued mail invisible.

    key                     type    what                                  written by   removed by
    ----------------------  ------  ------------------------------------  -----------  -----------
    {ogN}:ledger            hash    accepted delivered bounced queued     every        never
                                    unknown, in recipients                transition
    {ogN}:notices           hash    the same for mail that we wrote       every        never
    {ogN}:body:<msg>:<n>    string  part n of the message's bytes (home)  ingress      last ending
    {ogN}:open:<msg>        set     deliveries not ended, when there are  accept       release
                                    several (home)
    {ogN}:story:<msg>       list    events, JSON, oldest first            every        expires
    {ogN}:delivery:<id>     hash    r record, q queue, p pool, m message, accept,      settle,
                                    n attempts, k open recipients,        enqueue      bounce
                                    z size, c parts, b body is here,
                                    a only one, l ledger,
                                    e last event, t token, o open attempt
    {ogN}:ready:<queue>     stream  delivery ids that may go now          accept,      claim
                                                                          promote
    {ogN}:due:<queue>       zset    delivery id -> ms when it may go      defer        promote
    {ogN}:queue:<queue>     hash    held (claimed now), window (allowed)  claim        idles out
    {ogN}:agenda:<pool>     zset    queue -> ms when it may be looked at  all          claim
    {ogN}:pools             set     every pool that had an agenda here    all          never
    {ogN}:claims            zset    delivery id -> ms when the claim ends claim        endings
    {ogN}:outbox            hash    delivery id -> delivery that belongs  accept       shipped
                                    to another shard, not there yet
    {ogN}:arrived:<id>      string  it is there (makes enqueue idempotent) enqueue     expires
    {ogN}:watch            hash    when reclaim last looked (seen), since  reclaim      never
                                    when without a gap (since), ms, and
                                    how many gaps in a row (spared)
    {ogN}:asleep            string  a worker found nothing and waits      claim        wake

A delivery is at every moment in exactly one of ready, due, claims, outbox (tests/kit/audit.py).
<queue> is ``tenant/domain``.
"""

import zlib

SHARDS = 16
WAKE_CHANNEL = "og:wake"

# name -> number of parts after it. The Lua side of each is generated from this (scripts.py).
SHAPES = {
    "ledger": 0,
    "notices": 0,
    "body": 2,
    "open": 1,
    "story": 1,
    "delivery": 1,
    "ready": 1,
    "due": 1,
    "queue": 1,
    "agenda": 1,
    "pools": 0,
    "claims": 0,
    "outbox": 0,
    "arrived": 1,
    "watch": 0,
    "asleep": 0,
}


def find_shard(domain: str) -> int:
    """Return the shard of a recipient domain (lower case, A-labels)."""
    return zlib.crc32(domain.encode("ascii", "replace")) % SHARDS


def make_tag(shard: int) -> str:
    """Return the hash tag that all keys of a shard begin with."""
    return f"{{og{shard}}}"


def make_key(shard: int, name: str, *parts: str | int) -> str:
    """Return a key. ``name`` is one of SHAPES, with that many parts."""
    assert len(parts) == SHAPES[name], name
    return ":".join([make_tag(shard), name, *map(str, parts)])


def make_queue(tenant: str, domain: str) -> str:
    """Return the name of a destination queue."""
    return f"{tenant}/{domain}"
