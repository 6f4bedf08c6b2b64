"""Makes stand-ins for the CUDA libraries that PyPI's torch is linked against and this machine does not have.

Every function in them returns 1, which CUDA's libraries mean as a failure: torch then finds no GPU and uses the CPU.
Needs gcc and readelf. libcudart is the real one, from the package nvidia-cuda-runtime.
"""

import collections
import pathlib
import re
import subprocess
import sysconfig
import tempfile

SYSTEM = re.compile(
    r"^(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|ld-linux.*|libgomp.*)\.so|^libc10|^libtorch|^libshm"
)
# Symbols without a version are told apart by how the library names its functions.
PREFIXES = {
    "libcublas.so": ("cublas",),
    "libcublasLt.so": ("cublasLt",),
    "libcudnn.so": ("cudnn",),
    "libcufft.so": ("cufft",),
    "libcurand.so": ("curand",),
    "libcusparse.so": ("cusparse",),
    "libcusparseLt.so": ("cusparseLt",),
    "libcusolver.so": ("cusolver",),
    "libnccl.so": ("nccl", "pnccl"),
    "libcupti.so": ("cupti",),
    "libnvrtc.so": ("nvrtc",),
    "libcufile.so": ("cuFile",),
    "libnvshmem_host.so": ("nvshmem", "_Z"),
    "libnvJitLink.so": ("nvJitLink",),
}


def readelf(option: str, library: pathlib.Path) -> str:
    return subprocess.run(["readelf", option, "-W", library], capture_output=True, text=True, check=True).stdout


def undefined_symbols(library: pathlib.Path) -> list[str]:
    rows = (line.split() for line in readelf("--dyn-syms", library).splitlines())
    return [row[7] for row in rows if len(row) >= 8 and row[6] == "UND" and row[4] in ("GLOBAL", "WEAK")]


def version_files(library: pathlib.Path) -> dict[str, str]:
    """Which needed library each symbol version belongs to."""
    files, current = {}, ""
    for line in readelf("-V", library).splitlines():
        if found := re.search(r"File: (\S+)", line):
            current = found.group(1)
        if (found := re.search(r"Name: (\S+)\s+Flags", line)) and current:
            files[found.group(1)] = current
    return files


def build(path: pathlib.Path, versions: dict[str, set[str]], loose: set[str]) -> None:
    symbols = set().union(loose, *versions.values())
    with tempfile.TemporaryDirectory() as folder:
        source, script = pathlib.Path(folder, "stub.c"), pathlib.Path(folder, "versions")
        source.write_text("".join(f"int {symbol}(void) {{ return 1; }}\n" for symbol in sorted(symbols)))
        command = ["gcc", "-shared", "-fPIC", "-w", "-fno-builtin", "-nostdlib", f"-Wl,-soname,{path.name}"]
        if versions:
            lists = {name: " ".join(f"{symbol};" for symbol in sorted(part)) for name, part in versions.items()}
            blocks = (f"{name} {{ global: {symbols} }};" for name, symbols in lists.items())
            script.write_text("\n".join(blocks))
            command.append(f"-Wl,--version-script={script}")
        subprocess.run([*command, "-o", path, source], check=True)


def main() -> None:
    site = pathlib.Path(sysconfig.get_path("purelib"))
    folder = site / "torch" / "lib"
    present = {path.name for path in folder.iterdir()} | {path.name for path in site.glob("nvidia/**/*.so*")}
    versioned: dict[str, dict[str, set[str]]] = collections.defaultdict(lambda: collections.defaultdict(set))
    unversioned: set[str] = set()
    needed: set[str] = set()
    for library in folder.glob("*.so*"):
        if library.stat().st_size == 0:
            continue
        needed |= set(re.findall(r"NEEDED.*\[(.*)\]", readelf("-d", library)))
        files = version_files(library)
        for symbol in undefined_symbols(library):
            name, _, version = symbol.replace("@@", "@").partition("@")
            if not version:
                unversioned.add(name)
            elif version in files:
                versioned[files[version]][version].add(name)
    # libcuda.so is only wanted by a part of torch that is loaded where a GPU was found.
    missing = sorted(name for name in needed - present if not SYSTEM.match(name) and not name.startswith("libcuda.so"))
    for name in missing:
        base = name.split(".so")[0] + ".so"
        loose: set[str] = set()
        if name not in versioned:
            loose = {s for s in unversioned if s.startswith(PREFIXES.get(base, ())) and not s.startswith("_ZN")}
            if base == "libcublas.so":
                loose = {s for s in loose if not s.startswith("cublasLt")}
        build(folder / name, versioned.get(name, {}), loose)
    print(f"stood in for {len(missing)} CUDA libraries")


if __name__ == "__main__":
    main()
