//! The plugin over real verbs: virtual machines with Soft-RoCE.

use std::time::Duration;

use halo_plugin_host::cases::ALL;
use halo_soft_roce::{Outcome, Rig};

use crate::common::library;

fn host(version: &str) -> String {
    let (program, library) = (env!("CARGO_BIN_EXE_plugin-host"), library());
    format!("{program} --library {} --interface {version}", library.display())
}

fn rig() -> Rig {
    Rig::new().timeout(Duration::from_secs(500)).env("RUST_BACKTRACE", "0").echo(true)
}

/// One rank of a scenario per machine.
fn peer(scenario: &str) -> String {
    format!("{} peer {scenario} --rank $RANK --rendezvous 192.168.100.1:29700", host("v12"))
}

/// The same, in the background with its output in /tmp/out, and `action` once `words` have been printed.
fn peer_and(scenario: &str, words: &str, action: &str) -> String {
    format!(
        "{} >/tmp/out 2>&1 & until grep -q '{words}' /tmp/out; do :; done; {action}; wait $!; status=$?; cat /tmp/out; exit $status",
        peer(scenario)
    )
}

fn text(outcome: &Outcome, machine: usize) -> &str {
    &outcome.vms[machine].output
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn every_case_through_version_12_and_some_through_each_other_version() {
    let try_all = format!(
        "try() {{ if timeout 120 \"$@\" >/tmp/out 2>&1; then echo \"good: ${{@: -3}}\"; else echo \"BAD: $*\"; tail -5 /tmp/out; fi; }}\n\
         for case in $({newest} cases); do try {newest} case $case; done\n\
         for version in v8 v9 v10 v11; do for case in properties groups; do \
         try {program} --library {library} --interface $version case $case; done; done\n\
         export NCCL_IB_QPS_PER_CONNECTION=4 HALO_PLUGIN_STRIPE_BYTES=4096\n\
         for case in depth groups overtaking close-in-flight; do try {newest} case $case; done\n\
         for split in 0 1; do export NCCL_IB_SPLIT_DATA_ON_QPS=$split; try {newest} case depth; done\n\
         export HALO_PLUGIN_GPU_DIRECT=1\n\
         for case in properties flush depth nothing; do try {newest} case $case; done; exit 0",
        newest = host("v12"),
        program = env!("CARGO_BIN_EXE_plugin-host"),
        library = library().display(),
    );
    let outcome = rig().run(&[&try_all]).unwrap();
    assert!(outcome.succeeded(), "{outcome:#?}");
    let printed = text(&outcome, 0);
    assert!(!printed.contains("BAD"), "{printed}");
    assert_eq!(printed.matches("good").count(), ALL.len() + 8 + 4 + 2 + 4, "{printed}");
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn two_machines_exchange_messages_of_all_sizes_over_rdma() {
    let striped = format!(
        "set -e; {exchange}; NCCL_IB_QPS_PER_CONNECTION=3 HALO_PLUGIN_STRIPE_BYTES=20000 {exchange}; \
         HALO_PLUGIN_EAGER_BYTES=0 {exchange}",
        exchange = peer("exchange")
    );
    let outcome = rig().run(&[&striped; 2]).unwrap();
    assert!(outcome.succeeded(), "{outcome:#?}");
    for machine in 0..2 {
        assert_eq!(text(&outcome, machine).matches("every byte in its place").count(), 3, "{outcome:#?}");
        assert!(text(&outcome, machine).contains("rxe0:1 (rdma) sends to vm"), "{outcome:#?}");
    }
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_killed_process_is_noticed_by_the_other_machine() {
    let outcome = rig().run(&[&peer("killed"); 2]).unwrap();
    let survivor = text(&outcome, 0);
    assert_eq!((outcome.vms[0].status, outcome.vms[1].status), (Some(0), Some(134)), "{outcome:#?}");
    assert!(survivor.contains("codes 6 6"), "{survivor}");
    assert!(
        survivor.contains("HALO-E0812: vm1 (process") && survivor.contains("rxe0:1 (rdma)"),
        "{survivor}"
    );
    let noticed = |words| outcome.when(0, words).unwrap();
    let took = noticed("lost after").saturating_duration_since(outcome.when(1, "killing").unwrap());
    println!("noticed {took:.2?} after the kill");
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_process_that_ends_amid_a_large_message_is_lost_and_said_to_have_ended() {
    // Its memory goes before its queue pairs: the NIC may answer with a remote access error, which is not the cause.
    let command = format!(
        "{} stream:67108864:1000:2 >/tmp/out 2>&1 & \
         until grep -q 'is through' /tmp/out; do :; done; [ $RANK = 0 ] || kill -9 $!; wait $!; status=$?; \
         grep -v 'INFO' /tmp/out; [ $RANK = 1 ] || exit $status",
        peer("bench")
    );
    let outcome = rig().run(&[&command; 2]).unwrap();
    let survivor = text(&outcome, 0);
    assert_eq!(outcome.vms[0].status, Some(1), "{outcome:#?}");
    let told = survivor.lines().find(|line| line.contains("HALO-E0812: vm1 (process")).unwrap_or_default();
    assert!(
        told.contains("it closed the connection") || told.contains("its process has ended"),
        "{survivor}"
    );
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_cable_that_is_cut_is_noticed_on_both_sides_whatever_the_transport() {
    for transport in ["rdma", "tcp"] {
        let cut = peer_and("cut", "cut now", "[ $RANK = 0 ] || ip link set eth0 down");
        let outcome = rig().env("HALO_TRANSPORT", transport).run(&[&cut; 2]).unwrap();
        assert!(outcome.vms.iter().all(|vm| vm.status == Some(0)), "{outcome:#?}");
        for machine in 0..2 {
            let printed = text(&outcome, machine);
            let line = printed.lines().find(|line| line.contains("lost after")).unwrap();
            println!("{transport}: {line}");
            // The side whose own port is down may say so: a system error.
            let codes = ["codes 6 6", "codes 2 2", "codes 2 6", "codes 6 2"];
            assert!(codes.iter().any(|code| line.ends_with(code)), "{printed}");
            assert!(printed.contains("HALO-E0812") || printed.contains("HALO-E0813"), "{printed}");
        }
        assert!(text(&outcome, 0).contains("vm1"), "the peer is named: {outcome:#?}");
    }
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_link_that_blinks_loses_nothing() {
    // Nothing comes through for a moment, as with a cable that is pulled and put back. rdma_rxe takes it as an error of
    // the queue pair when its own interface refuses a packet, which no NIC does: one that is down, or one whose queueing
    // discipline is just being exchanged. So the discipline is there before, and only told to lose everything. TCP is
    // tried with an interface that is down.
    let queue = "netem limit 100000";
    let silence = format!(
        "tc qdisc change dev eth0 root {queue} loss 100%; sleep 0.3; tc qdisc change dev eth0 root {queue} loss 0%"
    );
    let down = "ip link set eth0 down; sleep 0.3; ip link set eth0 up".to_owned();
    for (transport, how) in [("rdma", silence), ("tcp", down)] {
        let blink = peer_and("blink", "blink now", &format!("[ $RANK = 0 ] || {{ {how}; }}"));
        let blink = format!("tc qdisc add dev eth0 root {queue}\n{blink}");
        let outcome = rig().env("HALO_TRANSPORT", transport).run(&[&blink; 2]).unwrap();
        assert!(outcome.vms.iter().all(|vm| vm.status == Some(0)), "{outcome:#?}");
        assert!(text(&outcome, 1).contains("every byte in its place"), "{outcome:#?}");
    }
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn an_address_that_changes_is_used_by_the_next_connection() {
    // The processes meet on another network than the one that changes.
    let command = format!(
        "ip addr add 10.77.0.1$RANK/24 dev eth0; mkfifo /tmp/changed; exec 3<>/tmp/changed\n\
         {program} peer address --rank $RANK --rendezvous 10.77.0.10:29700 </tmp/changed >/tmp/out 2>&1 &\n\
         until grep -q 'address now' /tmp/out; do :; done\n\
         [ $RANK = 0 ] || {{ ip addr del 192.168.100.2/24 dev eth0; ip addr add 192.168.100.77/24 dev eth0; }}\n\
         echo >&3; wait $!; status=$?; cat /tmp/out; exit $status",
        program = host("v12")
    );
    let outcome = rig().env("NCCL_IB_ADDR_RANGE", "192.168.100.0/24").run(&[&command; 2]).unwrap();
    assert!(outcome.vms.iter().all(|vm| vm.status == Some(0)), "{outcome:#?}");
    assert!(text(&outcome, 0).contains("192.168.100.77"), "the new address is named: {outcome:#?}");
    assert!(text(&outcome, 1).contains("connected again"), "{outcome:#?}");
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn rdma_on_one_side_and_tcp_on_the_other_is_refused_by_both() {
    let command =
        format!("export HALO_TRANSPORT=$([ $RANK = 0 ] && echo rdma || echo tcp); {}", peer("refused"));
    let outcome = rig().run(&[&command; 2]).unwrap();
    assert!(outcome.succeeded(), "{outcome:#?}");
    for machine in 0..2 {
        let printed = text(&outcome, machine);
        assert!(printed.contains("refused with code 5"), "{printed}");
        assert!(
            printed.contains("HALO-E0811")
                && printed.contains("rxe0:1 (rdma)")
                && printed.contains("eth0 (tcp)"),
            "{printed}"
        );
    }
}
