//! Closing with something still under way: it arrives, or the rank that sent it is told.

use std::net::Ipv4Addr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use halo_ccl::{Communicator, Config, DType, Error, FabricError, Interrupt, TransportChoice};

/// More than the kernels of both ends take while nobody reads, and as much as the slots take.
const BYTES: usize = 8 * 128 * 1024;

fn connect(rank: usize, rendezvous: &str, timeout: Duration) -> Communicator {
    let (rendezvous, transport) = (rendezvous.to_owned(), TransportChoice::Tcp);
    Communicator::connect(&Config { rendezvous, transport, timeout, ..Config::new(rank, 2) }).unwrap()
}

fn rendezvous() -> String {
    halo_ccl::reserve_port(Ipv4Addr::LOCALHOST.into()).unwrap().to_string()
}

#[test]
fn what_was_sent_arrives_although_its_sender_closes_before_anybody_receives() {
    let (rendezvous, sent, receives) = (rendezvous(), Barrier::new(2), AtomicBool::new(false));
    let timeout = Duration::from_secs(20);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sender = connect(0, &rendezvous, timeout);
            sender.send(&vec![7; BYTES], DType::U8, 1).unwrap();
            sent.wait();
            sender.close().unwrap();
            assert!(receives.load(Ordering::SeqCst), "closed while its last bytes were its own alone");
        });
        let mut receiver = connect(1, &rendezvous, timeout);
        sent.wait();
        // Later than any grace of a moment.
        std::thread::sleep(Duration::from_millis(2500));
        receives.store(true, Ordering::SeqCst);
        let mut taken = vec![0; BYTES];
        receiver.recv(&mut taken, DType::U8, 0).unwrap();
        assert!(taken.iter().all(|byte| *byte == 7));
        receiver.close().unwrap();
    });
}

#[test]
fn an_interrupt_ends_the_wait_of_one_that_closes() {
    let (rendezvous, closed, timeout) = (rendezvous(), Barrier::new(2), Duration::from_secs(300));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sender = connect(0, &rendezvous, timeout);
            sender.send(&vec![7; BYTES], DType::U8, 1).unwrap();
            sender.interrupt_when(Interrupt::when(|| true));
            let error = sender.close().unwrap_err();
            assert_eq!(error.stable_code(), "HALO-E0230", "{error}");
            closed.wait();
        });
        let reads_nothing = connect(1, &rendezvous, timeout);
        closed.wait();
        drop(reads_nothing);
    });
}

#[test]
fn a_sender_that_closes_is_told_that_nobody_took_its_bytes() {
    let (rendezvous, closed) = (rendezvous(), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sender = connect(0, &rendezvous, Duration::from_secs(5));
            sender.send(&vec![7; BYTES], DType::U8, 1).unwrap();
            let error = sender.close().unwrap_err();
            assert_eq!(error.stable_code(), "HALO-E0230", "{error}");
            let fabric = |error| if let Error::Fabric(error) = error { Some(error) } else { None };
            match fabric(error) {
                Some(FabricError::Undelivered { peers, .. }) => assert!(peers.starts_with("1 ("), "{peers}"),
                other => panic!("{other:?}"),
            }
            closed.wait();
        });
        let reads_nothing = connect(1, &rendezvous, Duration::from_secs(5));
        closed.wait();
        drop(reads_nothing);
    });
}
