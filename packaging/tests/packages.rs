//! The packages, as the systems' own tools read them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// A halo-cluster that says what the real one would.
const CLUSTER: &str = "#!/bin/sh\ncase $1 in\n\
    completions) echo \"# completions of $2\" ;;\n\
    man) mkdir -p \"$3\" && echo .TH >\"$3/halo-cluster.1\" && echo .TH >\"$3/halo-cluster-launch.1\" ;;\n\
    esac\n";

fn listing(program: &str, arguments: &[&str]) -> Option<String> {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        println!("not read: {program} is not installed here");
        return None;
    };
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn both_packages_hold_the_programs_their_pages_and_their_completions() {
    let folder = tempfile::tempdir().unwrap();
    let program = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let made = Command::new(env!("CARGO_BIN_EXE_halo-packages"))
        .arg("--halo-cluster")
        .arg(program("halo-cluster", CLUSTER))
        .arg("--halo-perf")
        .arg(program("halo-perf", "#!/bin/sh\n"))
        .arg("--libhalo")
        .arg(program("libhalo.so", "no library\n"))
        .arg("--root")
        .arg(&root)
        .arg("--out")
        .arg(folder.path().join("out"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    let [deb, rpm] = [".deb", ".rpm"].map(|ending| said.lines().find(|line| line.ends_with(ending)).unwrap());
    let wanted = [
        "/usr/bin/halo-cluster",
        "/usr/bin/halo-perf",
        "/usr/share/man/man1/halo-cluster-launch.1",
        "/usr/share/bash-completion/completions/halo-cluster",
        "/usr/share/doc/halo-cluster/LICENSE-MIT",
        "/usr/include/halo.h",
    ];
    let triplet = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let listings = [
        (triplet.as_str(), listing("dpkg-deb", &["--contents", deb])),
        ("/usr/lib64", listing("rpm", &["-qlvp", rpm])),
    ];
    for (folder, files) in listings {
        let Some(files) = files else { continue };
        assert!(files.lines().any(|line| line.ends_with(&format!("{}/libhalo.so", &folder[1..]))), "{files}");
        for name in ["librccl-net-halo.so", "libnccl-net-halo.so"] {
            let link = format!("{}/{name} -> libhalo.so", &folder[1..]);
            let line =
                files.lines().find(|line| line.ends_with(&link)).unwrap_or_else(|| panic!("{link}: {files}"));
            assert!(line.starts_with("lrwxrwxrwx"), "{line}");
        }
        // What a core would load unasked.
        assert!(!files.contains("ccl-net.so"), "{files}");
        for path in wanted {
            let line = files
                .lines()
                .find(|line| line.ends_with(&path[1..]))
                .unwrap_or_else(|| panic!("no {path}:\n{files}"));
            let mode = if path.contains("/bin/") { "-rwxr-xr-x" } else { "-rw-r--r--" };
            assert!(line.starts_with(mode) && line.contains("root"), "{line}");
        }
    }
    // Unpacked into a folder of its own, the program runs, and says what the package's completions are.
    let place = folder.path().join("root");
    if listing("dpkg-deb", &["--extract", deb, place.to_str().unwrap()]).is_some() {
        let said = Command::new(place.join("usr/bin/halo-cluster")).args(["completions", "bash"]).output();
        let completions =
            std::fs::read(place.join("usr/share/bash-completion/completions/halo-cluster")).unwrap();
        assert_eq!(said.unwrap().stdout, completions);
    }
    if let Some(about) = listing("dpkg-deb", &["--info", deb]) {
        assert!(
            about.contains("Package: halo-cluster")
                && about.contains("Depends: libc6, libgcc-s1, openssh-client"),
            "{about}"
        );
    }
    if let Some(about) = listing("rpm", &["-qip", rpm]) {
        assert!(
            about.contains("Name        : halo-cluster") && about.contains("MIT OR Apache-2.0"),
            "{about}"
        );
    }
    assert!(std::fs::metadata(deb).unwrap().len() > 1000 && std::fs::metadata(rpm).unwrap().len() > 1000);
}

#[test]
fn a_program_that_is_missing_is_named() {
    let made = Command::new(env!("CARGO_BIN_EXE_halo-packages"))
        .args(["--halo-cluster", "/nowhere/halo-cluster", "--halo-perf", "/nowhere/halo-perf"])
        .args(["--libhalo", "/nowhere/libhalo.so"])
        .output()
        .unwrap();
    assert_eq!(made.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&made.stderr);
    assert!(errors.starts_with("error[HALO-E0780]: /nowhere/halo-cluster: No such file"), "{errors}");
}
