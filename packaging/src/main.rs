//! `make packages`: the DEB and the RPM, from what was built, and from what the programs say of themselves.

mod contents;
mod deb;
mod rpm_file;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::contents::{Built, Contents, Failure};

/// Makes the DEB and the RPM of halo-cluster, halo-perf and libhalo.so.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The built halo-cluster; it writes its own man pages and completions.
    #[arg(long)]
    halo_cluster: PathBuf,
    /// The built halo-perf.
    #[arg(long)]
    halo_perf: PathBuf,
    /// The built libhalo.so.
    #[arg(long)]
    libhalo: PathBuf,
    /// The checkout, for licences and documentation.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Where the packages go.
    #[arg(long, default_value = "target/packages")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error[HALO-E0780]: {}: {}", failure.what, failure.cause);
            eprintln!("  help: build the programs first: make packages does all of it");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { halo_cluster, halo_perf, libhalo, root, out } = arguments;
    let built = Built { cluster: halo_cluster, perf: halo_perf, library: libhalo };
    let (debian, triplet, fedora) = match std::env::consts::ARCH {
        "aarch64" => ("arm64", "aarch64-linux-gnu", "aarch64"),
        _ => ("amd64", "x86_64-linux-gnu", "x86_64"),
    };
    let for_debian = Contents::gather(&built, &format!("/usr/lib/{triplet}"), root)?;
    let for_fedora = Contents::gather(&built, "/usr/lib64", root)?;
    std::fs::create_dir_all(out).map_err(Failure::at(out))?;
    let version = env!("CARGO_PKG_VERSION");
    let deb = out.join(format!("halo-cluster_{version}_{debian}.deb"));
    let rpm = out.join(format!("halo-cluster-{version}-1.{fedora}.rpm"));
    deb::write(&for_debian, &deb, version, debian)?;
    rpm_file::write(&for_fedora, &rpm, version, fedora)?;
    println!("{}\n{}", deb.display(), rpm.display());
    Ok(())
}
