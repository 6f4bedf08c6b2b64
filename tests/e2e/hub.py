"""A hub for tests: serves the files of one folder as one model, to whoever has the token.

Arguments: folder, repository, token. Prints its port. It says so too (on standard output) when it sees the token on any
command line of this host.
"""

import glob
import hashlib
import http.server
import json
import os
import sys
import threading

FOLDER, REPOSITORY, TOKEN = sys.argv[1:]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {}
for place, _, names in os.walk(FOLDER):
    for name in names:
        path = os.path.join(place, name)
        with open(path, "rb") as file:
            FILES[os.path.relpath(path, FOLDER)] = hashlib.sha256(file.read()).hexdigest()


def look_for_the_token():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        if path != f"/proc/{os.getpid()}/cmdline":
            try:
                with open(path, "rb") as file:
                    if TOKEN.encode() in file.read():
                        print("the token is on a command line", flush=True)
            except OSError:
                continue


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        look_for_the_token()
        path = self.path.split("?")[0]
        given = self.headers.get("Authorization", "")
        if given != f"Bearer {TOKEN}":
            return self.answer(401, b"{}", {"X-Error-Message": "Invalid username or password."})
        if path.startswith(f"/api/models/{REPOSITORY}/revision/") or path == f"/api/models/{REPOSITORY}":
            siblings = [
                {"rfilename": name, "size": os.path.getsize(os.path.join(FOLDER, name)), "blobId": etag}
                for name, etag in FILES.items()
            ]
            body = {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": siblings, "tags": []}
            return self.answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
        if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            tree = [
                {"type": "file", "path": name, "size": os.path.getsize(os.path.join(FOLDER, name)), "oid": etag}
                for name, etag in FILES.items()
            ]
            return self.answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        name = path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/")
        if name not in FILES:
            print(f"there is no {self.path}", flush=True)
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        with open(os.path.join(FOLDER, name), "rb") as file:
            return self.answer(200, file.read(), {"X-Repo-Commit": COMMIT, "ETag": f'"{FILES[name]}"'})

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()  # until whoever started it has closed it
