import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.errors import ConfigError, StartError
from workers.cli.main import _COMMANDS, _report, main

_ROOT = Path(__file__).parents[3]


def _run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", *words],
        cwd=_ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("name", _COMMANDS)
def test_help_of_every_command_has_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])

    said = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"example:\n  outgate {name}" in said
    assert "--config FILE" in said
    assert ("--json" in said) == _COMMANDS[name].prints_state


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])

    said = capsys.readouterr().out
    assert caught.value.code == 0
    for name in _COMMANDS:
        assert f"\n    {name} " in said or f"\n    {name}\n" in said


@pytest.mark.slow
@pytest.mark.alone
def test_help_does_not_wait_for_what_it_does_not_need() -> None:
    # The best of five: the machine that runs the tests has other things to do.
    times = []
    for _ in range(5):
        started = time.monotonic()
        assert _run("--help").returncode == 0
        times.append(time.monotonic() - started)

    assert min(times) < 0.5
    imported = subprocess.run(
        [sys.executable, "-c", "import sys, workers.cli.main; print(*sys.modules)"],
        cwd=_ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert not {"trio", "redis", "msgspec", "dns", "rich", "logging"} & set(imported)


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])

    assert capsys.readouterr().out.startswith("outgate ")


@pytest.mark.parametrize(
    "words", [[], ["nonsense"], ["-c"], ["check", "--nonsense"], ["check", "-c"], ["up", "--json"]]
)
def test_wrong_command_line_is_exit_code_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)

    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["up", "ingress", "worker", "check"])
def test_wrong_configuration_is_exit_code_2_with_a_line_for_each_problem(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "o.toml"
    path.write_text("[ingress]\nlisen = []\nprocesses = 'x'")

    status = main([name, "-c", str(path)])

    assert status == 2
    assert capsys.readouterr().err.splitlines() == [
        f"outgate: {path}: ingress.lisen: unknown key; did you mean listen?",
        f'outgate: {path}: ingress.processes: expected a whole number, got "x"',
    ]


def test_worker_of_a_source_that_does_not_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "o.toml"
    path.write_text("")

    assert main(["worker", "-c", str(path), "--source", "x"]) == 2
    assert "--source x: no [[source]] of that name; there is default" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (StartError("no"), 1, ["outgate: no"]),
        (ConfigError(["a: b", "c: d"]), 2, ["outgate: a: b", "outgate: c: d"]),
        (ExceptionGroup("nursery", [StartError("no")]), 1, ["outgate: no"]),
        (
            ExceptionGroup("n", [ExceptionGroup("n", [StartError("no")]), StartError("nor")]),
            1,
            ["outgate: no", "outgate: nor"],
        ),
        (ExceptionGroup("nursery", [ConfigError(["a"]), StartError("b")]), 2, None),
        (KeyboardInterrupt(), 130, []),
        (BaseExceptionGroup("nursery", [KeyboardInterrupt(), StartError("no")]), 130, []),
    ],
)
def test_error_becomes_lines_and_an_exit_code(
    error: BaseException,
    status: int,
    said: list[str] | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _report(error) == status
    if said is not None:
        assert capsys.readouterr().err.splitlines() == said


@pytest.mark.parametrize(
    "error", [ValueError("bug"), ExceptionGroup("nursery", [StartError("no"), ValueError("bug")])]
)
def test_bug_keeps_its_traceback(error: BaseException) -> None:
    with pytest.raises(type(error)):
        _report(error)


@pytest.mark.slow
def test_reader_that_has_seen_enough_is_no_traceback() -> None:
    # A pipe that is closed before the command writes, as of `outgate check | true`.
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-u", "-m", "workers.cli", "check"],
            cwd=_ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=30,
        )  # fmt: skip
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.slow
def test_configuration_is_found_through_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "o.toml"
    path.write_text("ingress.hostname = 'g.example'")

    assert f"{path}: ok" in _run("check", OUTGATE_CONFIG=str(path)).stdout
