//! What it costs to wait: a rank whose peer is late sleeps, and is awake when the peer comes.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use halo_ccl::{Communicator, Config, DType, Input, TransportChoice};
use rustix::time::{ClockId, clock_gettime};

/// How late the peer is.
const LATE: Duration = Duration::from_millis(1500);

/// How much of a core this thread takes for `work`.
fn share(work: impl FnOnce()) -> f64 {
    let used = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let (start, before) = (Instant::now(), used());
    work();
    used().saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64()
}

#[test]
fn a_rank_that_waits_for_a_late_one_sleeps() {
    for transport in [TransportChoice::Shm, TransportChoice::Tcp] {
        let rendezvous = halo_ccl::reserve_port(Ipv4Addr::LOCALHOST.into()).unwrap().to_string();
        let config = |rank| Config { rendezvous: rendezvous.clone(), transport, ..Config::new(rank, 2) };
        let connect = |rank| {
            let mut communicator = Communicator::connect(&config(rank)).unwrap();
            // What a peer tells of a shared buffer it has read must not keep anybody awake later.
            let mut buffer = communicator.allocate(64 * 1024).unwrap();
            communicator.all_gather(Input::InPlace, &mut buffer, DType::U8).unwrap();
            // Nor must what it tells of chunks it has consumed.
            communicator.broadcast(&mut vec![1; 7 * 128 * 1024], DType::U8, 0).unwrap();
            communicator
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut late = connect(1);
                std::thread::sleep(LATE);
                late.barrier().unwrap();
            });
            let mut waiting = connect(0);
            let share = share(|| waiting.barrier().unwrap());
            println!("waiting, {transport}: {:.2} % of a core", share * 100.0);
            assert!(share < 0.01, "{share}");
        });
    }
}
