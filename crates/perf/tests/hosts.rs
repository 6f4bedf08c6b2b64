//! Between two hosts: what the network does to ranks.

use std::process::{Command, Output, Stdio};

use halo_hosts::Hosts;

/// An all-reduce between both hosts over their data network.
fn all_reduce(hosts: &Hosts) -> [Output; 2] {
    let start = |rank: usize| {
        let mut command = hosts.command(rank + 1, [env!("CARGO_BIN_EXE_halo-perf"), "all-reduce"]);
        command
            .args(["--rank", &rank.to_string(), "--world", "2", "--rendezvous", "192.168.100.1:4970"])
            .args(["--transport", "tcp", "--max", "64K", "--iterations", "5"])
            .env("HALO_KEY", "between two hosts")
            .env("HALO_TIMEOUT", "20")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    [start(0), start(1)].map(|rank| rank.wait_with_output().unwrap())
}

/// Of what a host's port at the switch takes.
fn set_switch(hosts: &Hosts, mtu: &str) {
    let switch = format!("{}-switch", hosts.host(1).name.rsplit_once('-').unwrap().0);
    let set = Command::new("ip").args(["-n", &switch, "link", "set", "port2", "mtu", mtu]).status();
    assert!(set.unwrap().success());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_switch_that_drops_full_segments_is_named_before_anything_hangs() {
    let hosts = Hosts::up(2).unwrap();
    set_switch(&hosts, "1500");
    for output in all_reduce(&hosts) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("HALO-E0229") && said.contains("small ones do"), "{said}");
    }
    set_switch(&hosts, "9000");
    for output in all_reduce(&hosts) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
