"""``python -m tests.bench.looker URL SECONDS ID QUEUE``: somebody who looks at everything, as fast as is sensible.

What a dashboard, a Prometheus and an operator who pages through a queue ask, in turn, four times a second;
prints a JSON object, in the end or on SIGINT: path -> seconds that each answer took.
"""

import http.client
import json
import signal
import sys
import time
from collections import defaultdict
from urllib.parse import urlsplit

_PAUSE = 0.25  # seconds between two questions: a page that is open asks two or three a second
_PATHS = (
    "status", "queues", "sources", "sites", "standing", "tenants", "flow?window=15m",
    "messages?domain=d7.well.example", "messages?sender=alice@acme.example", "messages/{id}",
)  # fmt: skip


def main() -> int:
    """Ask until the time is over. Raises OSError, and AssertionError for an answer that is none."""
    url, seconds, message = urlsplit(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    queue = sys.argv[4]
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
    took: dict[str, list[float]] = defaultdict(list)
    paths = [f"/api/v1/{path.format(id=message)}" for path in _PATHS]
    ends, turn, after = time.monotonic() + seconds, 0, ""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(_print(took)))
    while time.monotonic() < ends:
        turn += 1
        if turn % 50 == 0:
            _ask(connection, "/metrics", took["/metrics"])
        elif turn % 3 == 0:  # page after page of the long queue
            page = json.loads(
                _ask(connection, f"{queue}?limit=100{after}", took["a page of the queue"])
            )
            assert len(page["deliveries"]) == 100, page
            after = f"&after={page['next']}"
        else:
            path = paths[turn % len(paths)]
            _ask(connection, path, took[path])
        time.sleep(_PAUSE)
    return _print(took)


def _print(took: dict[str, list[float]]) -> int:
    sys.stdout.write(json.dumps(took) + "\n")
    sys.stdout.flush()
    return 0


def _ask(connection: http.client.HTTPConnection, path: str, took: list[float]) -> bytes:
    begun = time.monotonic()
    connection.request("GET", path)
    answer = connection.getresponse()
    octets = answer.read()
    took.append(time.monotonic() - begun)
    assert answer.status == 200, f"{path}: {answer.status} {octets[:300]!r}"
    return octets


if __name__ == "__main__":
    sys.exit(main())
