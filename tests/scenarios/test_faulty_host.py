"""A host that goes wrong at some step: afterwards the message is in exactly one place.

With a real store; what the session itself makes of each fault is in tests/workers/test_peer.py.
"""

from pathlib import Path

import pytest
import trio

from tests.kit.peer import ScriptedHost
from tests.kit.redis import Server
from tests.kit.works import open_works

STEPS = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT", ".")
FINAL = ("MAIL", "RCPT", "DATA", ".")  # where a 5xx is about the message
FAULTS = ("eof", "reset", "421 4.3.2 going down", "raw what?", "450 4.2.0 later", "550 5.7.1 no")


@pytest.mark.parametrize("offers", [("PIPELINING",), ()], ids=["pipelined", "plain"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_faults(server: Server, tmp_path: Path, fault: str, offers: tuple[str, ...]) -> None:
    """Each step fails once, at a host of its own; the retry is let through at once."""
    async with trio.open_nursery() as nursery:
        hosts = {}
        for number, step in enumerate(STEPS):
            if fault[0] in "45r" and fault != "reset" and step == "CONTENT":
                continue  # a reply in the middle of content answers nothing
            # RFC 5321 §4.1.4: after a 5xx to EHLO comes HELO.
            script = f"{step}1 {fault}" + (f"\nHELO1 {fault}" if step == "EHLO" else "")
            host = ScriptedHost(script, offers=offers)
            hosts[f"d{number}.test"] = await nursery.start(host.run)
        notices = await nursery.start(ScriptedHost().run)
        routes = {domain: [host.make_host()] for domain, host in hosts.items()}
        routes["acme.example"] = [notices.make_host()]
        async with open_works(server, tmp_path, routes=routes, retry=["1h"]) as works:
            for domain in hosts:
                await works.post(b"bob@" + domain.encode())
            refused = len(FINAL) if fault.startswith("5") else 0
            deferred = len(hosts) - refused
            events = await works.wait_for_event("deferred", deferred)
            await works.wait_for(bounced=refused, queued=deferred)
            await works.wait_for(delivered=refused, book="notices")
            works.check()
            no_answer = not fault.startswith(("421", "450", "550"))
            unknown = {"d6.test"} if no_answer else set()
            if fault in ("eof", "reset"):
                unknown.add("d5.test")  # a small message is out, with its dot, before it is read
            await works.wait_for(unknown=len(unknown))
            assert {event["attempt"] for event in events} == {1}

            for domain in hosts:
                await works.hurry(domain)
            await works.wait_for(delivered=deferred, queued=0)
            works.check()
        nursery.cancel_scope.cancel()
