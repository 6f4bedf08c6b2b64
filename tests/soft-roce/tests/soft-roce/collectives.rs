//! halo over real verbs, between two virtual machines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use halo_built::program;
use halo_soft_roce::{Outcome, Rig};

/// `halo-perf`, for the guests, which see this machine's files.
fn halo_perf() -> String {
    program("halo-perf").display().to_string()
}

fn rig() -> Rig {
    Rig::new().timeout(Duration::from_secs(300)).env("HALO_KEY", "a key for this test").echo(true)
}

fn explain(outcome: &Outcome) -> String {
    let mut text = format!("timed out: {}\n", outcome.timed_out);
    for (index, vm) in outcome.vms.iter().enumerate() {
        text += &format!(
            "machine {index}: status {:?}, kernel {:?}\n{}\nconsole:\n{}\n",
            vm.status, vm.kernel_complaints, vm.output, vm.console
        );
    }
    text
}

/// Arguments of one rank per machine.
fn rank(collective: &str, more: &str) -> String {
    let program = halo_perf();
    format!("{program} {collective} --rank $RANK --world 2 --rendezvous 192.168.100.1:29510 {more}")
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn all_reduce_and_all_gather_over_rdma_have_no_wrong_element_from_0_bytes_to_8_mib() {
    let sizes = "--transport rdma --dtype bf16 --min 0 --max 8M --factor 4 --check --warmup 1 --iterations 3";
    let command = format!(
        "set -e; {} devices; {}; {}",
        halo_perf(),
        rank("all-reduce", sizes),
        rank("all-gather", sizes)
    );
    let outcome = rig().run(&[&command; 2]).unwrap();
    assert!(outcome.succeeded(), "{}", explain(&outcome));
    let printed = &outcome.vms[0].output;
    assert_eq!(printed.matches("rank 0 to rank 1 on vm1: rdma (rxe0 port 1 GID 1").count(), 2, "{printed}");
    assert!(printed.contains("chosen for this address"), "{printed}");
    // The table's rows begin with a size: 0 B and 2 B .. 8 MiB, then 0 B and 4 B .. 4 MiB.
    let rows: Vec<Vec<&str>> = printed
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row.len() == 10 && row[0].parse::<usize>().is_ok())
        .collect();
    assert!(rows.iter().any(|row| row[0] == "8388608"), "8 MiB was measured: {printed}");
    assert_eq!(rows.iter().filter(|row| row[0] == "0").count(), 2, "{printed}");
    assert!(rows.len() >= 24 && rows.iter().all(|row| row[7] == "0"), "no wrong element: {printed}");
}

