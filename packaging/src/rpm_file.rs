//! An RPM package.

use std::path::Path;

use rpm::{BuildConfig, CompressionType, Dependency, FileOptions, PackageBuilder};

use crate::contents::{Contents, DESCRIPTION, Failure, SUMMARY};

/// Writes the package.
pub fn write(contents: &Contents, to: &Path, version: &str, architecture: &str) -> Result<(), Failure> {
    pack(contents, to, version, architecture).map_err(Failure::at(to))
}

fn pack(contents: &Contents, to: &Path, version: &str, architecture: &str) -> Result<(), rpm::Error> {
    let mut builder =
        PackageBuilder::new("halo-cluster", version, "MIT OR Apache-2.0", architecture, SUMMARY);
    builder
        .using_config(BuildConfig::default().compression(CompressionType::Gzip))
        .description(DESCRIPTION)
        .requires(Dependency::any("openssh-clients"))
        .recommends(Dependency::any("rdma-core"));
    for item in &contents.items {
        let mode = i32::from(item.mode as u16) | 0o100_000;
        builder.with_file_contents(
            item.bytes.clone(),
            FileOptions::new(&item.path).permissions(mode as u16 & 0o7777),
        )?;
    }
    builder.build()?.write_file(to)
}
