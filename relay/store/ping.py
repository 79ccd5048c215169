"""Two questions to a server, asked synchronously: are you there, and will you go?"""

import enum

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry


class Answer(enum.Enum):
    """What came back on PING."""

    PONG = "pong"
    LOADING = "loading"  # it reads its files and will answer when it has
    NOTHING = "nothing"


def _connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url, socket_timeout=5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0)
    )


def ping(url: str) -> Answer:
    """Ask once; at most a few seconds."""
    try:
        with _connect(url) as server:
            server.ping()
    except BusyLoadingError:
        return Answer.LOADING
    except (redis.RedisError, OSError):
        return Answer.NOTHING
    return Answer.PONG


def ask_shutdown(url: str) -> None:
    """Ask a server to end. Whether it does is for the caller to find out."""
    try:
        with _connect(url) as server:
            # Not redis-py's own shutdown(): that raises when the server goes as it was told to.
            server.execute_command("SHUTDOWN", "NOSAVE")
    except (redis.RedisError, OSError):
        pass