/// Two ranks on each machine, and also those of one machine meet over rdma.
#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn four_ranks_over_rdma_have_no_wrong_element_by_any_algorithm() {
    let algorithms = ["one-shot", "two-shot", "doubling", "ring"];
    let table = r#"version = 1\n[[all_reduce]]\nranks = 4\ntransport = \"rdma\"\nalgorithm = \"%s\"\n"#;
    let perf = format!(
        "{} all-reduce --world 4 --rendezvous 192.168.100.1:29510 --transport rdma --dtype bf16 --min 0 --max 256K \
         --factor 16 --check --warmup 1 --iterations 2",
        halo_perf()
    );
    // Four ranks share two processors, so whoever waits gives its own away.
    let command = format!(
        "set -e; export HALO_SPIN=0 HALO_PLANS=/tmp/plans; for algorithm in {}; do printf '{table}' $algorithm >/tmp/plans; \
         {perf} --rank $((2 * RANK + 1)) >/dev/null & {perf} --rank $((2 * RANK)); wait $!; done",
        algorithms.join(" ")
    );
    let outcome = rig().timeout(Duration::from_secs(600)).run(&[&command; 2]).unwrap();
    assert!(outcome.succeeded(), "{}", explain(&outcome));
    let printed = &outcome.vms[0].output;
    let rows: Vec<Vec<&str>> = printed
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row.len() == 10 && row[0].parse::<usize>().is_ok())
        .collect();
    for bytes in ["0", "131072"] {
        assert_eq!(rows.iter().filter(|row| row[0] == bytes).count(), algorithms.len(), "{printed}");
    }
    assert!(rows.iter().all(|row| row[7] == "0"), "no wrong element: {printed}");
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_killed_process_is_named_by_the_other_machine_within_5_seconds() {
    let endless = rank("all-reduce", "--transport rdma --min 64K --max 64K --iterations 1000000");
    // Machine 1 kills its rank once its statistics show that it is at work.
    let victim = format!(
        "export HALO_STATS_FILE=/tmp/statistics; {endless} & \
         until grep -q all_reduce /tmp/statistics; do :; done 2>/dev/null; echo killing; kill -9 $!; wait $!; echo $?"
    );
    let outcome = rig().run(&[&format!("{endless}; echo status $?"), &victim]).unwrap();
    let printed = &outcome.vms[0].output;
    assert!(outcome.vms[1].output.contains("137"), "the rank was killed: {}", explain(&outcome));
    assert!(printed.contains("error[HALO-E0219]: rank 1 (vm1) is lost"), "{}", explain(&outcome));
    assert!(printed.contains("status 1"), "{}", explain(&outcome));
    let (killed, told) = (outcome.when(1, "killing").unwrap(), outcome.when(0, "HALO-E0219").unwrap());
    let took = told.saturating_duration_since(killed);
    println!("the survivor named its peer after {took:.2?}");
    assert!(took < Duration::from_secs(5), "named after {took:?}");
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_memlock_limit_too_low_is_named_with_its_remedy() {
    let command =
        format!("ulimit -l 64; {}; echo status $?", rank("all-reduce", "--transport rdma --min 8 --max 8"));
    // Root may pin without limit; anybody else may not.
    let command = format!(
        "chmod 666 /dev/infiniband/*; setpriv --reuid 1000 --regid 1000 --clear-groups bash -c {}",
        quote(&command)
    );
    let outcome = rig().run(&[&command; 2]).unwrap();
    let told = outcome.vms.iter().filter(|vm| vm.output.contains("HALO-E0107")).count();
    assert!(told >= 1, "{}", explain(&outcome));
    let words = outcome.vms.iter().map(|vm| vm.output.as_str()).collect::<String>();
    assert!(words.contains("65536 bytes") && words.contains("ulimit -l unlimited"), "{words}");
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn perftest_runs_between_the_machines() {
    let server = "ib_write_lat -d rxe0 -x 1 -s 8 -n 200";
    let client = "until ib_write_lat -d rxe0 -x 1 -s 8 -n 200 $PEER; do :; done";
    let outcome = rig().run(&[server, client]).unwrap();
    assert!(outcome.succeeded(), "{}", explain(&outcome));
    assert!(outcome.vms[1].output.contains("t_typical"), "{}", explain(&outcome));
}

/// System calls by name, from the table that `strace -c` prints.
fn calls(printed: &str, title: &str) -> BTreeMap<String, i64> {
    let table = printed.lines().skip_while(|line| *line != title).take_while(|line| !line.ends_with("total"));
    // Share, seconds, microseconds a call, calls, errors if there are any, name.
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let numbers = words.len() >= 5 && words[0].parse::<f64>().is_ok();
        numbers.then(|| (words[words.len() - 1].to_owned(), words[3].parse().unwrap()))
    };
    table.filter_map(row).collect()
}

/// Between 50 and 250 operations lie 200 more, and nothing else. rdma_rxe has a post make one system call, which is
/// the provider's own; a NIC's provider makes none. Payload and flag are one post.
#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn an_operation_over_rdma_makes_no_system_call_but_the_providers_post() {
    let (mut traced, mut other) = ("set -e".to_owned(), "set -e".to_owned());
    for iterations in [50, 250] {
        let more = format!("--transport rdma --min 8K --max 8K --warmup 10 --iterations {iterations}");
        let command = rank("all-reduce", &more);
        // Without -f: the thread that runs the operations, and not the one that watches the peers.
        write!(traced, "; strace -c -o /tmp/calls {command}; echo calls {iterations}; cat /tmp/calls")
            .unwrap();
        write!(other, "; {command}").unwrap();
    }
    // Awake all the time, since to sleep takes system calls.
    let rig = rig().env("HALO_SPIN", "60").env("HALO_SLEEP_AFTER", "60");
    let outcome = rig.run(&[&traced, &other]).unwrap();
    assert!(outcome.succeeded(), "{}", explain(&outcome));
    let printed = &outcome.vms[0].output;
    let (few, mut more) = (calls(printed, "calls 50"), calls(printed, "calls 250"));
    assert!(few.len() > 5, "strace has told something: {printed}");
    for (name, calls) in &mut more {
        *calls -= few.get(name).copied().unwrap_or(0);
    }
    println!("200 operations: {more:?}");
    more.retain(|_, calls| calls.abs() > 20);
    let per_operation: Vec<_> =
        more.iter().map(|(name, calls)| (name.as_str(), (calls + 100) / 200)).collect();
    assert_eq!(per_operation, [("write", 1)], "{printed}");
}
