//! What all tests here need: the library as cargo built it, and the host as a process.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Where cargo left the library: beside this test's own executable, and as fresh as it.
pub fn library() -> PathBuf {
    let library = std::env::current_exe().unwrap().parent().unwrap().join("libhalo.so");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

/// The host, with nothing of this process's own settings.
pub fn host(version: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugin-host"));
    for (name, _) in std::env::vars() {
        if name.starts_with("HALO_") || name.starts_with("NCCL_") {
            command.env_remove(name);
        }
    }
    command.args(["--library", library().to_str().unwrap(), "--interface", version]);
    command.env("HALO_TRANSPORT", "tcp").env("NCCL_SOCKET_IFNAME", "lo");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Everything that a process printed.
pub fn printed(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    format!("{}\n{out}{err}", output.status)
}

/// Two hosts as the two ranks of a scenario, each with its own variables; what they printed.
pub fn peers(scenario: &str, both: &[(&str, &str)], rank_1: &[(&str, &str)]) -> [Output; 2] {
    let at = rendezvous();
    let start = |rank: usize| {
        let mut command = host("v12");
        command.args(["peer", scenario, "--rank", &rank.to_string(), "--rendezvous", &at]);
        command.envs(both.iter().copied());
        if rank == 1 {
            command.envs(rank_1.iter().copied());
        }
        command.spawn().unwrap()
    };
    [start(0), start(1)].map(|child| child.wait_with_output().unwrap())
}

/// A free port of this host.
pub fn rendezvous() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
