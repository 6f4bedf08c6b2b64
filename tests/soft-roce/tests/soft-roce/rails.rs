//! Several rails over real verbs: two cables between two virtual machines.

use std::time::Duration;

use halo_soft_roce::Rig;

const CHECK: &str = env!("CARGO_BIN_EXE_rails-check");

/// What one machine printed of one step.
fn lines<'a>(printed: &'a str, step: &str) -> Vec<&'a str> {
    let (start, end) = (format!("== {step}"), "== ");
    let rest = printed.split_once(&start).unwrap_or_else(|| panic!("no {step} in {printed}")).1;
    rest.split_once(end).map_or(rest, |(step, _)| step).lines().collect()
}

/// Bytes sent by a rail, as halo counts them, and what became of it.
fn rail<'a>(lines: &[&'a str], name: &str) -> (u64, &'a str) {
    let words = format!("{name}:1 ");
    let found = lines.iter().find_map(|line| line.split_once(words.as_str())).expect("a line of this rail");
    let (bytes, state) = found.1.split_once(" bytes: ").expect("bytes and state");
    (bytes.parse().expect("a number"), state)
}

/// Packets that a device sent during a step, as the kernel counts them.
fn packets(lines: &[&str], device: &str) -> u64 {
    let words = format!("{device} sent_pkts ");
    let counts = lines.iter().filter_map(|line| line.strip_prefix(words.as_str()));
    let counts: Vec<u64> = counts.map(|count| count.parse().expect("a number")).collect();
    assert_eq!(counts.len(), 2, "before and after: {lines:?}");
    counts[1] - counts[0]
}

/// Every step in one boot: it takes longer than they do.
#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn two_rails_share_the_bytes_and_either_may_be_lost() {
    let counters = "for d in rxe0 rxe1; do echo $d sent_pkts $(cat /sys/class/infiniband/$d/ports/1/hw_counters/sent_pkts); done";
    let step = |name: &str, variables: &str, arguments: &str| {
        format!("echo '== {name}'; {counters}; {variables} {CHECK} {arguments}; {counters}")
    };
    let slow = "tc qdisc add dev eth1 root netem rate 12mbit limit 100000";
    let silence = "if [ $RANK = 1 ]; then tc qdisc add dev eth1 root netem loss 100%; fi";
    let command = [
        "set -e".to_owned(),
        step("both", "", "share 9"),
        slow.to_owned(),
        step("slow", "HALO_RDMA_DEVICE=rxe1,rxe0", "share 9"),
        "tc qdisc del dev eth1 root".to_owned(),
        silence.to_owned(),
        step("unreached", "", "share 1"),
        step("unreached and strict", "HALO_LOST_RAIL=error", "share 1"),
        "if [ $RANK = 1 ]; then tc qdisc del dev eth1 root; fi".to_owned(),
        step("one", "HALO_RDMA_DEVICE=rxe0", "share 1"),
        step("down", "", "lose ip link set eth1 down"),
        "if [ $RANK = 1 ]; then ip link set eth1 up; fi".to_owned(),
        step("silent", "", "lose tc qdisc add dev eth0 root netem loss 100%"),
        "if [ $RANK = 1 ]; then tc qdisc del dev eth0 root; fi".to_owned(),
        step("strict", "HALO_LOST_RAIL=error", "lose ip link set eth1 down"),
        "echo '== end'".to_owned(),
    ]
    .join("\n");
    let rig = Rig::new().cables(2).timeout(Duration::from_secs(420)).env("HALO_KEY", "a key for this test");
    let outcome = rig.echo(true).run(&[&command; 2]).unwrap();
    assert!(outcome.succeeded(), "{outcome:#?}");
    for (rank, machine) in outcome.vms.iter().enumerate() {
        let step = |name| lines(&machine.output, name);
        let right = |lines: &[&str]| lines.iter().any(|line| line.ends_with("every element right"));

        let both = step("both");
        assert!(right(&both) && both.iter().any(|line| line.contains("; also rxe1 port 1")), "{both:#?}");
        let (first, second) = (rail(&both, "rxe0"), rail(&both, "rxe1"));
        assert_eq!((first.1, second.1), ("in use", "in use"));
        assert!(first.0.min(second.0) * 4 > first.0.max(second.0), "alike: {first:?} {second:?}");
        assert!(packets(&both, "rxe1") * 1024 > second.0 / 4, "the device sent them: {both:#?}");

        let slow = step("slow");
        let (first, second) = (rail(&slow, "rxe0"), rail(&slow, "rxe1"));
        assert!(right(&slow) && second.0 > 0 && first.0 > 2 * second.0, "{first:?} {second:?}");

        let unreached = step("unreached\n");
        assert!(
            right(&unreached) && !unreached.iter().any(|line| line.contains(" bytes: ")),
            "{unreached:#?}"
        );
        assert!(unreached.iter().any(|line| line.contains("'s rxe1:1 left out")), "{unreached:#?}");
        let told = "a rail cannot be reached and is left out";
        assert!(unreached.iter().any(|line| line.contains(told)), "{unreached:#?}");
        let refused = step("unreached and strict");
        let cause = "its rail over rxe1 port 1";
        assert!(
            refused.iter().any(|line| line.contains("HALO-E0217") && line.contains(cause)),
            "{refused:#?}"
        );

        let one = step("one");
        assert!(right(&one) && !one.iter().any(|line| line.contains("rxe1:1")), "{one:#?}");
        assert_eq!(packets(&one, "rxe1"), 0, "nothing by the other: {one:#?}");

        for (name, lost, cause) in
            [("down", "rxe1", "its port is down"), ("silent", "rxe0", "retry counter exceeded")]
        {
            let lines = step(name);
            assert!(right(&lines), "{lines:#?}");
            let state = rail(&lines, lost).1;
            assert!(state.contains(cause), "{name}: {state}");
            assert_eq!(rail(&lines, if lost == "rxe0" { "rxe1" } else { "rxe0" }).1, "in use");
            let warned = lines.iter().filter(|line| line.contains("a rail is lost and left out")).count();
            assert_eq!(warned, 1, "said once by rank {rank}: {lines:#?}");
        }

        let strict = step("strict");
        let codes = ["HALO-E0218", "HALO-E0221"];
        assert!(strict.iter().any(|line| codes.iter().any(|code| line.contains(code))), "{strict:#?}");
        assert!(strict.iter().any(|line| line.contains("which is to be an error")), "{strict:#?}");
    }
}
