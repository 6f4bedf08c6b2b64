//! Hosts come up apart from each other, are reached over ssh, and leave nothing behind.

use std::path::Path;
use std::process::{Command, Output};

use halo_hosts::{Hosts, HostsError, Record};

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn ssh(hosts: &Hosts, number: usize, command: &str) -> String {
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(hosts.ssh_config()).args(["-o", "BatchMode=yes", &hosts.host(number).name, command]);
    text(&ssh.output().unwrap())
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn two_sets_side_by_side_are_reached_by_ssh_and_by_their_data_network() {
    let (one, other) = (Hosts::up(2).unwrap(), Hosts::up(3).unwrap());
    for number in 1..=2 {
        assert_eq!(ssh(&one, number, "hostname"), one.host(number).name);
    }
    assert_eq!(ssh(&other, 3, "hostname"), other.host(3).name);

    // From host 1 to host 2 over the data network: the same address in both sets, but not the same host.
    let key = one.folder().join("user_key").display().to_string();
    let across = ["ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i", &key];
    let output = one.exec(1, across.into_iter().chain(["192.168.100.2", "hostname"])).unwrap();
    assert_eq!(text(&output), one.host(2).name);
    assert_eq!(ssh(&one, 1, "cat /sys/class/net/rdma0/mtu"), "9000");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn hosts_share_neither_memory_files_nor_processes() {
    let hosts = Hosts::up(2).unwrap();
    ssh(&hosts, 1, "touch /dev/shm/mark /tmp/mark");
    assert_eq!(ssh(&hosts, 2, "ls /dev/shm /tmp | grep -c mark || true"), "0");
    ssh(&hosts, 1, "sleep 1000 >/dev/null 2>&1 & ");
    let sleeping = |number| hosts.processes(number).unwrap().iter().any(|(_, args)| args == "sleep 1000");
    assert!(sleeping(1));
    assert!(!sleeping(2));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn nothing_is_left_when_hosts_go_even_by_a_panic() {
    let hosts = Hosts::up(2).unwrap();
    let (folder, name) = (hosts.folder().to_owned(), hosts.host(1).name.clone());
    let pids: Vec<_> = [1, 2].map(|number| hosts.host(number).pid.unwrap()).to_vec();
    // A daemon in a session of its own dies with its host all the same.
    ssh(&hosts, 1, "setsid sleep 1000 >/dev/null 2>&1 </dev/null &");
    let bridge =
        format!("/sys/class/net/hh{}", Record::all().iter().find(|r| r.folder == folder).unwrap().subnet);
    assert!(Path::new(&bridge).exists());

    let panicked = std::thread::spawn(move || {
        let _hosts = hosts;
        panic!("a failing test");
    });
    assert!(panicked.join().is_err());
    assert!(!folder.exists());
    assert!(!Path::new(&bridge).exists());
    assert!(!Path::new("/run/netns").join(name).exists());
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
    }
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_set_outlives_its_maker_only_when_named_and_a_name_is_taken_once() {
    let name = format!("named-{}", std::process::id());
    drop(Hosts::up_named(&name, 1).unwrap());
    assert!(matches!(Hosts::up_named(&name, 1), Err(HostsError::Name { .. })));
    assert_eq!(Hosts::find(&name).unwrap().count(), 1);
    assert!(Hosts::down(&name).unwrap());
    assert!(!Hosts::down(&name).unwrap());
    assert!(matches!(Hosts::find(&name), Err(HostsError::NotUp { .. })));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_network_that_somebody_else_made_is_left_alone() {
    let ip = |words: &str| Command::new("ip").args(words.split(' ')).output().unwrap().status.success();
    let taken = (1..250).find(|number| ip(&format!("link add hh{number} type bridge"))).unwrap();
    let hosts = Hosts::up(1).unwrap();
    assert_ne!(hosts.host(1).management, format!("10.77.{taken}.1"));
    drop(hosts);
    assert!(ip(&format!("link delete hh{taken}")), "the bridge is still there");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_cut_cable_stops_data_but_not_ssh() {
    let hosts = Hosts::up(2).unwrap();
    let is_up = || {
        let flags = ssh(&hosts, 2, "cat /sys/class/net/rdma0/flags");
        u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap() & 1 == 1 // IFF_UP
    };
    assert!(is_up());
    hosts.set_data_link(2, false).unwrap();
    assert!(!is_up());
    hosts.set_data_link(2, true).unwrap();
    assert!(is_up());
}

#[test]
#[ignore = "needs root: the check for root comes first"]
fn impossible_requests_are_refused() {
    assert!(matches!(Hosts::up(0), Err(HostsError::Count { count: 0 })));
    assert!(matches!(Hosts::up_named("Not A Word", 1), Err(HostsError::Name { .. })));
}
