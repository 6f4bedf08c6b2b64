//! A rank that is told to give up while it meets the others does so at once, and those that had come hear of it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use halo_fabric::{Config, FabricError, Interrupt, Mesh, Store, StoreError};

/// Far longer than any of these tests takes.
const TIMEOUT: Duration = Duration::from_secs(300);

fn config(rank: usize, world: usize, rendezvous: &str) -> Config {
    Config { rendezvous: rendezvous.to_owned(), timeout: TIMEOUT, ..Config::new(rank, world) }
}

fn free_rendezvous() -> String {
    halo_fabric::reserve_port(Ipv4Addr::LOCALHOST.into()).unwrap().to_string()
}

/// Wanted from the moment when `asked` has been told that many times.
fn after(times: usize, asked: &Arc<AtomicUsize>) -> Interrupt {
    let asked = Arc::clone(asked);
    Interrupt::when(move || asked.fetch_add(1, Ordering::Relaxed) >= times)
}

fn assert_interrupted(met: Result<Mesh, FabricError>) {
    let error = met.map(|_| "met").unwrap_err();
    assert!(matches!(error, FabricError::Interrupted), "{error}");
}

#[test]
fn nobody_serves_the_rendezvous() {
    let config = Config { interrupt: after(3, &Arc::default()), ..config(1, 2, &free_rendezvous()) };
    assert_interrupted(Mesh::connect(&config));
}

#[test]
fn nobody_comes_to_the_rendezvous() {
    let config = Config { interrupt: after(10, &Arc::default()), ..config(0, 2, &free_rendezvous()) };
    assert_interrupted(Mesh::connect(&config));
}

/// A store in which nobody else has left anything.
struct Empty;

impl Store for Empty {
    fn set(&self, _: &str, _: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }

    fn get(&self, _: &str, deadline: Instant) -> Result<Vec<u8>, StoreError> {
        assert!(deadline < Instant::now() + TIMEOUT / 2, "nobody could interrupt so long a wait");
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        Err(StoreError::Absent)
    }
}

#[test]
fn nothing_is_in_a_store_of_the_caller() {
    let config = Config { interrupt: after(2, &Arc::default()), ..config(1, 2, "") };
    assert_interrupted(Mesh::connect_with_store(&config, &Empty));
}

#[test]
fn those_that_have_come_are_told() {
    let rendezvous = free_rendezvous();
    let (asked_first, asked_second) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let second = Config { interrupt: after(usize::MAX, &asked_second), ..config(1, 3, &rendezvous) };
    let first = Config {
        interrupt: Interrupt::when({
            let (asked_first, asked_second) = (Arc::clone(&asked_first), Arc::clone(&asked_second));
            move || {
                asked_first.fetch_add(1, Ordering::Relaxed);
                // Once to find the rendezvous; then it is there.
                asked_second.load(Ordering::Relaxed) > 5
            }
        }),
        ..config(0, 3, &rendezvous)
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(move || Mesh::connect(&first));
        while asked_first.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        let told = Mesh::connect(&second).map(|_| "met").unwrap_err();
        let FabricError::StoppedByPeer { peer: 0, reason, .. } = &told else { panic!("{told}") };
        assert!(reason.contains("interrupted"), "{told}");
        assert_interrupted(first.join().unwrap());
    });
}
