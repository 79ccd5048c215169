import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from relay.config import Endpoint, read
from relay.errors import StartError
from relay.store.embedded import hold_state_dir
from tests.kit.ports import find_free_port
from workers.cli.main import main
from workers.cli.up import check_ports

_ROOT = Path(__file__).parents[3]


def write_config(directory: Path, more: str = "", *, port: int = 0) -> str:
    """Write a configuration that listens on ``port``; return its path."""
    path = directory / "outgate.toml"
    listen = f'listen = ["127.0.0.1:{port}"]'
    path.write_text(
        f'[ingress]\nhostname = "gw.example"\n{listen}\n[admin]\nenabled = false\n{more}'
    )
    return str(path)


def test_free_port_is_free() -> None:
    check_ports([Endpoint("127.0.0.1", find_free_port()), Endpoint("localhost", find_free_port())])


def test_taken_port_is_named_even_when_it_would_be_shared() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(StartError) as caught:
            check_ports([Endpoint("127.0.0.1", port)])

    assert str(caught.value) == (
        f"port {port} on 127.0.0.1 is taken (address already in use): "
        "stop the other program or change ingress.listen"
    )


def test_the_port_of_the_dashboard_is_looked_at_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        path = write_config(tmp_path, port=find_free_port())
        file = Path(path)
        file.write_text(
            file.read_text().replace("enabled = false", f'listen = ["127.0.0.1:{port}"]')
        )

        assert main(["up", "-c", path]) == 1

    said = capfd.readouterr().err
    assert f"port {port} on 127.0.0.1 is taken" in said
    assert "change admin.listen" in said


def test_port_with_connections_of_the_last_run_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            served, _ = listener.accept()
            served.close()  # we close first: TIME_WAIT stays with us
            assert client.recv(1) == b""

    check_ports([Endpoint("127.0.0.1", port)])


def test_address_of_another_machine_is_named() -> None:
    with pytest.raises(
        StartError, match=r"port 2525 on 192\.0\.2\.1 cannot be used .*does not have"
    ):
        check_ports([Endpoint("192.0.2.1", 2525)])


def test_state_dir_in_use_is_said_before_the_port_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The other one has the port as well; that is not what is wrong.
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        path = write_config(tmp_path, port=port)
        config = read({"state_dir": "state"}, base=tmp_path, environment={})

        with hold_state_dir(config):
            status = main(["up", "-c", path])

    assert status == 1
    assert f"is in use by process {os.getpid()}" in capsys.readouterr().err


def test_store_that_cannot_start_ends_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OUTGATE_STORE_SERVER", "/nonexistent")
    path = write_config(tmp_path, port=find_free_port())

    assert main(["up", "-c", path]) == 1
    assert "outgate: OUTGATE_STORE_SERVER: /nonexistent does not run" in capsys.readouterr().err


@pytest.mark.slow
def test_directory_of_the_user_does_not_replace_our_code(tmp_path: Path) -> None:
    """A directory ``workers`` where the user happens to be is not what the children run."""
    (tmp_path / "workers" / "cli").mkdir(parents=True)
    for package in ("workers", "workers/cli"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "workers" / "cli" / "__main__.py").write_text("print('hijacked', flush=True)")
    path = write_config(tmp_path, port=find_free_port())
    start = "from workers.cli.main import main; main()"
    up = subprocess.Popen(
        [sys.executable, "-P", "-c", start, "up", "-c", path],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert up.stdout is not None
    lines = []
    for line in up.stdout:
        lines.append(line)
        if ": ready: " in line or "before it was ready" in line:
            break
    up.send_signal(signal.SIGTERM)
    lines.append(up.stdout.read())
    up.stdout.close()
    up.wait(30)

    assert "hijacked" not in "".join(lines)


def test_a_store_that_does_not_answer_is_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, '[store]\nurl = "unix:///nowhere/sock"\n')

    assert main(["up", "-c", path]) == 1

    said = capfd.readouterr().err
    assert said.count("the store does not answer") == 1
    assert "correct store.url" in said


def test_sources_that_are_not_here_are_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, '[[source]]\nname = "a"\naddress = "203.0.113.7"\n')

    assert main(["up", "-c", path]) == 1

    said = capfd.readouterr().err
    assert said.count("no source can be used (a)") == 1
