"""Memory of this process."""

import os
import resource
import sys
from pathlib import Path


def rss_mb() -> float:
    """Resident memory in megabytes; where the system does not tell, its peak so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
