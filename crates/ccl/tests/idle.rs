//! What it costs to wait: a rank whose peer is late sleeps, and is awake when the peer comes.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use halo_ccl::{Communicator, Config, DType, Input, TransportChoice};
use rustix::time::{ClockId, clock_gettime};

/// How late the peer is.
const LATE: Duration = Duration::from_millis(1500);

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_rank_that_waits_for_a_late_one_sleeps() {
    for transport in [TransportChoice::Shm, TransportChoice::Tcp] {
        let rendezvous = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = |rank| Config { rendezvous: rendezvous.clone(), transport, ..Config::new(rank, 2) };
        let connect = |rank| {
            let mut communicator = Communicator::connect(&config(rank)).unwrap();
            // What a peer tells of a shared buffer it has read must not keep anybody awake later.
            let mut buffer = communicator.allocate(64 * 1024).unwrap();
            communicator.all_gather(Input::InPlace, &mut buffer, DType::U8).unwrap();
            communicator
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut late = connect(1);
                std::thread::sleep(LATE);
                late.barrier().unwrap();
            });
            let mut waiting = connect(0);
            let (start, cpu) = (Instant::now(), thread_cpu_time());
            waiting.barrier().unwrap();
            let (waited, used) = (start.elapsed(), thread_cpu_time().saturating_sub(cpu));
            let share = used.as_secs_f64() / waited.as_secs_f64();
            println!("{transport}: {used:?} of processor time in {waited:?}: {:.2} %", share * 100.0);
            assert!(share < 0.05, "{share}");
        });
    }
}
