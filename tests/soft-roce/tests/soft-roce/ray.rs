//! A Ray cluster over real verbs: its head on one virtual machine, its other node on the other, an actor on each.

use std::time::Duration;

use halo_built::{python, workspace};
use halo_soft_roce::{Outcome, Rig};

/// Hang guard. A round is four to five minutes of two processors: an emulated one is some thirty times slower.
const LIMIT: Duration = Duration::from_secs(900);
/// What goes from each actor to the other: 300,000 floats.
const BYTES: u64 = 1_200_000;
/// Of an Ethernet MTU of 9000, RoCE uses this much.
const MTU: u64 = 4096;

fn run(machines: usize, patience: &str) -> Outcome {
    let script = workspace().join("tests/soft-roce/guest/ray_all_reduce.py");
    let rig = Rig::new().memory("2G").timeout(LIMIT).echo(true);
    let rig = rig.env("HALO_KEY", "a key for this test").env("HALO_TRANSPORT", "rdma");
    let command = format!("{} {}", python().display(), script.display());
    rig.env("RAY_PATIENCE", patience).run(&vec![command; machines]).unwrap()
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn actors_of_a_ray_cluster_reduce_over_rdma() {
    let outcome = run(2, "450");
    let printed = &outcome.vms[0].output;
    for machine in &outcome.vms {
        assert!(outcome.succeeded(), "status {:?}\n{}\n{}", machine.status, machine.output, machine.console);
    }
    for rank in [0, 1] {
        let line = printed.lines().find(|line| line.contains(&format!("actor {rank}: "))).unwrap();
        for words in [
            format!("\"machine\": \"vm{rank}\""),
            "\"values\": [3.0]".to_owned(),
            "\"transport\": \"rdma\"".to_owned(),
            "rxe0 port 1 GID 1".to_owned(),
        ] {
            assert!(line.contains(&words), "no {words}: {line}");
        }
        // The device counted at least the packets that the payload fills.
        let packets =
            line.split("\"packets\": ").nth(1).unwrap().trim_end_matches('}').parse::<u64>().unwrap();
        assert!(packets >= BYTES / MTU, "{line}");
    }
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_ray_that_does_not_come_up_is_said_and_ends() {
    let outcome = run(1, "1");
    let machine = &outcome.vms[0];
    assert_eq!((machine.status, outcome.timed_out), (Some(1), false), "{}", machine.output);
    assert!(machine.output.contains("Ray did not come up on machine 0 within 1 s"), "{}", machine.output);
}
