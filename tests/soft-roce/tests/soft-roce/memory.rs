//! Registered memory over real verbs, between two virtual machines.

use std::time::Duration;

use halo_soft_roce::{Outcome, Rig};

const CHECK: &str = env!("CARGO_BIN_EXE_memory-check");

fn run(command: &str) -> Outcome {
    let rig = Rig::new().timeout(Duration::from_secs(300)).env("HALO_KEY", "a key for this test").echo(true);
    rig.run(&[command; 2]).unwrap()
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn registered_memory_is_read_and_written_where_it_lies_and_a_memlock_limit_is_named() {
    // 8 MiB are enough for the arena. Root may pin without limit; anybody else may not.
    let limited = format!(
        "chmod 666 /dev/infiniband/*; \
         setpriv --reuid 1000 --regid 1000 --clear-groups bash -c 'ulimit -l 8192; {CHECK} memlock'"
    );
    // A pool of huge pages, for the arena of the first.
    let huge = "echo 8 > /proc/sys/vm/nr_hugepages";
    let outcome =
        run(&format!("set -e; {huge}; {CHECK} registered; echo 0 > /proc/sys/vm/nr_hugepages; {limited}"));
    assert!(outcome.succeeded(), "{outcome:#?}");
    for (rank, machine) in outcome.vms.iter().enumerate() {
        let printed = &machine.output;
        assert!(
            printed.contains("12582912 bytes of 12582912 sent in place, every element right"),
            "{printed}"
        );
        assert!(printed.contains("arena: huge pages of 2048 KiB"), "{printed}");
        assert!(
            printed.contains("arena: ordinary pages (transparent_hugepage/shmem_enabled is"),
            "{printed}"
        );
        assert!(printed.contains("given back: (0, 0) more"), "{printed}");
        let nothing = printed.contains("one-sided: 0 bytes sent and 0 received in place");
        assert_eq!(nothing, rank == 1, "{printed}");
        let refused =
            "HALO-E0107: rxe0 may not pin 67108864 bytes: the memlock limit of this process is 8388608 bytes";
        assert!(printed.contains(refused) && printed.contains("ulimit -l unlimited"), "{printed}");
        assert!(printed.contains("every element right without it"), "{printed}");
    }
}

#[test]
#[ignore = "boots virtual machines: `make test-soft-roce`"]
fn a_peer_that_dies_with_a_registered_buffer_in_flight_leaves_the_buffer_to_its_owner() {
    let outcome = run(&format!("{CHECK} death"));
    assert!(outcome.vms[1].output.contains("killing"), "{outcome:#?}");
    assert_eq!(outcome.vms[1].status, Some(134), "aborted: {outcome:#?}");
    let survivor = &outcome.vms[0];
    assert_eq!(survivor.status, Some(0), "{outcome:#?}");
    assert!(survivor.output.contains("HALO-E0219: rank 1 (vm1) is lost"), "{outcome:#?}");
    assert!(survivor.output.contains("the buffer is mine again"), "{outcome:#?}");
}
