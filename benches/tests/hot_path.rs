//! What an operation must not do once things are warm: allocate, and, over shared memory, call the system. Both are
//! about ranks that are at work: one whose peer lets it wait for milliseconds goes to sleep, for which it needs the
//! system; so the ranks here are told to stay awake.

use std::process::{Command, Stdio};

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
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let work = SIZES.map(|bytes| Work { bytes, iterations: 50 }.to_string());
    let mut ranks = peers::halo("shm", 2).unwrap();
    let other = ranks.pop().unwrap();
    // Nor do they give their processors away, for that is a system call too.
    let busy = [(halo_env::HALO_SPIN.name, "60"), (halo_env::HALO_SLEEP_AFTER.name, "60")];
    let mut other = Command::new(&other.words[0])
        .args(&other.words[1..])
        .args(&work)
        .envs(busy)
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
        .envs(busy)
        .stdout(Stdio::null())
        .status()
        .expect("strace is installed");
    assert!(traced.success() && other.wait().unwrap().success(), "both ranks ended well");

    let trace = std::fs::read_to_string(&trace).unwrap();
    let (mut timed, mut marks, mut calls) = (false, 0, Vec::new());
    for call in trace.lines() {
        if call.starts_with("write(1, \"begin") {
            (timed, marks) = (true, marks + 1);
        } else if call.starts_with("write(1, \"end") {
            timed = false;
        } else if timed {
            calls.push(call);
        }
    }
    assert_eq!(marks, SIZES.len(), "every size was traced");
    assert!(calls.is_empty(), "{} system calls in {} operations: {calls:#?}", calls.len(), SIZES.len() * 50);
}
