"""Opening the store: the link that its URL wants."""

from relay.config import Config
from relay.config.storeurl import read_store_url
from relay.store.cluster import ClusterLink
from relay.store.embedded import find_url
from relay.store.link import Link


def make_link(url: str, *, timeout: float, replicas: int = 0, leisure: int = 1) -> Link:
    """Return a link to one server, to whoever Sentinels call the master, or to a Cluster.

    ``timeout``, ``replicas``, ``leisure``: see Link. Raises ValueError for a bad URL.
    """
    kind = ClusterLink if read_store_url(url).kind == "cluster" else Link
    return kind(url, timeout=timeout, replicas=replicas, leisure=leisure)


def open_link(config: Config) -> Link:
    """Return a link to the configured store, or to the embedded one. Raises StartError."""
    return make_link(find_url(config), timeout=config.store.timeout, replicas=config.store.replicas)
