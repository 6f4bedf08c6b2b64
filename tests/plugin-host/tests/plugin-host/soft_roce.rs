//! The plugin over real verbs: virtual machines with Soft-RoCE.

use std::time::Duration;

use halo_plugin_host::cases::ALL;
use halo_soft_roce::{Outcome, Rig};

use crate::common::{assert_lost, library};

fn host(version: &str) -> String {
    let (program, library) = (env!("CARGO_BIN_EXE_plugin-host"), library());
    format!("{program} --library {} --interface {version}", library.display())
}

fn rig() -> Rig {
    Rig::new().timeout(Duration::from_secs(500)).env("RUST_BACKTRACE", "0").echo(true)
}

/// One rank of a scenario per machine. What is lost must be told within a minute, which is twenty times what a host may be
/// silent: a deadline on emulated processors, nothing is measured.
fn peer(scenario: &str) -> String {
    format!("{} peer {scenario} --within 60 --rank $RANK --rendezvous 192.168.100.1:29700", host("v12"))
}

/// The same, in the background with its output in /tmp/out, and `action` once `words` have been printed.
fn peer_and(scenario: &str, words: &str, action: &str) -> String {
    format!(
        "{} >/tmp/out 2>&1 & until grep -q '{words}' /tmp/out; do :; done; {action}; wait $!; status=$?; cat /tmp/out; exit $status",
        peer(scenario)
    )
}

/// A cause: what the control connection says of a cable that is out.
const HOST_SILENT: &str = "its host does not answer any more";

