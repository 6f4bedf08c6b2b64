//! The kernel and the initramfs: fetched and made once, kept in `.cache/soft-roce` of the workspace.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;

const TOOLS: &[&str] = &[
    "qemu-system-x86_64",
    "setpriv",
    "busybox",
    "cpio",
    "modprobe",
    "depmod",
    "xz",
    "rdma",
    "apt-get",
    "dpkg",
];
const BOOT_MODULES: &[&str] =
    &["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "virtio_net", "virtio_rng"];
const RDMA_MODULES: &[&str] = &[
    "crc32_generic",
    "ib_uverbs",
    "rdma_cm",
    "rdma_ucm",
    "ib_umad",
    "rdma_rxe",
    "sch_netem",
    "veth",
    "dummy",
];

/// Which kernel boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernel {
    /// 6.12, the steadier one under faults: for correctness.
    #[default]
    Steady,
    /// 6.1, whose rdma_rxe works in softirq and is not starved by busy pollers: for latency.
    Quick,
}

impl Kernel {
    fn folder(self) -> &'static str {
        match self {
            Self::Steady => "6.12",
            Self::Quick => "6.1",
        }
    }

    /// Debian's package of it, as apt's list names it now.
    fn package(self) -> Result<String, Error> {
        let pattern = match self {
            Self::Steady => r"^linux-image-6\.12\.[0-9]+.*-amd64$",
            Self::Quick => r"^linux-image-6\.1\.0-[0-9]+-amd64$",
        };
        let names = output(Command::new("apt-cache").args(["search", "--names-only", pattern]))?;
        let mut names: Vec<&str> = names
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| !name.contains("unsigned") && !name.contains("cloud") && !name.contains("-rt-"))
            .collect();
        names.sort_by_key(|name| {
            name.split(|c: char| !c.is_ascii_digit())
                .filter_map(|part| part.parse().ok())
                .collect::<Vec<u32>>()
        });
        names.last().map(|name| (*name).to_owned()).ok_or_else(|| Error::Build {
            step: format!("finding a kernel {} among apt's packages", self.folder()),
            cause: "none is listed".to_owned(),
        })
    }
}

/// What QEMU boots.
#[derive(Debug, Clone)]
pub struct Image {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
}

/// The image, made if it is not there yet or older than the guest's scripts.
///
/// # Errors
/// A missing tool, or a step that failed.
pub fn build(kernel: Kernel) -> Result<Image, Error> {
    check_tools(TOOLS)?;
    let folder = cache().join(kernel.folder());
    let image = Image { kernel: folder.join("vmlinuz"), initramfs: folder.join("initramfs.cpio") };
    let _lock = lock(&folder)?;
    let current = fs::read_to_string(folder.join("init.sh")).is_ok_and(|text| text == INIT);
    if current && image.kernel.exists() && image.initramfs.exists() {
        return Ok(image);
    }
    make(kernel, &folder, &image)?;
    fs::write(folder.join("init.sh"), INIT).map_err(Error::system("writing the image's stamp"))?;
    Ok(image)
}

/// Debian's kernel as a file, fetched if it is not there yet.
///
/// # Errors
/// A missing tool, or a step that failed.
pub fn kernel(kernel: Kernel) -> Result<PathBuf, Error> {
    check_tools(&["apt-cache", "apt-get", "dpkg"])?;
    let folder = cache().join(kernel.folder());
    let _lock = lock(&folder)?;
    newest(&fetch(kernel, &folder)?.join("boot"), |name| name.starts_with("vmlinuz-"))
}

/// Makes a folder and keeps others out: tests of several processes may want the image at the same moment; one makes it.
fn lock(folder: &Path) -> Result<fs::File, Error> {
    fs::create_dir_all(folder).map_err(Error::system(format!("making {}", folder.display())))?;
    let lock = fs::File::create(folder.join("lock")).map_err(Error::system("making the lock file"))?;
    lock.lock().map_err(Error::system("waiting for the lock file"))?;
    Ok(lock)
}

const INIT: &str = include_str!("../guest/init.sh");

fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/soft-roce")
}

fn check_tools(tools: &[&str]) -> Result<(), Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let absent = |tool: &&&str| !folders.iter().any(|folder| folder.join(tool).exists());
    let missing: Vec<&str> = tools.iter().filter(absent).copied().collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::MissingTools { missing: missing.join(", ") }) }
}

/// What the kernel's package has, unpacked.
fn fetch(kernel: Kernel, folder: &Path) -> Result<PathBuf, Error> {
    let root = folder.join("kernel");
    if !root.join("boot").exists() {
        let package = kernel.package()?;
        output(Command::new("apt-get").args(["download", &package]).current_dir(folder))?;
        let deb = newest(folder, |name| name.starts_with(&package))?;
        output(Command::new("dpkg").arg("-x").arg(&deb).arg(&root))?;
        fs::remove_file(deb).map_err(Error::system("removing the package file"))?;
    }
    Ok(root)
}

