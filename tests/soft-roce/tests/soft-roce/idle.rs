//! Waiting over real verbs, in one virtual machine.

use std::time::Duration;

use halo_soft_roce::Rig;

const CHECK: &str = env!("CARGO_BIN_EXE_idle-check");

/// The number before a word in what is said of rdma.
fn number(printed: &str, word: &str) -> f64 {
    let before =
        printed.lines().filter(|line| line.starts_with("rdma")).find_map(|line| line.split_once(word));
    before
        .and_then(|(before, _)| before.split_whitespace().last())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no number of {word} in {printed}"))
}

#[test]
#[ignore = "boots a virtual machine: `make test-soft-roce`"]
fn a_rank_that_waits_over_rdma_sleeps_until_its_peer_rings() {
    let rig = Rig::new().vcpus(2).timeout(Duration::from_secs(120)).env("HALO_KEY", "a key for this test");
    let outcome = rig.echo(true).run(&[CHECK]).unwrap();
    assert!(outcome.succeeded(), "{outcome:#?}");
    let printed = &outcome.vms[0].output;
    // Sleeps grow to 100 ms in a wait of 3 s; if a rank did not trust in a bell, they would be of a millisecond.
    assert!((10.0..150.0).contains(&number(printed, "sleeps")), "{printed}");
    // Sleeps that nobody ends have half of theirs left when the peer comes, in the median.
    assert!(number(printed, "% of the sleep") < 25.0, "{printed}");
}
