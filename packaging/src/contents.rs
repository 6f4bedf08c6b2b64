//! What is in a package: the programs, the library with the net plugin's names, what halo-cluster writes of itself, licences
//! and documentation.

use std::fmt::Display;
use std::path::Path;
use std::process::Command;

/// What could not be done.
#[derive(Debug)]
pub struct Failure {
    pub what: String,
    pub cause: String,
}

impl Failure {
    /// For `map_err`: whatever goes wrong with `path`.
    pub fn at<E: Display>(path: &Path) -> impl FnOnce(E) -> Self {
        let what = path.display().to_string();
        move |error| Self { what, cause: error.to_string() }
    }
}

/// One installed file.
#[derive(Debug)]
pub struct Item {
    /// Absolute, as it will be.
    pub path: String,
    pub mode: u32,
    pub what: What,
}

/// What an item is.
#[derive(Debug, Clone)]
pub enum What {
    File(Vec<u8>),
    /// To a file beside it.
    Link(&'static str),
}

/// What was built.
#[derive(Debug)]
pub struct Built<'a> {
    pub cluster: &'a Path,
    pub perf: &'a Path,
    /// libhalo.so, which is the net plugin, too.
    pub library: &'a Path,
}

/// All files, sorted by path.
#[derive(Debug)]
pub struct Contents {
    pub items: Vec<Item>,
}

pub const SUMMARY: &str = "One model on several machines: vLLM with the halo transport";
pub const DESCRIPTION: &str = "halo-cluster checks, configures, measures and launches vLLM with tensor parallelism \
     over several machines, with halo's RDMA collectives between them. halo-perf measures collectives and links. libhalo.so is those \
     collectives for C, and as librccl-net-halo.so or libnccl-net-halo.so the net plugin for RCCL and NCCL.";

impl Contents {
    /// For a system whose linker looks in `folder` for libraries.
    pub fn gather(built: &Built<'_>, folder: &str, root: &Path) -> Result<Self, Failure> {
        let Built { cluster, perf, library } = *built;
        let mut items = Vec::new();
        let read = |path: &Path| std::fs::read(path).map_err(Failure::at(path));
        // The names that a user asks for. Under librccl-net.so and libnccl-net.so cores would load it unasked.
        for name in ["librccl-net-halo.so", "libnccl-net-halo.so"] {
            let path = format!("{folder}/{name}");
            items.push(Item { path, mode: 0o777, what: What::Link("libhalo.so") });
        }
        let mut add = |path: &str, mode, bytes| {
            items.push(Item { path: path.to_owned(), mode, what: What::File(bytes) });
        };
        add("/usr/bin/halo-cluster", 0o755, read(cluster)?);
        add("/usr/bin/halo-perf", 0o755, read(perf)?);
        add(&format!("{folder}/libhalo.so"), 0o644, read(library)?);
        add("/usr/include/halo.h", 0o644, read(&root.join("ffi/include/halo.h"))?);
        for (shell, path) in [
            ("bash", "/usr/share/bash-completion/completions/halo-cluster"),
            ("zsh", "/usr/share/zsh/site-functions/_halo-cluster"),
            ("fish", "/usr/share/fish/vendor_completions.d/halo-cluster.fish"),
        ] {
            add(path, 0o644, said(cluster, &["completions", shell])?);
        }
        let pages = std::env::temp_dir().join(format!("halo-packages-{}", std::process::id()));
        let written = said(cluster, &["man", "--into", &pages.to_string_lossy()]).and_then(|_| {
            let entries = std::fs::read_dir(&pages).map_err(Failure::at(&pages))?.flatten();
            entries
                .map(|entry| Ok((entry.file_name().to_string_lossy().into_owned(), read(&entry.path())?)))
                .collect()
        });
        let _ = std::fs::remove_dir_all(&pages);
        let written: Vec<(String, Vec<u8>)> = written?;
        for (name, page) in written {
            add(&format!("/usr/share/man/man1/{name}"), 0o644, page);
        }
        for name in [
            "LICENSE-APACHE",
            "LICENSE-MIT",
            "README.md",
            "docs/cluster.md",
            "docs/models.md",
            "docs/plugin.md",
            "docs/verify.md",
        ] {
            let file = name.rsplit('/').next().unwrap_or(name);
            add(&format!("/usr/share/doc/halo-cluster/{file}"), 0o644, read(&root.join(name))?);
        }
        items.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { items })
    }
}

/// What `program` prints.
fn said(program: &Path, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
    let output = Command::new(program).args(arguments).output().map_err(Failure::at(program))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let cause = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure { what: format!("{} {}", program.display(), arguments.join(" ")), cause })
}
