"""Changes one node step by step, as halo-cluster says, and takes the changes back.

halo-cluster sends this folder over ssh and runs it as root. It keeps a journal, /var/lib/halo-cluster/journal.jsonl:
what is about to be done is on disk before it is done, with all that undoing it needs, so whatever ends this program
between two moments leaves a state that can be continued or undone. Only the standard library is used.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import shutil
import subprocess
import sys

from journal import HOME, entries, flush_folder, forget, mend, record, steps

os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
os.environ.update(LC_ALL="C", DEBIAN_FRONTEND="noninteractive")


class Refused(Exception):
    """Something that the user must hear as it is."""


# --- what an action is ----------------------------------------------------------------------------------------------


def text_of(path):
    try:
        with open(path, newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def digest(text):
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def replace(path, text, mode, owner):
    """The file is the old one or the new one at every moment."""
    beside = f"{path}.halo-new"
    with open(beside, "w", newline="") as file:
        os.fchmod(file.fileno(), mode)
        os.fchown(file.fileno(), *owner)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)
    flush_folder(os.path.dirname(path))


def missing_folders(path):
    """The folders above `path` that do not exist yet, outermost first."""
    missing, folder = [], os.path.dirname(path)
    while not os.path.isdir(folder):
        missing.insert(0, folder)
        folder = os.path.dirname(folder)
    return missing


def prepare_write(action, key):
    path, before = action["path"], text_of(action["path"])
    if action["checked"] and before != action["before"]:
        raise Refused(f"{path} has changed since it was looked at; run halo-cluster configure again")
    undo = {"digest": digest(action["text"]), "folders": missing_folders(path), "backup": None}
    if before is not None:
        undo["backup"] = f"{HOME}/backup/{key}-{os.path.basename(path)}"
        shutil.copy2(path, undo["backup"])
        undo["owner"] = [os.stat(path).st_uid, os.stat(path).st_gid]
        undo["mode"] = os.stat(path).st_mode & 0o7777
        with open(undo["backup"]) as file:
            os.fsync(file.fileno())
    return undo


def do_write(action, undo, _):
    for folder in undo["folders"]:
        os.makedirs(folder, mode=0o755, exist_ok=True)
    owner = undo.get("owner", [0, 0])
    replace(action["path"], action["text"], undo.get("mode", int(action["mode"], 8)), owner)
    return {}


def undo_write(action, undo, _):
    path, now = action["path"], digest(text_of(action["path"]))
    before = text_of(undo["backup"]) if undo["backup"] else None
    if now == digest(before):
        return None  # never written, or put back by someone
    if now != undo["digest"]:
        raise Refused(f"{path} was changed by someone else since; the file as it was before is {undo['backup']}")
    if before is None:
        os.unlink(path)
        flush_folder(os.path.dirname(path))
        for folder in reversed(undo["folders"]):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    else:
        replace(path, before, undo["mode"], undo["owner"])
    return None


def command(argv, user=None):
    """Runs a command as root, or as `user` with their session's environment; its output is the error."""
    if user and user != "root":
        person = pwd.getpwnam(user)
        session = [f"HOME={person.pw_dir}", f"XDG_RUNTIME_DIR=/run/user/{person.pw_uid}", f"USER={user}"]
        argv = ["runuser", "-u", user, "--", "env", *session, *argv]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", cwd="/", timeout=1800
        )
    except OSError as error:
        raise Refused(f"`{' '.join(argv)}`: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Refused(f"`{' '.join(argv)}` did not end within 1800 s") from None
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-5:]
        raise Refused(f"`{' '.join(argv)}` ended with status {done.returncode}: {'; '.join(lines)}")
    return done.stdout


def do_run(action, _, user):
    command(action["argv"], user if action["as_user"] else None)
    return {}


def undo_run(action, undo, user):
    if not action["undo"]:
        return None
    try:
        command(action["undo"], user if action["as_user"] else None)
    except Refused as error:
        # What was begun and not ended may never have happened.
        if not action["undo_may_fail"] and undo["ended"]:
            raise
        return str(error)
    return None


def installed(manager):
    if manager == "apt":
        listed = command(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n"])
        return sorted(line.split()[1] for line in listed.splitlines() if line.startswith("installed "))
    return sorted(set(command(["rpm", "-qa", "--qf", "%{NAME}\n"]).split()))


def prepare_install(action, _):
    return {"before": installed(action["manager"])}


def do_install(action, undo, _):
    names = action["names"]
    if action["manager"] == "apt":
        command(["apt-get", "-o", "DPkg::Lock::Timeout=300", "update", "-q"])
        command(["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "-q", "--no-install-recommends", *names])
    else:
        command(["dnf", "install", "-y", *names])
    return {"added": sorted(set(installed(action["manager"])) - set(undo["before"]))}


def undo_install(action, undo, _):
    """Removes what was added, but nothing that something else needs by now: dpkg and rpm refuse that."""
    present = set(installed(action["manager"]))
    added = set(undo["added"]) if "added" in undo else present - set(undo["before"])
    names = sorted(added & present)
    if not names:
        return None
    try:
        command([*(["dpkg", "--purge"] if action["manager"] == "apt" else ["rpm", "-e"]), *names])
    except Refused as error:
        return f"packages that something else needs by now are kept: {error}"
    return None


PREPARE = {"write": prepare_write, "run": lambda *_: {}, "install": prepare_install}
DO = {"write": do_write, "run": do_run, "install": do_install}
UNDO = {"write": undo_write, "run": undo_run, "install": undo_install}


# --- requests -------------------------------------------------------------------------------------------------------


def apply(request):
    """One step. What it does is in the journal before it is done."""
    number = 1 + max((entry["step"] for entry in entries()), default=0)
    step = request["step"]
    head = {name: step[name] for name in ("name", "title", "after_undo")}
    record(step=number, state="step", user=request["user"], **head)
    for index, action in enumerate(step["actions"]):
        undo = PREPARE[action["kind"]](action, f"{number}-{index}")
        what = {name: value for name, value in action.items() if name not in ("text", "before")}
        record(step=number, state="begin", action=index, what=what, undo=undo)
        more = DO[action["kind"]](action, undo, request["user"])
        record(step=number, state="end", action=index, undo=more)
    record(step=number, state="done")
    return {}


def undo(_):
    """The last step that is not undone yet; its title, or nothing if there is none."""
    left = steps()
    if not left:
        return {"title": None}
    step, notes = left[-1], []
    for index in sorted(step["actions"], reverse=True):
        action = step["actions"][index]
        note = UNDO[action["what"]["kind"]](action["what"], {**action["undo"], "ended": action["done"]}, step["user"])
        notes += [note] if note else []
        record(step=step["number"], state="taken back", action=index)
    for argv in step.get("after_undo", []):
        try:
            command(argv)
        except Refused as error:
            notes.append(str(error))
    record(step=step["number"], state="undone")
    if not steps():
        forget()
    return {"title": step["title"], "notes": notes}


def main():
    os.umask(0o022)
    os.makedirs(HOME, mode=0o755, exist_ok=True)
    os.makedirs(f"{HOME}/backup", mode=0o700, exist_ok=True)
    lock = os.open(f"{HOME}/lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        locked = "another halo-cluster configure is changing this node"
    else:
        locked = None
        mend()
    work = {"apply": apply, "undo": undo, "journal": lambda _: {"steps": steps()}}
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            if locked:
                raise Refused(locked)
            answer = {"result": work[request["op"]](request)}
        except Refused as error:
            answer = {"result": {"refused": str(error)}}
        except Exception as error:  # whatever it is, halo-cluster must hear of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
