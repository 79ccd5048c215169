"""rspamd as it really is, on loopback: one worker, and three rules of our own.

    with Rspamd() as rspamd:
        Scanner(..., address=rspamd.tcp)    # or rspamd.unix

What contains GTUBE is rejected, by rspamd itself; what contains SPAM has the symbol TEST_SPAM, of 7.5
points, and its action is "add header"; anything else is "no action". The envelope that ENVELOPE
describes has the symbol ENVELOPE_RIGHT (0.5 points), and RECIPIENTS_n says how many it has (0).

None of rspamd's modules is loaded, so it asks nobody: no lists, no fuzzy hashes, no maps; its resolver
points to a port of loopback where nobody listens. Half a second to start: most of it would be
the compilation of the public suffix list, and ours has five suffixes.

``crash``, ``freeze`` and ``thaw`` are for who wants trouble; after a crash ``start`` brings it back.

Needs Debian's rspamd: ``find_obstacle`` says so, for tests to skip with. No privileges.
"""

import os
import shutil
import signal
import subprocess

from relay.scan.inquiry import Inquiry
from relay.tether import tethered
from tests.kit.daemon import Daemon

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
SPAM = b"outgate-test-marker: this is spam"
# What ENVELOPE_RIGHT looks for.
ENVELOPE = Inquiry(
    message=b"Subject: envelope\r\n\r\nhello\r\n",
    sender=b"news+1=2@acme.test",
    recipients=(b"a@example.test", b'"b c"@example.test'),
    client="127.0.0.7",
    hello="out.acme.test",
    message_id="01KB5TESTTESTTESTTESTT00",
)

_CONFIG = """\
options {{
  filters = "";
  pidfile = "{directory}/rspamd.pid";
  cache_file = "{directory}/symbols.cache";
  dynamic_conf = "{directory}/dynamic";
  history_file = "{directory}/history";
  stats_file = "{directory}/stats.ucl";
  control_socket = "{directory}/control.sock mode=0600";
  hs_cache_dir = "{directory}/";
  tempdir = "{directory}";
  url_tld = "{directory}/suffixes";
  allow_raw_input = true;
  dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "info"; color = false; }}
worker "normal" {{
  bind_socket = ["127.0.0.1:{port}", "{directory}/rspamd.sock mode=0666"];
  count = 1;
}}
actions {{ reject = 15; add_header = 6; greylist = 4; }}
lua = "{directory}/rules.lua";
"""

_RULES = """\
rspamd_config:register_symbol({{
  name = "TEST_SPAM", type = "normal", score = 7.5,
  callback = function(task)
    return tostring(task:get_rawbody()):find("{spam}", 1, true) ~= nil
  end
}})
local function join(addresses)
  local all = {{}}
  for _, one in ipairs(addresses or {{}}) do all[#all + 1] = one.addr end
  return table.concat(all, "|")
end
rspamd_config:register_symbol({{
  name = "ENVELOPE_RIGHT", type = "normal", score = 0.5,
  callback = function(task)
    return join(task:get_from("smtp")) == "{sender}"
      and join(task:get_recipients("smtp")) == "{recipients}"
      and tostring(task:get_ip()) == "{client}"
      and task:get_helo() == "{hello}"
      and task:get_queue_id() == "{message_id}"
  end
}})
rspamd_config:register_symbol({{
  name = "COUNT", type = "normal", score = 0.0,
  callback = function(task)
    task:insert_result("RECIPIENTS_" .. #(task:get_recipients("smtp") or {{}}), 1.0)
  end
}})
"""


def find_obstacle() -> str | None:
    """Say what is missing to run it here."""
    return None if shutil.which("rspamd") else "rspamd not installed"


class Rspamd(Daemon):
    """One rspamd, with a directory of its own."""

    name = "rspamd"

    def __init__(self) -> None:
        super().__init__("og-rspamd-", within="/tmp")

    def _signal(self, number: signal.Signals) -> None:
        # The main process and its workers are a group: it is the workers that scan.
        os.killpg(self.pid, number)

    def stop(self) -> None:
        """End it, frozen or not, and remove its directory.

        Asked kindly it can take ten seconds, and workers would survive a main process that is killed.
        """
        if self._process is not None and self._process.poll() is None:
            self.crash()
        super().stop()

    def _launch(self) -> subprocess.Popen[bytes]:
        program = shutil.which("rspamd")
        if program is None:
            raise RuntimeError("rspamd is not installed")
        self._write_files()
        with self.output.open("ab") as output:
            # -i: it may run as root. A run of tests that is killed must not leave daemons behind.
            command = [program, "-f", "-i", "-c", str(self.directory / "rspamd.conf")]
            return subprocess.Popen(
                tethered(command, signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    def _write_files(self) -> None:
        rules = _RULES.format(
            spam=SPAM.decode(),
            sender=ENVELOPE.sender.decode(),
            recipients="a@example.test|b c@example.test",
            client=ENVELOPE.client,
            hello=ENVELOPE.hello,
            message_id=ENVELOPE.message_id,
        )
        config = _CONFIG.format(directory=self.directory, port=self.port)
        (self.directory / "suffixes").write_text("com\nnet\norg\ntest\nexample\n")
        (self.directory / "rules.lua").write_text(rules)
        (self.directory / "rspamd.conf").write_text(config)
