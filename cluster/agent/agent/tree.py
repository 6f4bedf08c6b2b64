"""The processes of this node, as /proc has them: who lives, and who comes from whom."""

import contextlib
import os


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def parents():
    """pid -> parent's pid, of every process."""
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[0] not in "ZX":
                table[int(entry)] = int(fields[1])
    return table


def descendants(roots):
    table, found = parents(), set(roots)
    while True:
        more = {pid for pid, parent in table.items() if parent in found and pid not in found}
        if not more:
            return found
        found |= more


def kill(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
