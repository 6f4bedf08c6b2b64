//! `make packages`: the DEB and the RPM, from programs that were built, and from what they say of themselves.

mod contents;
mod deb;
mod rpm_file;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::contents::{Contents, Failure};

/// Makes the DEB and the RPM of halo-cluster and halo-perf.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The built halo-cluster; it writes its own man pages and completions.
    #[arg(long)]
    halo_cluster: PathBuf,
    /// The built halo-perf.
    #[arg(long)]
    halo_perf: PathBuf,
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
    let contents = Contents::gather(&arguments.halo_cluster, &arguments.halo_perf, &arguments.root)?;
    std::fs::create_dir_all(&arguments.out).map_err(Failure::at(&arguments.out))?;
    let version = env!("CARGO_PKG_VERSION");
    let (debian, fedora) = match std::env::consts::ARCH {
        "aarch64" => ("arm64", "aarch64"),
        _ => ("amd64", "x86_64"),
    };
    let deb = arguments.out.join(format!("halo-cluster_{version}_{debian}.deb"));
    let rpm = arguments.out.join(format!("halo-cluster-{version}-1.{fedora}.rpm"));
    deb::write(&contents, &deb, version, debian)?;
    rpm_file::write(&contents, &rpm, version, fedora)?;
    println!("{}\n{}", deb.display(), rpm.display());
    Ok(())
}
