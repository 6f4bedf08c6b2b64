//! Waiting over real verbs, in one virtual machine.

use std::time::Duration;

use halo_soft_roce::Rig;

const CHECK: &str = env!("CARGO_BIN_EXE_idle-check");

/// The sleeps of a rank that waited, and what else was printed.
fn sleeps(printed: &str) -> Option<u64> {
    let line = printed.lines().find_map(|line| line.strip_prefix("waiting: "))?;
    line.split(", ").nth(1)?.split_whitespace().next()?.parse().ok()
}

#[test]
#[ignore = "boots a virtual machine: `make test-soft-roce`"]
fn a_rank_that_waits_over_rdma_sleeps_until_its_peer_rings() {
    let rig = Rig::new().vcpus(2).timeout(Duration::from_secs(120)).env("HALO_KEY", "a key for this test");
    let outcome = rig.echo(true).run(&[CHECK]).unwrap();
    assert!(outcome.succeeded(), "{outcome:#?}");
    let printed = &outcome.vms[0].output;
    // Sleeps grow to 100 ms in a wait of 3 s; one that nothing ended would have to be a millisecond each.
    let sleeps = sleeps(printed).unwrap_or_else(|| panic!("no sleeps in {printed}"));
    assert!((10..100).contains(&sleeps), "{printed}");
    assert!(printed.contains("woken: after"), "{printed}");
}
