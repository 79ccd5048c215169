"""The systems of the TLS part: nothing, Postfix, outgate; STARTTLS demanded on both sides."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from tests.bench.process import name_outgate
from tests.bench.system import FASTER, Running, check_ledger, open_nothing, open_postfix
from tests.bench.tls.certificates import HOST, Certificates
from tests.kit.gateway import Gateway

PER_SESSION = 100  # messages over one session to the sink, as outgate does unless told otherwise
OPEN = 20  # sessions to the sink at a time

# Both verify the sink's chain and name; no mail in clear on either side. Sessions to the sink: 20
# at a time, 100 messages each. Everything else is the default of a gateway with three sources.
_OUTGATE = f"""\
[[route]]
domains = ["*"]
hosts = ["{HOST}:{{port}}"]
[[site]]
name = "sink"
domains = ["*"]
tls = "verify"
connections = {OPEN}
messages_per_connection = {PER_SESSION}
"""

# What Debian installs, and of TLS what Postfix's TLS_README has for servers and for clients.
_TLS = {
    "smtpd_tls_security_level": "encrypt",
    "smtp_tls_security_level": "verify",
    # Debian's main.cf: sessions can be resumed, by all smtp(8) processes.
    "smtp_tls_session_cache_database": "btree:${data_directory}/smtp_scache",
}
# TLS_README, "Client-side TLS connection reuse": several deliveries over one TLS session need
# tlsproxy(8). CONNECTION_CACHE_README: keep the sessions of a destination that is known for much
# mail always, not only when the queue manager says so. As many messages over each as outgate.
_KEPT = _TLS | {
    "smtp_tls_connection_reuse": "yes",
    "smtp_connection_cache_destinations": HOST,
    "smtp_connection_reuse_count_limit": str(PER_SESSION),
}
# The settings that make it faster in the measurement without TLS (tests/bench/system.py).
_TUNED = FASTER | _KEPT | {"smtp_connection_cache_on_demand": "yes"}
# The same, but a session for each message: resumed, without connection cache and tlsproxy.
_EACH = FASTER | _TLS


@contextmanager
def open_outgate(sink_port: int, certificates: Certificates) -> Iterator[Running]:
    """``outgate up`` with the embedded store and the sink as everybody's host."""
    with Gateway(
        {},
        ingress=(
            # A session for each message, all from one address: more than anybody should want.
            'client_handshakes = "1000000/s"\n'
            f'[ingress.tls]\ncertificate = "{certificates.chain}"\nkey = "{certificates.key}"\n'
            "required = true"
        ),
        delivery=f'processes = 1\nca_file = "{certificates.ca_file}"',
        tables=_OUTGATE.format(port=sink_port),
    ) as gateway:
        yield Running(
            gateway.port, gateway.pid, name_outgate, gateway.read_output,
            lambda count: check_ledger(gateway, count),
        )  # fmt: skip


def _open_postfix(
    settings: Mapping[str, str],
) -> Callable[[int, Certificates], AbstractContextManager[Running]]:
    def open_one(sink_port: int, certificates: Certificates) -> AbstractContextManager[Running]:
        files = {
            "smtpd_tls_chain_files": f"{certificates.key}, {certificates.chain}",
            "smtp_tls_CAfile": str(certificates.ca_file),
        }
        return open_postfix(sink_port, {**settings, **files}, host=HOST)

    return open_one


SYSTEMS: dict[str, Callable[[int, Certificates], AbstractContextManager[Running]]] = {
    "generator": lambda port, _: open_nothing(port),
    "postfix": _open_postfix(_KEPT),
    "outgate": open_outgate,
    "postfix-tuned": _open_postfix(_TUNED),
    "postfix-each": _open_postfix(_EACH),
}
