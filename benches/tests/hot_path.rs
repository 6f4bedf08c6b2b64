//! What an operation must not do once things are warm: allocate, and, over shared memory, call the system. Both are
//! about ranks that are at work: one whose peer lets it wait for milliseconds goes to sleep, for which it needs the
//! system; so the ranks here are told to stay awake.

use halo_benches::calls;
use halo_benches::driver::{self, Invocation};
use halo_benches::line::Work;
use halo_benches::peers;

const SIZES: [usize; 3] = [8, 8 << 10, 200 << 10];

#[test]
fn an_operation_allocates_nothing_over_shm_and_tcp() {
    let work = SIZES.map(|bytes| Work { bytes, iterations: 20 });
    for transport in ["shm", "tcp"] {
        for world in [2, 3] {
            let processes: Vec<_> = peers::halo(transport, world).unwrap().into_iter().map(awake).collect();
            let lines = driver::run("halo", transport, &processes, &work).unwrap();
            for line in lines {
                assert_eq!(line.allocations, Some(0), "{world} ranks, {} bytes over {transport}", line.bytes);
            }
        }
    }
}

fn awake(process: Invocation) -> Invocation {
    process.env(halo_env::HALO_SLEEP_AFTER.name, "60")
}

#[test]
fn an_operation_over_shm_makes_no_system_call() {
    let work = SIZES.map(|bytes| Work { bytes, iterations: 50 });
    let calls = calls::of("shm", &work).unwrap();
    let made = &calls.made;
    assert!(made.is_empty(), "{} system calls in {} operations: {made:#?}", made.len(), calls.operations);
}

#[test]
fn an_operation_over_tcp_calls_its_socket_and_nothing_else() {
    let calls = calls::of("tcp", &[Work { bytes: 8 << 10, iterations: 50 }]).unwrap();
    let others: Vec<_> = calls
        .made
        .iter()
        .filter(|call| !call.starts_with("readv(") && !call.starts_with("sendmsg("))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(calls.made.iter().filter(|call| call.starts_with("sendmsg(")).count(), 50, "one write each");
}
