"""Is a process that is not our child still running?"""

import os
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Say whether it runs. A zombie does not: in a container nobody may be there to reap it."""
    try:
        os.kill(pid, 0)
        # proc(5): pid (comm) state ...; comm may hold anything, a closing bracket included.
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2]
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # gone since, or a system without /proc
        return not Path("/proc/self").exists()
    return state.split()[0] != "Z"
