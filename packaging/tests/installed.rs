//! The DEB and the RPM, installed by dpkg and rpm into a root of their own: what is there runs, is where shells and man
//! look for it, and goes again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use halo_built::program;

/// What `command` prints; it must succeed.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both packages: the DEB, the RPM.
fn packages(out: &Path) -> [PathBuf; 2] {
    let mut make = Command::new(env!("CARGO_BIN_EXE_halo-packages"));
    make.arg("--halo-cluster").arg(program("halo-cluster")).arg("--halo-perf").arg(program("halo-perf"));
    make.arg("--libhalo").arg(program("libhalo.so"));
    make.arg("--root").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).arg("--out").arg(out);
    let said = output(&mut make);
    [".deb", ".rpm"]
        .map(|ending| said.lines().find(|line| line.ends_with(ending)).expect("both are made").into())
}

/// Files below `root`, but those of the package manager itself.
fn files(root: &Path) -> BTreeSet<String> {
    let found = output(
        Command::new("find")
            .arg(root)
            .args(["(", "-type", "f", "-o", "-type", "l", ")"])
            .args(["-printf", "/%P\n"]),
    );
    found.lines().filter(|path| !path.starts_with("/var/lib/")).map(str::to_owned).collect()
}

/// What is installed does what it is there for; libraries are in `folder`.
fn works(root: &Path, folder: &str) {
    // The net plugin is there under the names that a user asks for, and is what it says.
    for name in ["librccl-net-halo.so", "libnccl-net-halo.so"] {
        let path = root.join(folder).join(name);
        // SAFETY: this project's own library; its constructors are Rust's own.
        let library = unsafe { libloading::Library::new(&path) };
        let library = library.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for symbol in ["ncclNetPlugin_v8", "ncclNetPlugin_v12", "ncclTunerPlugin_v6", "halo_all_reduce"] {
            // SAFETY: only asked for, never called.
            let found = unsafe { library.get::<*const ()>(symbol) };
            assert!(found.is_ok(), "{}: {symbol}", path.display());
        }
    }
    assert!(root.join("usr/include/halo.h").exists());

    let program = root.join("usr/bin/halo-cluster");
    let version = output(Command::new(&program).arg("--version"));
    assert_eq!(version, format!("halo-cluster {}\n", env!("CARGO_PKG_VERSION")));
    assert!(output(Command::new(root.join("usr/bin/halo-perf")).arg("--version")).starts_with("halo-perf "));

    // Every command has its page where man looks for it.
    let help = output(Command::new(&program).arg("--help"));
    let commands = help.split_once("Commands:\n").unwrap().1.split("\n\n").next().unwrap();
    // What goes over a line is indented further.
    let starts = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let names = commands.lines().filter(starts).filter_map(|line| line.split_whitespace().next());
    let commands: Vec<_> = names.filter(|name| *name != "help").collect();
    assert!(commands.contains(&"launch") && commands.len() > 8, "{commands:?}");
    for command in &commands {
        let page = root.join(format!("usr/share/man/man1/halo-cluster-{command}.1"));
        let page =
            std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(page.contains(".TH") && page.contains(command), "{page}");
    }

    // bash takes the completions, and they know the commands.
    let bash = root.join("usr/share/bash-completion/completions/halo-cluster");
    let ask = "source \"$1\"; told=$(complete -p halo-cluster); ours=${told##*-F }; ours=${ours%% *}; \
               COMP_WORDS=(halo-cluster lau); COMP_CWORD=1; $ours halo-cluster lau halo-cluster; echo \"${COMPREPLY[@]}\"";
    let said = output(Command::new("bash").args(["-c", ask, "bash"]).arg(bash));
    assert_eq!(said, "launch\n");
    // zsh and fish find theirs by name and first line.
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    assert!(text("usr/share/zsh/site-functions/_halo-cluster").starts_with("#compdef halo-cluster\n"));
    assert!(
        text("usr/share/fish/vendor_completions.d/halo-cluster.fish").contains("complete -c halo-cluster ")
    );
}

#[test]
#[ignore = "needs root and `make build`: dpkg and rpm change their root"]
fn both_packages_are_installed_work_and_go_again() {
    let folder = tempfile::tempdir().unwrap();
    let [deb, rpm] = packages(&folder.path().join("out"));
    let scratch = |name: &str| {
        let root = folder.path().join(name);
        std::fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
        std::fs::create_dir_all(root.join("var/lib/dpkg/updates")).unwrap();
        std::fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
        root
    };

    let root = scratch("debian");
    // What the package depends on is this machine's.
    let dpkg = |arguments: &[&str]| {
        let mut command = Command::new("dpkg");
        output(command.arg("--root").arg(&root).args(["--force-depends", "--log=/dev/null"]).args(arguments))
    };
    dpkg(&["--install", deb.to_str().unwrap()]);
    assert!(dpkg(&["--status", "halo-cluster"]).contains("Status: install ok installed"));
    let triplet = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    works(&root, &triplet);
    let by_dpkg = files(&root);
    dpkg(&["--purge", "halo-cluster"]);
    assert_eq!(files(&root), BTreeSet::new());

    let root = scratch("fedora");
    // Debian's rpm keeps its database in the home folder unless told.
    let tool = |arguments: &[&str]| {
        let mut command = Command::new("rpm");
        output(command.arg("--root").arg(&root).args(["--dbpath", "/var/lib/rpm"]).args(arguments))
    };
    tool(&["--initdb"]);
    tool(&["--install", "--nodeps", rpm.to_str().unwrap()]);
    assert_eq!(tool(&["--verify", "--nodeps", "halo-cluster"]), "", "each file is as the package says");
    works(&root, "usr/lib64");
    // Each system has a folder of its own for libraries.
    let by_rpm: BTreeSet<_> = files(&root)
        .into_iter()
        .map(|path| path.replacen("/usr/lib64/", &format!("/{triplet}/"), 1))
        .collect();
    assert_eq!(by_rpm, by_dpkg, "both hold the same");
    tool(&["--erase", "halo-cluster"]);
    assert_eq!(files(&root), BTreeSet::new());
}
