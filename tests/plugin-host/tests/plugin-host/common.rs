//! What all tests here need: the library as cargo built it, and the host as a process.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Where cargo left the library: beside this test's own executable, and as fresh as it.
pub fn library() -> PathBuf {
    let library = std::env::current_exe().unwrap().parent().unwrap().join("libhalo.so");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

/// Everything of `target/release` that holds the library, as `make build` leaves it: the file itself, and the names that
/// RCCL and NCCL look for.
pub fn shipped() -> [PathBuf; 5] {
    ["libhalo.so", "librccl-net-halo.so", "libnccl-net-halo.so", "librccl-net.so", "libnccl-net.so"]
        .map(halo_built::program)
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

/// The lines that the host's plugin warned with.
pub fn told(output: &str) -> Vec<&str> {
    output.lines().filter_map(|line| line.strip_prefix("told: ")).collect()
}

/// That this side of two connections has lost its peer: one warning for each of them and no other, each of which names the
/// peer, the device and one of the causes.
pub fn assert_lost(output: &str, peer: &str, device: &str, causes: &[&str]) {
    let told = told(output);
    let warned = output.lines().filter(|line| line.starts_with("WARN ")).count();
    assert_eq!((told.len(), warned), (2, 2), "one line for each connection: {output}");
    for line in told {
        let code =
            ["NET/halo: HALO-E0812: ", "NET/halo: HALO-E0813: "].iter().find(|code| line.starts_with(*code));
        assert!(code.is_some() && line.contains(peer) && line.contains(device), "{line}");
        assert!(causes.iter().any(|cause| line.contains(cause)), "one of {causes:?}: {line}");
    }
}

/// Two hosts as the two ranks of a scenario, each with its own variables; what they printed.
pub fn peers(scenario: &str, both: &[(&str, &str)], rank_1: &[(&str, &str)]) -> [Output; 2] {
    peers_with(scenario, &[], both, rank_1)
}

/// The same with further `options` of the host.
pub fn peers_with(
    scenario: &str,
    options: &[&str],
    both: &[(&str, &str)],
    rank_1: &[(&str, &str)],
) -> [Output; 2] {
    let at = rendezvous();
    let start = |rank: usize| {
        let mut command = host("v12");
        command.args(["peer", scenario, "--rank", &rank.to_string(), "--rendezvous", &at]);
        command.args(options);
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
    halo_fabric::reserve_port(std::net::Ipv4Addr::LOCALHOST.into()).unwrap().to_string()
}
