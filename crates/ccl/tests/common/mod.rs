//! Ranks as threads of one process.

use std::net::Ipv4Addr;
use std::time::Duration;

use halo_ccl::{Communicator, Config, TransportChoice};

/// Small slots, so that few bytes are many chunks.
pub fn configs(world: usize, transport: TransportChoice) -> Vec<Config> {
    let rendezvous = halo_ccl::reserve_port(Ipv4Addr::LOCALHOST.into()).unwrap().to_string();
    let configure = |rank| Config {
        rendezvous: rendezvous.clone(),
        transport,
        timeout: Duration::from_secs(20),
        slot_bytes: 16 * 1024,
        slots: 4,
        ..Config::new(rank, world)
    };
    (0..world).map(configure).collect()
}

/// Connects all ranks and does `work` on each; what each of them answers.
pub fn run<T: Send>(configs: &[Config], work: impl Fn(Communicator) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let ranks = configs
            .iter()
            .map(|config| scope.spawn(|| work(Communicator::connect(config).unwrap())))
            .collect::<Vec<_>>();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}
