"""What services say to people, on standard error: a line of text each, or a line of JSON.

As JSON (``log.format``) each line is an object: time (seconds since 1970), level, service, slot (which of
several; null: the only one), logger, message; exception, with its traceback, where there is one. What
would end a process with a traceback is such a line, too: a collector of logs reads nothing else.
"""

import logging
import os
import sys
from types import TracebackType

import msgspec

_encode = msgspec.json.Encoder().encode


class JsonLines(logging.Formatter):
    """Makes the lines of one process."""

    def __init__(self, service: str, slot: str) -> None:
        """``slot``: its number, as text; "" for none."""
        super().__init__()
        self._service = service
        self._slot = int(slot) if slot.isdecimal() else None

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line, without its end."""
        line: dict[str, object] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "service": self._service,
            "slot": self._slot,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # What a stranger sent may hold half a character, which JSON cannot.
        safe = {
            key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
            for key, value in line.items()
        }
        return _encode(safe).decode()


def start_journal(command: str, *, as_json: bool = False) -> None:
    """Set logging up for this process."""
    slot = os.environ.get("OUTGATE_SLOT", "")
    who = f"outgate: {command} {slot}" if slot else "outgate"
    handler = logging.StreamHandler(sys.stderr)
    if as_json:
        handler.setFormatter(JsonLines(command, slot))
        logging.captureWarnings(True)
        sys.excepthook = _log_end
    else:
        handler.setFormatter(logging.Formatter(f"{who}: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # It tells of every request at this level; what became of a policy or a report, we say.
    logging.getLogger("httpx2").setLevel(logging.WARNING)


def say_error(text: str) -> None:
    """Say what a command failed for: as the log does, where that is JSON."""
    if any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers):
        logging.getLogger("outgate").error("%s", text)
    else:
        print(f"outgate: {text}", file=sys.stderr)


def _log_end(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """What nobody caught: a fault of ours."""
    logging.getLogger("outgate").critical(
        "ended by a fault: %s", error, exc_info=(kind, error, traceback)
    )
