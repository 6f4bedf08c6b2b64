//! An RPM package.

use std::path::Path;

use rpm::{BuildConfig, CompressionType, Dependency, FileOptions, PackageBuilder};

use crate::contents::{Contents, DESCRIPTION, Failure, SUMMARY, What};

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
        .requires(Dependency::any("libgcc"))
        .requires(Dependency::any("openssh-clients"))
        .recommends(Dependency::any("rdma-core"));
    for item in &contents.items {
        match &item.what {
            What::File(bytes) => {
                let options = FileOptions::new(&item.path).permissions(item.mode as u16);
                builder.with_file_contents(bytes.clone(), options)?
            }
            What::Link(target) => builder.with_symlink(FileOptions::symlink(&item.path, *target))?,
        };
    }
    builder.build()?.write_file(to)
}
