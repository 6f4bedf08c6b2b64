//! `halo-verbs` on a real device: what its owners promise, in virtual machines.

use std::time::Duration;

use halo_soft_roce::{Outcome, Rig};

fn check<const N: usize>(scenario: &str) -> Outcome {
    let command = format!("{} {scenario}", env!("CARGO_BIN_EXE_verbs-check"));
    let rig = Rig::new().timeout(Duration::from_secs(300)).echo(true);
    rig.run(&std::array::from_fn::<_, N, _>(|_| &command)).unwrap()
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_flag_in_the_same_post_never_overtakes_its_payload() {
    let outcome = check::<2>("writes");
    assert!(outcome.succeeded(), "{outcome:#?}");
    for vm in &outcome.vms {
        assert!(
            vm.output.contains("100 rounds of 65536 bytes and a flag, every byte in its place"),
            "{outcome:#?}"
        );
    }
    assert!(outcome.vms[1].output.contains("rank 1: rxe0 port 1 GID"), "{outcome:#?}");
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_write_with_an_immediate_value_completes_a_posted_receive() {
    let outcome = check::<2>("immediate");
    assert!(outcome.succeeded(), "{outcome:#?}");
    for told in ["brought 0xc0ffee01 with 65536 bytes", "brought 0xc0ffee02 with 0 bytes"] {
        assert!(outcome.vms[1].output.contains(told), "{outcome:#?}");
    }
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn writes_to_a_dead_peer_fail_with_the_cause_first() {
    let outcome = check::<2>("death");
    assert!(outcome.vms[1].output.contains("killing"), "{outcome:#?}");
    assert_eq!(outcome.vms[1].status, Some(134), "aborted: {outcome:#?}");
    let survivor = &outcome.vms[0];
    assert_eq!(survivor.status, Some(0), "{outcome:#?}");
    let cause = "write 1: a write on rxe0 failed: transport retry counter exceeded (status 12)";
    assert!(survivor.output.contains(cause), "{outcome:#?}");
    assert!(
        survivor.output.contains("write 2: a write on rxe0 failed: Work Request Flushed Error (status 5)"),
        "{outcome:#?}"
    );
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_port_that_goes_down_is_an_event() {
    let outcome = check::<1>("event");
    assert!(outcome.succeeded(), "{outcome:#?}");
    assert!(outcome.vms[0].output.contains("event on rxe0: port error"), "{outcome:#?}");
}
