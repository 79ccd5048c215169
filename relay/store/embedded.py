"""The embedded store: a Redis-compatible server of our own, when the configuration names none.

It is a child process under our configuration: a unix socket that only we can open, a password,
the append-only file synced before each reply, and no eviction. It is started again when it dies,
with the same address, so that everybody who talks to it comes back by himself.

Under ``<state_dir>``:

    lock                      held by the supervisor; two of them never share a directory
    store/connection.json     where the server is (0600: it has the password), see ``find_url``
    store/server.conf         its configuration (0600)
    store/server.lock         held by the server itself, through a descriptor that it inherits
    store/server.log          what it said
    store/sock                where it listens, unless the path is too long for a unix socket
    store/appendonlydir       the mail

``server.lock`` answers "is the last server really gone?", which no pid can (they are used again)
and no socket either (a server that is stopping closes it first, then removes its name, which by
then may be its successor's). The kernel lets go of the lock when the last process that inherited
it has ended, so whoever holds it is alone with the append-only file.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

import msgspec
import trio

from relay.config import Config
from relay.config.schema import Store
from relay.config.storeurl import add_password
from relay.errors import StartError
from relay.process import Backoff, Process, describe_end
from relay.store.binary import Binary, find_binary
from relay.store.ping import Answer, ask_shutdown, ping

_log = logging.getLogger("outgate.store")

_SOCKET_PATH = 100  # octets; sun_path holds 104 (macOS) or 108 (Linux), with the final NUL
_SILENCE = 30.0  # seconds without PONG and without LOADING: not a server
_LEFTOVER = 60.0  # seconds for a server of an earlier run to write what it has and end
_STOP = 30.0  # seconds for ours to end
_PASSWORD = 512  # characters of one that stands in a file
_LOG_LIMIT = 8 << 20  # octets of server.log before it is set aside

_CONFIGURATION = """\
# Written by outgate at each start: changes here are lost.
port 0
unixsocket {socket}
unixsocketperm 700
requirepass {password}
dir {directory}
daemonize no
logfile ""
databases 1
maxmemory {max_memory}
maxmemory-policy noeviction
save ""
appendonly yes
# A reply leaves after what it acknowledges is on disk, also while the file is being rewritten.
appendfsync always
no-appendfsync-on-rewrite no
# After a crash the last command may be half written. It was never acknowledged.
aof-load-truncated yes
# Mail passes through: most of the file is about messages that have gone. Rewriting it costs little
# (only what still waits), but not nothing, so not for every few megabytes.
auto-aof-rewrite-percentage 100
auto-aof-rewrite-min-size 256mb
"""


class Connection(msgspec.Struct, frozen=True):
    """connection.json: where the embedded server is, and who keeps it."""

    url: str
    pid: int  # the server's
    supervisor: int  # the pid of the process that restarts it
    server: str  # program and version, for people


class EmbeddedServer:
    """A running embedded server. ``url`` stays the same through restarts."""

    def __init__(self, config: Config, binary: Binary, socket: Path, lock: int) -> None:
        password = secrets.token_urlsafe(32)
        self.name = binary.name
        self.url = f"unix://{quote(str(socket))}?password={password}"
        self._binary = binary
        self._directory = _directory(config)
        self._socket = socket
        self._lock = lock
        self._process: Process | None = None
        text = _CONFIGURATION.format(
            socket=_quoted(str(socket)),
            password=password,
            directory=_quoted(str(self._directory)),
            max_memory=int(config.store.max_memory),
        )
        _write_private(self._directory / "server.conf", text.encode())

    @property
    def pid(self) -> int:
        """The server's process id; another one after a restart."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it, and return when it answers. Raises StartError with its last words."""
        with _open_log(self._directory / "server.log") as log:
            beginning = log.tell()
            self._process = Process(
                [self._binary.path, str(self._directory / "server.conf")],
                orphaned=signal.SIGTERM,
                # A locale that this machine does not have would keep Redis 7.2 from starting.
                environment={"LC_ALL": "C"},
                pass_fds=[self._lock],
                output=log,
            )
        connection = Connection(self.url, self.pid, os.getpid(), self.name)
        _write_private(_connection(self._directory), msgspec.json.encode(connection))
        try:
            await self._answer()
        except StartError as error:
            await self.stop()
            words = _read_end(self._directory / "server.log", beginning)
            raise StartError(f"{error}; it said: {words}") from None
        except BaseException:
            await self.stop()
            raise

    async def _answer(self) -> None:
        """Wait for PONG: as long as it takes while the server says that it is loading."""
        assert self._process is not None
        deadline = trio.current_time() + _SILENCE
        while (answer := await trio.to_thread.run_sync(ping, self.url)) is not Answer.PONG:
            if (status := self._process.status) is not None:
                raise StartError(f"the store ({self.name}) {describe_end(status)} at its start")
            if answer is Answer.LOADING:
                deadline = trio.current_time() + _SILENCE
            elif trio.current_time() > deadline:
                raise StartError(f"the store ({self.name}) does not answer")
            await trio.sleep(0.2 if answer is Answer.LOADING else 0.02)

    async def keep(self) -> None:
        """Start it again whenever it dies, for ever."""
        backoff = Backoff()
        while True:
            assert self._process is not None
            started = trio.current_time()
            end = describe_end(await self._process.wait())
            wait = backoff.next_wait(trio.current_time() - started)
            _log.warning("the store (%s) %s; starting it again in %g s", self.name, end, wait)
            await trio.sleep(wait)
            try:
                await self.start()
                _log.warning("the store (%s) answers again", self.name)
            except StartError as error:
                _log.error("%s", error)

    async def stop(self) -> None:
        """End it and wait until it has."""
        if self._process is not None:
            await self._process.stop(grace=_STOP)