fn text(outcome: &Outcome, machine: usize) -> &str {
    &outcome.vms[machine].output
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn every_case_through_version_12_and_some_through_each_other_version() {
    // Of what a case that is good has said: its lanes, its devices, what became of dma-bufs.
    let try_all = format!(
        "try() {{ if timeout 120 \"$@\" >/tmp/out 2>&1; then echo \"good: ${{@: -3}}\"; \
         sed -n 's/.* sends to .* over/  over/p; s/^device 0: / &/p; /dma-buf/s/^/  /p' /tmp/out | sort -u; \
         else echo \"BAD: $*\"; tail -5 /tmp/out; fi; }}\n\
         for case in $({newest} cases); do try {newest} case $case; done\n\
         HALO_TRANSPORT=tcp try {newest} case properties\n\
         for version in v8 v9 v10 v11; do for case in properties groups; do \
         try {program} --library {library} --interface $version case $case; done; done\n\
         export NCCL_IB_QPS_PER_CONNECTION=4 HALO_PLUGIN_STRIPE_BYTES=4096\n\
         for case in depth groups overtaking close-in-flight; do try {newest} case $case; done\n\
         for split in 0 1; do export NCCL_IB_SPLIT_DATA_ON_QPS=$split; try {newest} case depth; done\n\
         export HALO_PLUGIN_GPU_DIRECT=1\n\
         for case in properties flush depth nothing back-pressure dma-buf; do try {newest} case $case; done; exit 0",
        newest = host("v12"),
        program = env!("CARGO_BIN_EXE_plugin-host"),
        library = library().display(),
    );
    let outcome = rig().run(&[&try_all]).unwrap();
    assert!(outcome.succeeded(), "{outcome:#?}");
    let printed = text(&outcome, 0);
    assert!(!printed.contains("BAD"), "{printed}");
    assert_eq!(printed.matches("good").count(), ALL.len() + 1 + 8 + 4 + 2 + 6, "{printed}");
    // Four lanes where they are asked for, and there alone.
    let [one, four] = [1, 4].map(|lanes| printed.matches(&format!("  over {lanes} lane(s)")).count());
    assert!(one > 10 && four >= 4 + 2 + 4 && !printed.contains("over 2 lane"), "{one} and {four}: {printed}");
    // The NIC is on PCI, and each version says where: what the case compares is there.
    let devices = printed.lines().filter(|line| line.starts_with(" device 0: "));
    let (on_pci, all) = devices.fold((0, 0), |(on_pci, all), line| {
        (on_pci + usize::from(line.contains("pci_path: Some(\"/sys/devices/pci")), all + 1)
    });
    assert_eq!((on_pci, all), (7, 7), "{printed}");
    // Not offered, and offered: both were tried, and a real one where the kernel makes one.
    for words in ["refused, offered: false", "refused, offered: true"] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    assert!(printed.contains("real dma-buf"), "{printed}");
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn two_machines_exchange_messages_of_all_sizes_over_rdma() {
    let striped = format!(
        "set -e; {exchange}; NCCL_IB_QPS_PER_CONNECTION=4 HALO_PLUGIN_STRIPE_BYTES=20000 {exchange}; \
         HALO_PLUGIN_EAGER_BYTES=0 {exchange}",
        exchange = peer("exchange")
    );
    let outcome = rig().run(&[&striped; 2]).unwrap();
    assert!(outcome.succeeded(), "{outcome:#?}");
    for machine in 0..2 {
        assert_eq!(text(&outcome, machine).matches("every byte in its place").count(), 3, "{outcome:#?}");
        // Each rank has two connections that send in each of the three runs, and the second has four lanes.
        let sends = text(&outcome, machine).lines().filter(|line| line.contains("rxe0:1 (rdma) sends to vm"));
        let lanes: Vec<_> = sends.filter_map(|line| Some(line.rsplit_once(" over ")?.1)).collect();
        let [one, four] = ["1 lane(s)", "4 lane(s)"];
        assert_eq!(lanes, [one, one, four, four, one, one], "{outcome:#?}");
    }
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_killed_process_is_noticed_by_the_other_machine() {
    let outcome = rig().run(&[&peer("killed"); 2]).unwrap();
    let survivor = text(&outcome, 0);
    assert_eq!((outcome.vms[0].status, outcome.vms[1].status), (Some(0), Some(134)), "{outcome:#?}");
    assert!(survivor.contains("codes 6 6"), "{survivor}");
    assert!(survivor.contains("HALO-E0812: vm1 (process"), "{survivor}");
    assert_lost(
        survivor,
        "vm1 (process ",
        "rxe0:1 (rdma)",
        &["it closed the connection", "its process has ended"],
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
    let told: Vec<_> = survivor.lines().filter(|line| line.starts_with("WARN ")).collect();
    assert_eq!(told.len(), 1, "the connection that it found out by: {survivor}");
    let told = told[0];
    assert!(told.contains("HALO-E0812: vm1 (process") && told.contains("rxe0:1 (rdma)"), "{survivor}");
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
            let peer = format!("vm{} (process ", 1 - machine);
            let (device, causes): (_, &[&str]) = match transport {
                // A port gives back its writes a moment before it says that it is down.
                "rdma" => {
                    let causes = &[HOST_SILENT, "retry counter exceeded", "is DOWN", "Request Flushed"];
                    ("rxe0:1 (rdma)", causes)
                }
                _ => ("eth0 (tcp)", &[HOST_SILENT]),
            };
            assert_lost(printed, &peer, device, causes);
        }
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

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_traffic_class_is_on_the_wire_as_nccl_would_have_it() {
    // Both communicators have one. Rank 0's environment has another, which wins. What a receiver tells has that of the
    // messages that it tells of, but rank 1's, whose environment says so.
    let command = format!(
        "python3 {listen} eth0 >/tmp/classes & listening=$!; until [ -s /tmp/classes ]; do :; done\n\
         if [ $RANK = 0 ]; then export NCCL_IB_TC=16; class=40; else export NCCL_IB_FIFO_TC=120; class=80; fi\n\
         {exchange} --traffic-class $class; status=$?; kill $listening; wait $listening; cat /tmp/classes; exit $status",
        listen = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plugin-host/traffic_classes.py"),
        exchange = peer("exchange")
    );
    let outcome = rig().run(&[&command; 2]).unwrap();
    assert!(outcome.succeeded(), "{outcome:#?}");
    for machine in 0..2 {
        let printed = text(&outcome, machine);
        assert!(printed.contains("192.168.100.1: 16 80\n"), "{printed}");
        assert!(printed.contains("192.168.100.2: 80 120\n"), "{printed}");
    }
}

/// One step of a machine: its name, and what its cables have sent before and behind it.
fn step(name: &str, command: &str) -> String {
    let sent = "for eth in eth0 eth1; do echo $eth sent $(cat /sys/class/net/$eth/statistics/tx_bytes); done";
    format!("echo '== {name}'; {sent}; {{ {command}; }}; echo status $?; {sent}")
}

/// What a machine printed in one step.
fn of_step<'a>(printed: &'a str, name: &str) -> &'a str {
    let start = format!("== {name}\n");
    let rest = printed.split_once(&start).unwrap_or_else(|| panic!("no {name} in {printed}")).1;
    rest.split_once("== ").map_or(rest, |(step, _)| step)
}

/// Bytes that a cable has sent during a step.
fn sent(step: &str, interface: &str) -> u64 {
    let words = format!("{interface} sent ");
    let counts = step.lines().filter_map(|line| line.strip_prefix(words.as_str()));
    let counts: Vec<u64> = counts.map(|count| count.parse().unwrap()).collect();
    assert_eq!(counts.len(), 2, "before and behind: {step}");
    counts[1] - counts[0]
}

/// Every step in one boot: it takes longer than they do.
#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn two_ports_are_one_device_until_either_fails() {
    let exchange = |variables: &str| format!("env {variables} {}", peer("exchange --join"));
    let cut = |how: &str| {
        peer_and("cut --join", "cut now", &format!("[ $RANK = 0 ] || {how}"))
            .replace("exit $status", "[ $status = 0 ]")
    };
    // Those of machine 1 in the other order: the cables tell which belong together.
    let differing = "[ $RANK = 0 ] || export HALO_PLUGIN_STRIPE_BYTES=5000";
    let again = |eth: &str| format!("[ $RANK = 0 ] || ip link set {eth} up");
    let commands = [
        step("both", &exchange("A=1")),
        step("lanes", &exchange("NCCL_IB_QPS_PER_CONNECTION=3 HALO_PLUGIN_STRIPE_BYTES=20000")),
        step("announced", &format!("( {differing}; {} )", exchange("HALO_PLUGIN_EAGER_BYTES=0"))),
        step("one and two", &peer("exchange $([ $RANK = 1 ] || echo --join)")),
        step("forbidden", &format!("NCCL_IB_MERGE_NICS=0 {} --join case properties", host("v12"))),
        step("down", &cut("ip link set eth1 down")),
        again("eth1"),
        step("silent", &cut("tc qdisc add dev eth1 root netem loss 100%")),
        "[ $RANK = 0 ] || tc qdisc del dev eth1 root".to_owned(),
        step("first down", &cut("ip link set eth0 down")),
        "echo '== end'".to_owned(),
    ];
    let outcome = rig().cables(2).run(&[&commands.join("\n"); 2]).unwrap();
    assert!(!outcome.timed_out, "{outcome:#?}");
    for machine in 0..2 {
        let of = |name| of_step(text(&outcome, machine), name);
        for (name, lanes) in [("both", 2), ("lanes", 4), ("announced", 2)] {
            let printed = of(name);
            assert!(printed.contains("every byte in its place") && printed.contains("status 0"), "{printed}");
            let over = format!("over {lanes} lane(s) by rxe0:1, rxe1:1");
            assert!(
                printed.contains("rxe0:1+rxe1:1 (rdma) sends to vm") && printed.contains(&over),
                "{printed}"
            );
            // Half of the message of 4 MiB, and more.
            let [first, second] = ["eth0", "eth1"].map(|eth| sent(printed, eth));
            println!("machine {machine}, {name}: {first} and {second} bytes");
            assert!(first.min(second) > 2 << 20, "both carry: {first} {second}");
        }
        let uneven = of("one and two");
        let over = ["rxe0:1+rxe1:1 (rdma) sends to vm1", "rxe0:1 (rdma) sends to vm0"][machine];
        assert!(uneven.contains("every byte in its place") && uneven.contains(over), "{uneven}");
        assert!(machine == 1 || uneven.contains("over 1 lane(s) by rxe0:1"), "{uneven}");
        assert!(sent(uneven, "eth1") < 100_000, "nothing by the other: {uneven}");
        let forbidden = of("forbidden");
        assert!(
            forbidden.contains("makeVDevice answered 5")
                && forbidden.contains("NCCL_IB_MERGE_NICS=0 forbids"),
            "{forbidden}"
        );
        for (name, cable) in [("down", "rxe1"), ("silent", "rxe1"), ("first down", "rxe0")] {
            let printed = of(name);
            assert!(printed.contains("status 0"), "{name}: {printed}");
            let line = printed.lines().find(|line| line.contains("lost after")).unwrap();
            println!("machine {machine}, {name}: {line}");
            let told: Vec<_> = printed.lines().filter(|line| line.starts_with("told: ")).collect();
            assert_eq!(told.len(), 2, "one line for each direction: {printed}");
            for line in told {
                assert!(line.contains("HALO-E0812") || line.contains("HALO-E0813"), "{line}");
                // The first port also has the control connection, whose end is as good a cause.
                assert!(
                    line.contains(&format!("{cable}:1 is")) || name == "first down",
                    "the port is named: {line}"
                );
            }
        }
        let own_port = ["rxe1:1 is DOWN", "Request Flushed"];
        assert!(machine == 0 || own_port.iter().any(|words| of("down").contains(words)), "{}", of("down"));
    }
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn every_case_over_two_ports_that_are_one_device() {
    let newest = host("v12");
    let try_all = format!(
        "try() {{ if timeout 120 \"$@\" >/tmp/out 2>&1; then echo \"good: ${{@: -3}}\"; else echo \"BAD: $*\"; tail -5 /tmp/out; fi; }}\n\
         for case in $({newest} cases); do try {newest} --join case $case; done\n\
         for version in v9 v10 v11; do for case in joined groups; do \
         try {program} --library {library} --interface $version --join case $case; done; done\n\
         export HALO_PLUGIN_GPU_DIRECT=1\n\
         for case in joined flush depth nothing; do try {newest} --join case $case; done; exit 0",
        program = env!("CARGO_BIN_EXE_plugin-host"),
        library = library().display(),
    );
    let outcome = rig().cables(2).run(&[&try_all]).unwrap();
    assert!(outcome.succeeded(), "{outcome:#?}");
    let printed = text(&outcome, 0);
    assert!(!printed.contains("BAD"), "{printed}");
    assert_eq!(printed.matches("good").count(), ALL.len() + 6 + 4, "{printed}");
}
