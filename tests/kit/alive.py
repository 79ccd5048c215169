"""Is a process that is not our child still running?"""

import subprocess


def is_alive(pid: int) -> bool:
    """Say whether it runs. A zombie does not: in a container nobody may be there to reap it."""
    shown = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(shown) and not shown.startswith("Z")
