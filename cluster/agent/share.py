"""Copies a folder from one node to others over the data network.

    share.py serve FOLDER ADDRESS       prints {"port"}, then serves until it is ended
    share.py fetch FOLDER ADDRESS PORT  fetches what is missing or different

Who asks proves a secret that both have in their environment (HALO_SHARE_SECRET). `fetch` prints JSON lines: {"done",
"total"} in bytes; {"folder", "bytes", "files"} at the end (what came, not what was there already); {"failure", "text"}
and status 1 when it cannot. A file gets its name when its digest is right, and config.json comes last, so that half a
model is never taken for one. A copy that broke off goes on where it was.
"""

import errno
import hashlib
import hmac
import http.client
import http.server
import json
import os
import shutil
import socket
import sys
import threading
import time

SECRET = os.environ["HALO_SHARE_SECRET"]
SILENCE = 60  # seconds without a byte after which the other side counts as gone
CONNECT = 10  # seconds until a connection is refused or made
PIECE = 4 << 20


def say(**message):
    print(json.dumps(message), flush=True)


def fail(kind, text):
    say(failure=kind, text=" ".join(str(text).split()))
    os._exit(1)


def manifest(folder):
    """[(path, size)], config.json last."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".cache")
        for name in sorted(names):
            path = os.path.join(place, name)
            if os.path.isfile(path) and not name.endswith(".part"):
                found.append((os.path.relpath(path, folder), os.path.getsize(path)))
    return sorted(found, key=lambda entry: entry[0] == "config.json")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if sys.version_info >= (3, 11) else slow_digest(file)


def slow_digest(file):
    sum_ = hashlib.sha256()
    while piece := file.read(PIECE):
        sum_.update(piece)
    return sum_.hexdigest()


# --- the side that has the files ------------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SILENCE

    def do_GET(self):
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {SECRET}".encode()):
            return self.answer(403, b"the secret is wrong")
        kind, _, number = self.path.strip("/").partition("/")
        if kind == "manifest":
            return self.answer(200, json.dumps(self.server.files).encode())
        try:
            name, size = self.server.files[int(number)]
        except (ValueError, IndexError):
            return self.answer(404, b"no such file")
        path = os.path.join(self.server.folder, name)
        if kind == "digest":
            with self.server.lock:
                if name not in self.server.digests:
                    self.server.digests[name] = digest(path)
            return self.answer(200, self.server.digests[name].encode())
        start = min(int(self.headers.get("Range", "bytes=0-")[6:].rstrip("-")), size)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        with open(path, "rb") as file:
            file.seek(start)
            self.connection.sendfile(file, start)
        return None

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(folder, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = type("Server", (http.server.ThreadingHTTPServer,), {"address_family": family})((address, 0), Handler)
    server.folder, server.files, server.digests, server.lock = folder, manifest(folder), {}, threading.Lock()
    say(port=server.server_address[1])
    server.serve_forever()


# --- the side that wants them ---------------------------------------------------------------------------------------


class Source:
    def __init__(self, host, port):
        self.host, self.port, self.connection = host, port, None

    def get(self, path, start=0):
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.host, self.port, timeout=CONNECT)
            self.connection.connect()
            self.connection.sock.settimeout(SILENCE)
        headers = {"Authorization": f"Bearer {SECRET}"}
        if start:
            headers["Range"] = f"bytes={start}-"
        self.connection.request("GET", path, headers=headers)
        answer = self.connection.getresponse()
        if answer.status >= 300:
            fail("share", f"the head answered {answer.status}: {answer.read().decode(errors='replace')}")
        return answer


class Progress:
    def __init__(self, total):
        self.done, self.total, self.last = 0, total, 0.0

    def add(self, count):
        self.done += count
        if time.monotonic() - self.last > 0.5:
            self.last = time.monotonic()
            say(done=self.done, total=self.total)


def fetch_file(source, number, target, size, progress):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    part, sum_ = target + ".part", hashlib.sha256()
    with open(part, "ab+") as file:
        if file.tell() > size:
            file.truncate(0)
        file.seek(0)
        while piece := file.read(PIECE):
            sum_.update(piece)
            progress.add(len(piece))
        start = file.tell()
        if start < size:
            answer = source.get(f"/file/{number}", start)
            while piece := answer.read(PIECE):
                file.write(piece)
                sum_.update(piece)
                progress.add(len(piece))
        file.flush()
        os.fsync(file.fileno())
    if sum_.hexdigest() != source.get(f"/digest/{number}").read().decode():
        os.remove(part)
        fail("share", f"{os.path.basename(target)} arrived damaged; it was removed")
    os.replace(part, target)


def fetch(folder, host, port):
    source = Source(host, int(port))
    try:
        files = json.loads(source.get("/manifest").read())
        missing = []
        for number, (name, size) in enumerate(files):
            target = os.path.join(folder, name)
            if not (os.path.isfile(target) and os.path.getsize(target) == size):
                missing.append((number, target, size))
        # The configuration is small and tells models of the same size apart.
        config = [entry for entry in enumerate(files) if entry[1][0] == "config.json"]
        for number, (name, _) in config:
            target = os.path.join(folder, name)
            if os.path.isfile(target) and digest(target) != source.get(f"/digest/{number}").read().decode():
                missing = [(at, os.path.join(folder, other), length) for at, (other, length) in enumerate(files)]
        wanted = sum(size for _, _, size in missing)
        os.makedirs(folder, exist_ok=True)
        parts = sum(os.path.getsize(t + ".part") for _, t, _ in missing if os.path.exists(t + ".part"))
        free = shutil.disk_usage(folder).free
        if wanted - parts > free:
            fail("disk", f"{wanted - parts} bytes are to come, {free} are free at {folder}")
        progress = Progress(wanted)
        for number, target, size in missing:
            fetch_file(source, number, target, size, progress)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        local = full or isinstance(error, (PermissionError, FileExistsError, NotADirectoryError))
        fail("disk" if local else "share", error)
    except (http.client.HTTPException, ValueError) as error:
        fail("share", f"{type(error).__name__}: {error}")
    say(folder=folder, bytes=wanted, files=len(missing))


{"serve": serve, "fetch": fetch}[sys.argv[1]](*sys.argv[2:])
