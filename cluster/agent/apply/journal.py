"""The journal of a node, /var/lib/halo-cluster/journal.jsonl: what is about to be done, written before it is done."""

import contextlib
import json
import os
import shutil

HOME = "/var/lib/halo-cluster"
JOURNAL = f"{HOME}/journal.jsonl"


def entries():
    """The journal's records, in order; a last line that was cut off by a crash counts as not written."""
    found = []
    with contextlib.suppress(FileNotFoundError), open(JOURNAL) as file:
        for line in file:
            if not line.endswith("\n"):
                break
            found.append(json.loads(line))
    return found


def mend():
    """Removes a last line that a crash cut off."""
    with contextlib.suppress(FileNotFoundError), open(JOURNAL, "rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)


def record(**entry):
    with open(JOURNAL, "a") as file:
        file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())


def steps():
    """The steps that were begun and not undone, oldest first: what the journal says of each, merged."""
    found = {}
    for entry in entries():
        step = found.setdefault(entry["step"], {"number": entry["step"], "actions": {}, "done": False})
        if entry["state"] == "step":
            step.update(name=entry["name"], title=entry["title"], after_undo=entry["after_undo"], user=entry["user"])
        elif entry["state"] == "begin":
            step["actions"][entry["action"]] = {"what": entry["what"], "undo": entry["undo"], "done": False}
        elif entry["state"] == "end":
            step["actions"][entry["action"]]["done"] = True
            step["actions"][entry["action"]]["undo"].update(entry["undo"])
        elif entry["state"] == "taken back":
            del step["actions"][entry["action"]]
        elif entry["state"] == "done":
            step["done"] = True
        elif entry["state"] == "undone":
            del found[entry["step"]]
    return list(found.values())


def flush_folder(path):
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def forget():
    """All is undone: the journal goes, too, and what it kept."""
    shutil.rmtree(f"{HOME}/backup", ignore_errors=True)
    os.unlink(JOURNAL)
    flush_folder(HOME)
