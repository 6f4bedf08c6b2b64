//! What an operation must not do once things are warm: allocate, and, over shared memory, call the system.

use std::process::{Command, Stdio};

use halo_benches::driver;
use halo_benches::line::Work;
use halo_benches::peers;

const SIZES: [usize; 3] = [8, 8 << 10, 200 << 10];

#[test]
fn an_operation_allocates_nothing_over_shm_and_tcp() {
    let work = SIZES.map(|bytes| Work { bytes, iterations: 20 });
    for transport in ["shm", "tcp"] {
        for world in [2, 3] {
            let processes = peers::halo(transport, world).unwrap();
            let lines = driver::run("halo", transport, &processes, &work).unwrap();
            for line in lines {
                assert_eq!(line.allocations, Some(0), "{world} ranks, {} bytes over {transport}", line.bytes);
            }
        }
    }
}

/// What a rank calls because it waits, and not because it works: giving its processor away, and napping. On a machine
/// with as many processors as ranks and nothing else to do there are none of these either.
const WAITING: [&str; 2] = ["sched_yield(", "clock_nanosleep("];

#[test]
fn an_operation_over_shm_makes_no_system_call() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let work = SIZES.map(|bytes| Work { bytes, iterations: 50 }.to_string());
    let mut ranks = peers::halo("shm", 2).unwrap();
    let other = ranks.pop().unwrap();
    let mut other = Command::new(&other.words[0])
        .args(&other.words[1..])
        .args(&work)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Without -f, strace follows the thread that runs the operations, and not the one that watches the peers.
    let traced = Command::new("strace")
        .arg("-o")
        .arg(&trace)
        .args(&ranks[0].words)
        .arg("--marks")
        .args(&work)
        .stdout(Stdio::null())
        .status()
        .expect("strace is installed");
    assert!(traced.success() && other.wait().unwrap().success(), "both ranks ended well");

    let trace = std::fs::read_to_string(&trace).unwrap();
    let (mut timed, mut marks, mut waits, mut calls) = (false, 0, 0, Vec::new());
    for call in trace.lines() {
        if call.starts_with("write(1, \"begin") {
            (timed, marks) = (true, marks + 1);
        } else if call.starts_with("write(1, \"end") {
            timed = false;
        } else if timed && WAITING.iter().any(|name| call.starts_with(name)) {
            waits += 1;
        } else if timed {
            calls.push(call);
        }
    }
    assert_eq!(marks, SIZES.len(), "every size was traced");
    assert!(calls.is_empty(), "{} system calls in {} operations: {calls:#?}", calls.len(), SIZES.len() * 50);
    println!("0 system calls in {} operations, and {waits} while it waited", SIZES.len() * 50);
}