fn make(kernel: Kernel, folder: &Path, image: &Image) -> Result<(), Error> {
    let root = fetch(kernel, folder)?;
    let version = newest(&root.join("lib/modules"), |_| true)?;
    let version = version.file_name().unwrap_or_default().to_string_lossy().into_owned();
    output(Command::new("depmod").arg("-b").arg(&root).arg(&version))?;

    let tree = tempfile::tempdir().map_err(Error::system("making a temporary folder"))?;
    let tree = tree.path();
    for name in ["bin", "modules", "proc", "sys", "dev", "lower", "upper", "root", "rig", "run"] {
        fs::create_dir(tree.join(name)).map_err(Error::system("filling the initramfs"))?;
    }
    let busybox = output(Command::new("sh").args(["-c", "command -v busybox"]))?;
    fs::copy(busybox.trim(), tree.join("bin/busybox")).map_err(Error::system("copying busybox"))?;
    std::os::unix::fs::symlink("busybox", tree.join("bin/sh")).map_err(Error::system("linking sh"))?;
    let mut present = BTreeSet::new();
    for (list, modules) in [("boot", BOOT_MODULES), ("rdma", RDMA_MODULES)] {
        let names = add_modules(&root, &version, modules, tree, &mut present)?;
        fs::write(tree.join(format!("modules/{list}.list")), names.join("\n") + "\n")
            .map_err(Error::system("writing a list of modules"))?;
    }
    fs::write(tree.join("init"), INIT).map_err(Error::system("writing init"))?;
    output(Command::new("chmod").arg("755").arg(tree.join("init")))?;
    let archive = fs::File::create(&image.initramfs).map_err(Error::system("making the initramfs"))?;
    let packed = Command::new("sh")
        .args(["-c", "find . | cpio -o -H newc --quiet"])
        .current_dir(tree)
        .stdout(archive)
        .status()
        .map_err(Error::system("starting cpio"))?;
    if !packed.success() {
        return Err(Error::Build { step: "cpio".to_owned(), cause: packed.to_string() });
    }
    fs::copy(root.join(format!("boot/vmlinuz-{version}")), &image.kernel)
        .map_err(Error::system("copying the kernel"))?;
    Ok(())
}

/// Copies modules and what they depend on, unpacked; returns their file names in loading order.
fn add_modules(
    root: &Path,
    version: &str,
    modules: &[&str],
    tree: &Path,
    present: &mut BTreeSet<String>,
) -> Result<Vec<String>, Error> {
    let mut order = Vec::new();
    for module in modules {
        // A module that is built into this kernel has no file, and that is fine.
        let command = ["-S", version, "--show-depends", module];
        let depends = Command::new("modprobe").arg("-d").arg(root).args(command).output();
        let depends = depends.map_err(Error::system("starting modprobe"))?;
        let depends = String::from_utf8_lossy(&depends.stdout).into_owned();
        for path in depends.lines().filter_map(|line| line.strip_prefix("insmod ")) {
            let path = path.split_whitespace().next().unwrap_or_default();
            let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
            let plain = name.trim_end_matches(".xz").to_owned();
            if !present.insert(plain.clone()) {
                continue;
            }
            let target = fs::File::create(tree.join("modules").join(&plain))
                .map_err(Error::system("copying a module"))?;
            let unpack = if name.ends_with(".xz") { "xz" } else { "cat" };
            let flag: &[&str] = if name.ends_with(".xz") { &["-dc"] } else { &[] };
            let done = Command::new(unpack).args(flag).arg(path).stdout(target).status();
            if !done.map_err(Error::system("unpacking a module"))?.success() {
                return Err(Error::Build {
                    step: format!("unpacking {path}"),
                    cause: "xz failed".to_owned(),
                });
            }
            order.push(plain);
        }
    }
    Ok(order)
}

/// The last entry of a folder, by name, that fits.
fn newest(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(folder).map_err(Error::system(format!("reading {}", folder.display())))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| fits(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths.pop().ok_or_else(|| Error::Build {
        step: format!("looking into {}", folder.display()),
        cause: "what was just fetched is not there".to_owned(),
    })
}

fn output(command: &mut Command) -> Result<String, Error> {
    let step = format!("{command:?}");
    let done = command.stdin(Stdio::null()).output().map_err(Error::system(step.clone()))?;
    if !done.status.success() {
        let cause = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        return Err(Error::Build { step, cause });
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
