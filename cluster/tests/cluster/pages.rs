//! The pages that take a person from boxes to a served model: every command on them is one of halo-cluster, and is taken
//! as it stands there.

use std::path::Path;
use std::process::Command;

/// The command lines of a page: what is indented by four, continued lines joined, without comments.
fn commands(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = std::fs::read_to_string(path).unwrap().replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| line.strip_prefix("    "));
    lines.map(|line| line.split(" # ").next().unwrap_or_default().trim().to_owned()).collect()
}

/// Without the variables before it.
fn words(line: &str) -> Vec<String> {
    let words = shlex::split(line).unwrap_or_else(|| panic!("no command line: {line}"));
    words
        .into_iter()
        .skip_while(|word| word.split_once('=').is_some_and(|(name, _)| !name.contains('-')))
        .collect()
}

#[test]
fn every_command_on_the_way_to_a_served_model_is_one_of_halo_cluster() {
    for page in ["two-boards-and-a-cable.md", "usb4.md"] {
        let commands = commands(page);
        assert!(commands.len() >= 5, "{page}: {commands:?}");
        for line in &commands {
            let words = words(line);
            assert_eq!(words[0], "halo-cluster", "{page}: {line}");
            // What comes before --help is read, and refused if it is not known.
            let output = Command::new(env!("CARGO_BIN_EXE_halo-cluster"))
                .args(&words[1..])
                .arg("--help")
                .output()
                .unwrap();
            assert!(output.status.success(), "{page}: {line}\n{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let output = Command::new(env!("CARGO_BIN_EXE_halo-cluster"))
        .args(["configure", "--unheard-of", "--help"])
        .output();
    assert!(!output.unwrap().status.success(), "a flag that is not known would be noticed");
}
