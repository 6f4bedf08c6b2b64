"""The agent of halo-cluster on one node: starts processes, watches them, and leaves none behind.

halo-cluster sends this folder over ssh (or to a local python) and then speaks JSON, one object a line: requests come in
on stdin, replies and events go out on stdout. Only the standard library is used. The agent is the subreaper of all
that it starts, so a daemon cannot escape it; when the connection ends or falls silent, it stops everything and goes.
"""

import ctypes
import http.client
import io
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time

from checks import check
from tree import descendants, is_alive, kill, parents

PR_SET_CHILD_SUBREAPER = 36
SILENCE = 15.0  # seconds without a word from the launcher after which it counts as gone
LAST_WORDS = 0.3  # seconds that the last lines of a process may take
MARK = "HALO_CLUSTER_LAUNCH"

launch = sys.argv[1]
FOLDER = f"/tmp/halo-{launch}"  # the same on every node, as Ray wants it
inbox = queue.Queue()
out = sys.stdout.buffer
out_lock = threading.Lock()
last_heard = time.monotonic()
silent = False
processes = {}  # name -> Popen, in the order of their start
forwarders = {}  # name -> the thread that tells what it prints
ranks = {}  # file name -> {"pid", "mtime"}
folder = None


def send(**message):
    global silent
    if silent:
        return
    line = json.dumps(message).encode() + b"\n"
    with out_lock:
        try:
            out.write(line)
            out.flush()
        except OSError:
            silent = True
            inbox.put(None)


def read_requests():
    global last_heard
    for line in sys.stdin.buffer:
        last_heard = time.monotonic()
        request = json.loads(line)
        if request["op"] != "ping":
            inbox.put(request)
    inbox.put(None)


def beat():
    while not silent:
        send(event="alive")
        time.sleep(1)


# --- processes ------------------------------------------------------------------------------------------------------


def run_folder():
    """A private folder for this launch on this node; short, because Ray puts sockets into it."""
    global folder
    if folder is None:
        os.mkdir(FOLDER, 0o700)  # an error if it exists: it must be ours alone
        folder = FOLDER
        os.mkdir(os.path.join(folder, "stats"))
    return folder


def put(request):
    """A piece of a program that the launcher sends; where it lies."""
    path = os.path.join(run_folder(), os.path.basename(request["name"]))
    with open(path, "wb" if request["first"] else "ab") as file:
        file.write(bytes.fromhex(request["hex"]))
    os.chmod(path, 0o700)
    return {"path": path}