@contextlib.asynccontextmanager
async def open_embedded(config: Config, *, held: bool = False) -> AsyncIterator[EmbeddedServer]:
    """Run the embedded server for as long as the body takes. From the main thread.

    ``held``: the caller has ``hold_state_dir`` already. Raises StartError.
    """
    async with contextlib.AsyncExitStack() as stack:
        if not held:
            stack.enter_context(hold_state_dir(config))
        directory = _make_directory(_directory(config))
        directory.chmod(0o700)  # also when somebody made it before us: the socket is in it
        binary = await trio.to_thread.run_sync(find_binary)
        lock = await _outlive_leftover(directory)
        stack.callback(os.close, lock)
        socket = stack.enter_context(_choose_socket(directory))
        stack.callback(_connection(directory).unlink, missing_ok=True)
        server = EmbeddedServer(config, binary, socket, lock)
        await server.start()
        stack.push_async_callback(server.stop)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.keep)
            try:
                yield server
            except Exception as error:
                failure = error  # raised outside, where the nursery does not wrap it in a group
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


def find_url(config: Config) -> str:
    """Return the store's URL: the configuration's, or that of the embedded server that runs.

    Raises StartError when there is neither, or no password where one should be.
    """
    if config.store.url:
        return _complete(config.store)
    path = _connection(_directory(config))
    advice = "start `outgate up` with this configuration, or set [store] url"
    try:
        connection = msgspec.json.decode(path.read_bytes(), type=Connection)
    except (FileNotFoundError, NotADirectoryError):
        connection = None
    except (OSError, msgspec.DecodeError) as error:
        raise StartError(f"{path} cannot be read ({error}): {advice}, as this user") from error
    if connection is None or not _is_running(connection.supervisor):
        raise StartError(f"no embedded store runs in {config.state_dir}: {advice}")
    return connection.url


def _complete(store: Store) -> str:
    """Return the configured URL with the password that is in a file. What it is must not be said."""
    path = store.password_file
    if not path:
        return store.url
    try:
        with Path(path).open("rb") as file:
            password = file.read(_PASSWORD + 2).rstrip(b"\r\n").decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StartError(f"store.password_file: {path} cannot be read: {why}") from None
    if not password or len(password) > _PASSWORD or "\n" in password:
        raise StartError(
            f"store.password_file: {path}: expected one line, 1 to {_PASSWORD} characters"
        )
    return add_password(store.url, password)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as somebody else
    return True


@contextlib.contextmanager
def hold_state_dir(config: Config) -> Iterator[None]:
    """Make sure that no other supervisor uses this ``state_dir``. Raises StartError."""
    path = _make_directory(Path(config.state_dir).absolute()) / "lock"
    with _lock_file(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise StartError(
                f"{config.state_dir} is in use by process {owner}: "
                "stop it, or configure another state_dir"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(lock, 0)


async def _outlive_leftover(directory: Path) -> int:
    """Return a descriptor that holds ``server.lock``, once the server of an earlier run is gone.

    On Linux it has got SIGTERM from the kernel already and is about to end; elsewhere it still
    runs, and is told to end.
    """
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(_lock_file(directory / "server.lock"))
        deadline = trio.current_time() + _LEFTOVER
        while not _try_lock(lock):
            if trio.current_time() > deadline:
                raise StartError(
                    f"the store of an earlier run still runs in {directory} and does not end: "
                    f"find it with `fuser {directory}/server.lock` and stop it"
                )
            with contextlib.suppress(OSError, msgspec.DecodeError):
                left = msgspec.json.decode(_connection(directory).read_bytes(), type=Connection)
                await trio.to_thread.run_sync(ask_shutdown, left.url)
            await trio.sleep(0.05)
        return os.dup(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _choose_socket(directory: Path) -> Iterator[Path]:
    """Choose where the server listens: beside its files, or where the path is short enough."""
    if len(os.fsencode(directory / "sock")) <= _SOCKET_PATH:
        yield directory / "sock"
        return
    with tempfile.TemporaryDirectory(prefix="outgate-") as short:  # made with mode 0700
        yield Path(short) / "sock"


def _directory(config: Config) -> Path:
    return Path(config.state_dir).absolute() / "store"


def _connection(directory: Path) -> Path:
    return directory / "connection.json"


def _make_directory(directory: Path) -> Path:
    """Make a directory that only we can enter, unless there is one. Raises StartError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(
            f"{directory} cannot be used ({error.strerror}): make it writable for this user, "
            "or configure another state_dir"
        ) from error
    return directory


def _write_private(path: Path, content: bytes) -> None:
    """Replace a file at once, readable for nobody else at any time."""
    draft = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)


def _quoted(text: str) -> str:
    """Quote for the server's configuration file, whose strings are C's."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _open_log(path: Path) -> IO[bytes]:
    if path.exists() and path.stat().st_size > _LOG_LIMIT:
        path.replace(path.with_suffix(".log.1"))
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _read_end(path: Path, beginning: int) -> str:
    """Return the last lines that were written to the log since ``beginning``."""
    with path.open("rb") as log:
        log.seek(beginning)
        lines = log.read(65_536).decode("utf-8", "replace").split("\n")
    return " / ".join(line.strip() for line in lines if line.strip())[-600:] or "nothing"
