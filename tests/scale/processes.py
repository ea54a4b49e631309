"""Finds the processes that a test has started."""

import os
from pathlib import Path


def processes(name):
    """Returns the ids of the processes below this one whose command line contains a name."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            parents[int(folder.name)] = int(status[1])
            if name in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [pid for pid in found if os.getpid() in _ancestors(pid, parents)]


def is_alive(pid):
    """Returns whether a process runs. One that has ended and is not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _ancestors(pid, parents):
    while pid := parents.get(pid):
        yield pid
