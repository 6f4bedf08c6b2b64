//! What a communicator costs between operations. The processor's time is that of the process, so this test is alone in it.

mod common;

use std::time::{Duration, Instant};

use common::{configs, run};
use halo_ccl::TransportChoice;
use rustix::time::{ClockId, clock_gettime};

/// How long nobody does anything.
const REST: Duration = Duration::from_millis(1500);

fn process_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Two ranks with everything of theirs: the threads that watch the peers, too.
#[test]
fn an_idle_communicator_takes_less_than_a_hundredth_of_a_core() {
    for transport in [TransportChoice::Shm, TransportChoice::Tcp] {
        let together = std::sync::Barrier::new(2);
        let shares = run(&configs(2, transport), |mut communicator| {
            communicator.barrier().unwrap();
            together.wait();
            let (start, before) = (Instant::now(), process_time());
            std::thread::sleep(REST);
            let used = process_time().saturating_sub(before);
            let share = used.as_secs_f64() / start.elapsed().as_secs_f64();
            together.wait();
            communicator.close().unwrap();
            share
        });
        println!("two ranks, {transport}: {:.2} % of a core", shares[0] * 100.0);
        assert!(shares[0] < 0.02, "{shares:?}");
    }
}
