"""Stands in for vLLM's server: one process per rank that writes halo's statistics, and a small HTTP API."""

import argparse
import http.server
import json
import os
import subprocess
import sys
import threading

RANK = """
import json, os, signal, sys
rank, world = int(sys.argv[1]), int(sys.argv[2])
path = os.environ["HALO_STATS_FILE"].replace("{name}", "tp:0").replace("{rank}", str(rank))
path = path.replace("{pid}", str(os.getpid()))
links = [{"peer": 1 - rank, "host": "here", "transport": os.environ["HALO_TRANSPORT"]}]
figures = {"p50_us": 20.0, "p99_us": 60.0, "max_us": 61.0, "histogram": [[20.0, 7], [61.0, 2]]}
operations = [{"operation": "all_reduce", "count": 9, "bytes": 4608, **figures}]
def write(failure):
    statistics = {"name": "tp:0", "rank": rank, "world": world, "links": links, "operations": operations}
    with open(path + ".new", "w") as file:
        json.dump(statistics | {"failure": failure}, file)
    os.rename(path + ".new", path)

write(None)
signal.signal(signal.SIGTERM, lambda *_: (write("HALO-E0219: rank 1 (here) is lost"), os._exit(1)))
while True:
    signal.pause()
"""

parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--host")
parser.add_argument("--port", type=int)
parser.add_argument("--tensor-parallel-size", type=int)
parser.add_argument("--nnodes", type=int, default=1)
options, _ = parser.parse_known_args()
mode = os.environ.get("STAND_IN", "")
if mode == "vllm-fails":
    print("RuntimeError: no memory for the model")
    sys.exit(3)


END = b"" if mode == "stream-breaks-off" else b"data: [DONE]\n\n"
METRICS = """# HELP vllm:num_requests_waiting Waiting.
vllm:num_requests_running{engine="0"} 1.0
vllm:num_requests_waiting{engine="0"} 2.0
vllm:generation_tokens_total{engine="0"} 321.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
"""


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        if self.path == "/health":
            self.answer(503 if mode in ("never-ready", "talks") else 200, {})
        elif self.path == "/metrics":
            self.answer(200, METRICS.encode())
        else:
            self.answer(200, {"data": [{"id": options.model}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        say(body.get("say", 0))
        if mode == "first-token-fails":
            self.answer(500, {"error": "the engine is broken"})
        elif body.get("stream"):
            self.answer(200, b'data: {"choices": [{"text": " w"}]}\n\ndata: {"choices": []}\n\n' + END)
        else:
            self.answer(200, {"choices": [{"text": " world"}]})


ranks = []


def say(lines):
    for number in range(lines):
        print(f"line {number} {'.' * 90}", flush=True)


def watch(rank):
    rank.wait()
    if mode != "ranks-follow":
        os._exit(1)
    for other in ranks:
        other.terminate()


print("Loading safetensors checkpoint shards:  50% Completed | 1/2", end="\r", flush=True)
print("Loading safetensors checkpoint shards: 100% Completed | 2/2\nGPU KV cache size: 1,000 tokens", flush=True)
print(f"started with {' '.join(sys.argv[1:])}", flush=True)
if mode == "talks":
    say(40_000)
if mode != "no-halo":
    world = options.tensor_parallel_size
    for number in range(world):
        rank = subprocess.Popen([sys.executable, "-c", RANK, str(number), str(world)], start_new_session=True)
        ranks.append(rank)
        threading.Thread(target=watch, args=(rank,), daemon=True).start()
http.server.ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()
