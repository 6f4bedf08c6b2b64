"""Asks a served model for a completion and checks that every collective it took went through halo.

    python -m halo.demo --status "halo-cluster status --json"

A forward pass of a Llama makes two all-reduces per layer and one for the embedding, each of (tokens x hidden size)
elements, and one gather of the logits. A greedy request of n new tokens is n forward passes: the first over the whole
prompt, each other over one token. What halo counted on each rank, by transport, is printed beside that; a difference
is an error.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
import time
import urllib.request
from typing import Any

PROMPT = "the quick brown fox jumps over"
TOKENS = 32
# Each rank renews its statistics about once a second.
SETTLE_SECONDS = 10.0


def fail(what: str, remedy: str) -> None:
    sys.exit(f"error[HALO-E0551]: {what}\n  help: {remedy}")


def status(command: str) -> dict[str, Any]:
    done = subprocess.run(shlex.split(command), capture_output=True, text=True)
    if done.returncode != 0:
        fail(f"`{command}` failed: {done.stderr.strip()}", "start a model first: halo-cluster launch --local --detach")
    return json.loads(done.stdout)["launch"]


def complete(endpoint: str, model: str) -> tuple[dict[str, Any], float]:
    body = {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(
        endpoint + "/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    start = time.monotonic()
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer), time.monotonic() - start


# (rank, kind) -> (operations, bytes, transport)
Counts = dict[tuple[int, str], tuple[int, int, str]]


def counts(launch: dict[str, Any]) -> Counts:
    """What halo has counted so far; every gathering operation is of one kind here."""
    found: Counts = {}
    for rank in launch["ranks"]:
        for operation in rank["statistics"]["operations"]:
            kind = "gather" if "gather" in operation["operation"] else operation["operation"]
            found[rank["rank"], kind] = (operation["count"], operation["bytes"], operation["transport"])
    return found


def expected(model: str, world: int, prompt_tokens: int, new_tokens: int) -> dict[str, tuple[int, int]]:
    """kind -> (operations, bytes) of one rank for one request."""
    config = json.loads(pathlib.Path(model, "config.json").read_text())
    element = 4 if config.get("dtype", config.get("torch_dtype")) == "float32" else 2
    per_pass = 2 * config["num_hidden_layers"] + 1
    positions = prompt_tokens + new_tokens - 1
    logits = config["vocab_size"] // world * element
    return {
        "all_reduce": (per_pass * new_tokens, per_pass * positions * config["hidden_size"] * element),
        "gather": (new_tokens, new_tokens * logits),
    }


def row(rank: int, kind: str, before: Counts, after: Counts) -> tuple[int, str, tuple[int, int], str]:
    """(rank, kind, (operations, bytes) of the request, transport)."""
    none = (0, 0, "none")
    (old_count, old_bytes, _), (count, size, transport) = before.get((rank, kind), none), after.get((rank, kind), none)
    return rank, kind, (count - old_count, size - old_bytes), transport


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--status", default="halo-cluster status --json", help="the command that prints the status")
    arguments = parser.parse_args()

    before_request = status(arguments.status)
    endpoint, model = before_request["endpoint"], before_request["model"]
    before = counts(before_request)
    answer, seconds = complete(endpoint, model)
    usage, text = answer["usage"], answer["choices"][0]["text"]
    world = max(rank["world"] for rank in before_request["ranks"])
    wanted = expected(model, world, usage["prompt_tokens"], usage["completion_tokens"])

    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        after = counts(status(arguments.status))
        rows = [row(rank, kind, before, after) for rank in range(world) for kind in wanted]
        settled = all(got[0] >= wanted[kind][0] for _, kind, got, _ in rows)
        if settled or time.monotonic() > deadline:
            break
        time.sleep(0.2)

    print(f"prompt:      {PROMPT!r}")
    print(f"completion:  {text!r}")
    new_tokens = usage["completion_tokens"]
    print(f"speed:       {new_tokens / seconds:.1f} tokens per second ({new_tokens} tokens)")
    print("rank  collective  transport  operations  expected       bytes    expected")
    for rank, kind, got, transport in rows:
        want = wanted[kind]
        print(f"{rank:4}  {kind:10}  {transport:9}  {got[0]:10}  {want[0]:8}  {got[1]:10}  {want[1]:10}")
    wrong = [found for found in rows if found[2] != wanted[found[1]]]
    if wrong:
        fail(
            "the collectives that went through halo are not those the model makes",
            "other requests at the same time are counted too; if there were none, please report this",
        )
    print("every collective of the request went through halo")


if __name__ == "__main__":
    main()