def start(request):
    place = run_folder()
    fill = lambda text: text.replace("{folder}", place)  # noqa: E731
    environment = dict(os.environ)
    for name in request["unset"]:
        environment.pop(name, None)
    environment.update({name: fill(value) for name, value in request["env"].items()})
    environment[MARK] = launch
    # What a process starts by name (ray, for one) must come from the same environment as its python.
    environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment.get("PATH", os.defpath)
    argv = [request["source"] if word == "{source}" else fill(word) for word in request["argv"]]
    if argv[0] == "{python}":
        argv[0] = sys.executable
    process = subprocess.Popen(
        argv,
        env=environment,
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    processes[request["process"]] = process
    forwarders[request["process"]] = threading.Thread(
        target=forward, args=(request["process"], process.stdout), daemon=True
    )
    forwarders[request["process"]].start()
    return {"pid": process.pid}


def forward(name, pipe):
    """Line by line; a progress bar ends its lines with a carriage return."""
    for line in io.TextIOWrapper(pipe, encoding="utf-8", errors="replace", newline=""):
        if line != "\r":
            send(event="output", process=name, line=line.rstrip("\r\n"))


def reap():
    """Collects whatever ended: our processes, and orphans that the kernel gave us."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for name, process in processes.items():
            if process.pid == pid and process.returncode is None:
                process.returncode = os.waitstatus_to_exitcode(status)
                # What it printed is told before its end, unless a daemon of it holds the pipe open.
                forwarders[name].join(LAST_WORDS)
                watch_ranks()  # vLLM ends after a rank that died: the cause is told first
                send(event="exited", process=name, status=process.returncode)


def watch_ranks():
    """Statistics files that changed, and ranks that ended."""
    if folder is None:
        return
    with os.scandir(os.path.join(folder, "stats")) as entries:
        for entry in entries:
            if not entry.name.endswith(".json"):
                continue
            pid = int(entry.name.rsplit(".", 2)[1])
            known = ranks.setdefault(entry.name, {"pid": pid, "mtime": 0, "alive": True})
            changed = entry.stat().st_mtime_ns
            if changed != known["mtime"]:
                known["mtime"] = changed
                with open(entry.path) as file:
                    send(event="statistics", file=entry.name, pid=pid, statistics=json.load(file))
    for name, known in ranks.items():
        if known["alive"] and not is_alive(known["pid"]):
            known["alive"] = False
            send(event="rank_ended", file=name, pid=known["pid"])


def end(name, grace):
    """Ends one process; false if it has not gone within `grace` seconds."""
    process = processes.get(name)
    if process is None or process.returncode is not None:
        return True
    kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while process.returncode is None and time.monotonic() < deadline:
        reap()
        time.sleep(0.05)
    return process.returncode is not None


def stop(grace):
    """Ends everything, last started first; what does not go in its share of `grace` seconds is killed."""
    for name in reversed(list(processes)):
        end(name, grace / len(processes))
    me = os.getpid()
    while left := descendants({me}) - {me}:
        for pid in left:
            kill(pid, signal.SIGKILL)
        reap()
        time.sleep(0.05)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def sweep():
    """Removes what another agent of this launch left on this node; how many processes that were."""
    mark, agent, spared = f"{MARK}={launch}".encode(), launch.encode(), set()
    pid, table = os.getpid(), parents()
    while pid:
        spared.add(pid)
        pid = table.get(pid, 0)
    swept = set()
    while True:
        marked = set()
        for pid in parents():
            if pid in spared:
                continue
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    environment = file.read().split(b"\0")
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if mark in environment or (b"halo-agent" in words and agent in words):
                marked.add(pid)
        victims = descendants(marked) - spared
        if not victims:
            shutil.rmtree(FOLDER, ignore_errors=True)
            return {"swept": len(swept)}
        swept |= victims
        for pid in victims:
            kill(pid, signal.SIGKILL)
        time.sleep(0.05)


# --- requests -------------------------------------------------------------------------------------------------------


def ask_http(request):
    body = json.dumps(request["body"]).encode() if request.get("body") else None
    connection = http.client.HTTPConnection(request["host"], request["port"], timeout=request["timeout"])
    try:
        connection.request(request["method"], request["path"], body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return {"status": answer.status, "text": answer.read().decode(errors="replace")}
    except OSError as error:
        return {"status": 0, "text": str(error)}
    finally:
        connection.close()


def answer(request, work):
    try:
        send(reply=request["id"], result=work(request))
    except Exception as error:  # whatever it is, the launcher must hear of it
        send(reply=request["id"], error=f"{type(error).__name__}: {error}")


def main():
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # sshd ends its child with SIGHUP when the connection goes; that is a reason to clean up, not to die.
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: inbox.put(None))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    threading.Thread(target=read_requests, daemon=True).start()
    threading.Thread(target=beat, daemon=True).start()
    work = {
        "check": check,
        "put": put,
        "start": start,
        "end": lambda request: end(request["process"], request["grace"]),
        "sweep": lambda _: sweep(),
    }
    while True:
        try:
            request = inbox.get(timeout=0.25)
        except queue.Empty:
            request = {}
        if request is None or time.monotonic() - last_heard > SILENCE:
            globals()["silent"] = True
            stop(5)
            os._exit(0)
        operation = request.get("op")
        if operation == "stop":
            answer(request, lambda request: stop(request["grace"]))
            os._exit(0)
        elif operation == "http":
            # In a thread: an answer may take long, and the watch must go on.
            threading.Thread(target=answer, args=(request, ask_http), daemon=True).start()
        elif operation:
            answer(request, work[operation])
        reap()
        watch_ranks()


main()
