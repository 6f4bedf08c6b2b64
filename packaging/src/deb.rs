//! A Debian package: an `ar` archive of a version, a control archive and the files (deb(5)).

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::contents::{Contents, DESCRIPTION, Failure, SUMMARY, What};

type Archive = tar::Builder<GzEncoder<Vec<u8>>>;

/// Writes the package.
pub fn write(contents: &Contents, to: &Path, version: &str, architecture: &str) -> Result<(), Failure> {
    pack(contents, to, version, architecture).map_err(Failure::at(to))
}

fn pack(contents: &Contents, to: &Path, version: &str, architecture: &str) -> std::io::Result<()> {
    let kib = |what: &What| match what {
        What::File(bytes) => bytes.len().div_ceil(1024),
        What::Link(_) => 1,
    };
    let kib = contents.items.iter().map(|item| kib(&item.what)).sum::<usize>();
    let control = format!(
        "Package: halo-cluster\nVersion: {version}\nArchitecture: {architecture}\nSection: net\nPriority: optional\n\
         Maintainer: the halo project <halo@localhost>\nInstalled-Size: {kib}\n\
         Depends: libc6, libgcc-s1, openssh-client\nRecommends: python3, rdma-core, iproute2\n\
         Description: {SUMMARY}\n {DESCRIPTION}\n"
    );
    let mut own = archive();
    entry(&mut own, "./control", 0o644, control.as_bytes())?;
    let mut data = archive();
    for folder in folders(contents) {
        let mut header = header(0o755, 0);
        header.set_entry_type(tar::EntryType::Directory);
        data.append_data(&mut header, format!(".{folder}/"), std::io::empty())?;
    }
    for item in &contents.items {
        let path = format!(".{}", item.path);
        match &item.what {
            What::File(bytes) => entry(&mut data, &path, item.mode, bytes)?,
            What::Link(target) => {
                let mut header = header(item.mode, 0);
                header.set_entry_type(tar::EntryType::Symlink);
                data.append_link(&mut header, path, target)?;
            }
        }
    }
    let mut package = ar::Builder::new(File::create(to)?);
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", own.into_inner()?.finish()?),
        ("data.tar.gz", data.into_inner()?.finish()?),
    ] {
        let mut header = ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64);
        header.set_mode(0o100_644);
        package.append(&header, bytes.as_slice())?;
    }
    Ok(())
}

fn archive() -> Archive {
    tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()))
}

fn header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    for named in [header.set_username("root"), header.set_groupname("root")] {
        named.expect("the name is short enough for its field");
    }
    header
}

fn entry(archive: &mut Archive, path: &str, mode: u32, bytes: &[u8]) -> std::io::Result<()> {
    archive.append_data(&mut header(mode, bytes.len() as u64), path, bytes)
}

/// Every folder above a file, parents first.
fn folders(contents: &Contents) -> BTreeSet<String> {
    let above = |path: &String| {
        let parents = Path::new(path).ancestors().skip(1).map(|folder| folder.display().to_string());
        parents.filter(|folder| folder != "/").collect::<Vec<_>>()
    };
    contents.items.iter().flat_map(|item| above(&item.path)).collect()
}
