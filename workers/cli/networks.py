"""``outgate networks``: the sets of networks that tenants send from, and what to do about changes."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import trio

from relay.config import Config, load
from relay.config.units import Network
from relay.errors import ConfigError, StartError
from relay.ingress.networks.definition import Definition, list_definitions, list_used
from relay.ingress.networks.guard import find_fault
from relay.ingress.networks.lookup import look_up
from relay.net.resolver import Resolver
from relay.store.networks import Listing, StoredSet, StoredSets
from workers.cli import decision
from workers.cli.asking import open_store
from workers.cli.page import add_row, make_table, open_console, warn
from workers.operations.decision import Decision
from workers.views.words import format_count, format_span


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to do, who and why."""
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--check", metavar="NAME", help="look a set up now, and print what is published; no store"
    )
    chosen.add_argument(
        "--accept", metavar="NAME", help="put the networks in use that were refused for this set"
    )
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the sets, exit 1 when one has no networks; or check; or accept."""
    config = load(arguments.config)
    if arguments.check is not None:
        return _check(config, arguments)
    if arguments.accept is not None:
        return _accept(config, arguments)
    rows = trio.run(_read, config)
    if arguments.json:
        print(json.dumps({"sets": rows}))
    else:
        _show(rows)
    return 0 if all(row["networks"] for row in rows) else 1


def _find_definition(config: Config, option: str, name: str) -> Definition:
    known = list_definitions(config)
    if name not in known:
        there = ", ".join(sorted(known))
        raise ConfigError([f"{option} {name}: no set of networks of that name; there is {there}"])
    return known[name]


# -- the list


async def _read(config: Config) -> list[dict[str, Any]]:
    used = list_used(config)
    async with open_store(config) as store:
        listing = await StoredSets(store.link).read(used)
    return [_describe(one, listing) for one in used.values()]


def _describe(one: Definition, listing: Listing) -> dict[str, Any]:
    """Tell what an ingress process that starts now would use, and what waits for an operator."""
    good = _of(one, listing.good.get(one.name))
    refused = _of(one, listing.refused.get(one.name))
    if good is None:
        networks, source = _spell(one.seed), "seed" if one.seed else "nothing"
    else:
        networks, source = list(good.networks), "published"
    return {
        "name": one.name,
        "origin": one.origin,
        "from": source,
        "seeded": one.seeded,
        "count": len(networks),
        "networks": networks,
        "age": None if good is None else _age(good, listing.now),
        "pending": None if refused is None else _describe_pending(refused, networks, listing.now),
    }


def _describe_pending(refused: StoredSet, old: Sequence[str], now: float) -> dict[str, Any]:
    return {
        "why": refused.why,
        "count": len(refused.networks),
        "networks": list(refused.networks),
        "age": _age(refused, now),
        **_compare(old, refused.networks),
    }


def _of(one: Definition, stored: StoredSet | None) -> StoredSet | None:
    """Leave out what was had from elsewhere, under another configuration."""
    return stored if stored is not None and stored.origin == one.origin else None


def _age(stored: StoredSet, now: float) -> float:
    return round(max(0.0, now - stored.time), 1)


def _spell(networks: Sequence[Network]) -> list[str]:
    return [str(network) for network in networks]


def _compare(old: Sequence[str], new: Sequence[str]) -> dict[str, list[str]]:
    before, after = set(old), set(new)
    return {
        "added": [network for network in new if network not in before],
        "removed": [network for network in old if network not in after],
    }


def _show(rows: list[dict[str, Any]]) -> None:
    console = open_console()
    if not rows:
        console.print("no tenant names a set of networks")
        return
    table = make_table("set", "origin", ">networks", "age", last="state")
    for row in rows:
        age = "-" if row["age"] is None else format_span(row["age"])
        add_row(table, row["name"], row["origin"], row["count"], age, _tell(row))
    console.print(table)


def _tell(row: dict[str, Any]) -> str:
    pending = row["pending"]
    if pending is not None:
        return (
            f"refused {format_span(pending['age'])} ago: {format_count(pending['count'], 'network')} "
            f"({len(pending['added'])} added, {len(pending['removed'])} removed): {pending['why']}; "
            f"if that is right: outgate networks --accept {row['name']} --why TEXT"
        )
    if row["from"] == "seed":
        return f"as of {row['seeded']}" + (
            "" if row["origin"] == "built in" else ", not refreshed yet"
        )
    return "as published" if row["from"] == "published" else "not known yet: nobody can send"


# -- checking


def _check(config: Config, arguments: argparse.Namespace) -> int:
    """Look a set up; exit 1 when it would be refused whatever there was before."""
    one = _find_definition(config, "--check", arguments.check)
    state = trio.run(_look_up, config, one)
    if arguments.json:
        print(json.dumps(state))
    else:
        print("\n".join(state["networks"]))
        for note in state["notes"]:
            warn(f"note: {note}")
    if state["fault"]:
        warn(f"{one.name}: {state['fault']}; it would not be taken")
    return 1 if state["fault"] else 0


async def _look_up(config: Config, one: Definition) -> dict[str, Any]:
    resolver = Resolver(config.dns)
    found = await look_up(one, resolver, ca_file=config.delivery.ca_file)
    return {
        "name": one.name,
        "origin": one.origin,
        "count": len(found.networks),
        "networks": _spell(found.networks),
        "notes": list(found.notes),
        "fault": find_fault(found.networks),
    }


# -- accepting


def _accept(config: Config, arguments: argparse.Namespace) -> int:
    """Put refused networks in use; exit 1 when none were."""
    one = _find_definition(config, "--accept", arguments.accept)
    done = trio.run(_do_accept, config, one, decision.decide(config, arguments))
    if arguments.json:
        print(json.dumps(done))
    elif done["accepted"]:
        print(
            f"{one.name}: {format_count(done['new'], 'network')} instead of {done['old']:,} "
            f"({len(done['added'])} added, {len(done['removed'])} removed); "
            "in use everywhere within half a minute"
        )
    if not done["accepted"]:
        warn(f"{one.name}: no networks were refused: there is nothing to accept")
    return 0 if done["accepted"] else 1


async def _do_accept(config: Config, one: Definition, decided: Decision) -> dict[str, Any]:
    async with open_store(config) as store:
        sets = StoredSets(store.link)
        listing = await sets.read([one.name])
        refused = _of(one, listing.refused.get(one.name))
        if refused is None:
            return {"name": one.name, "accepted": False}
        networks = _read_pending(one, refused)
        good = _of(one, listing.good.get(one.name))
        old = _spell(one.seed) if good is None else good.networks
        changes = _compare(old, refused.networks)
        await sets.write(one.name, networks, one.origin)
        counts = {"old": len(old), "new": len(networks)}
        await decided.record(
            store.link,
            "networks-accepted",
            set=one.name,
            origin=one.origin,
            **counts,
            **{word: found[:100] for word, found in changes.items()},
        )
        return {"name": one.name, "accepted": True, **counts, **changes}


def _read_pending(one: Definition, refused: StoredSet) -> tuple[Network, ...]:
    """Raises StartError for what nobody may accept."""
    try:
        networks = refused.read_networks()
    except ValueError as error:
        raise StartError(f"{one.name}: what was refused cannot be read: {error}") from error
    if fault := find_fault(networks):
        raise StartError(
            f"{one.name}: {fault}; this cannot be accepted. Name the networks themselves in "
            "tenant.networks, if they are right"
        )
    return networks
