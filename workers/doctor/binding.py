"""Can a source send from this machine at all? Its address, or its proxy."""

from collections.abc import Sequence

import trio

from relay.config.schema import Source
from relay.errors import ConfigError, SourceUnusable
from relay.net.egress import make_egress
from workers.doctor.finding import Finding
from workers.doctor.visible import describe

_PATIENCE = 10.0  # s, for a proxy
_ADVICE = "add the address to this machine, or correct source.address"
_PROXY_ADVICE = "does the proxy run, and let this machine in? See source.proxy"


async def check_binding(source: Source) -> Sequence[Finding]:
    """Bind the address, or ask the proxy to let us in. No host is connected to."""
    subject, advice = describe(source), _PROXY_ADVICE if source.proxy else _ADVICE
    try:
        with trio.fail_after(_PATIENCE):
            await make_egress(source).check()
    except (SourceUnusable, ConfigError) as error:
        return [Finding("bind", subject, "error", str(error), advice, source.name)]
    except trio.TooSlowError:
        text = "its proxy does not answer"
        return [Finding("bind", subject, "error", text, advice, source.name)]
    if source.proxy:
        text = (
            f"{source.proxy.partition(':')[0]} proxy reached; that mail leaves from "
            f"{source.address} only the proxy knows"
        )
        return [Finding("bind", subject, "notice", text, source=source.name)]
    return [Finding("bind", subject, "ok", "can be sent from", source=source.name)]
