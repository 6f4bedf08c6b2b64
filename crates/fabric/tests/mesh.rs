//! Ranks as threads of one process, over the real links: meeting, messages, and every way of not meeting.

#![allow(
    clippy::needless_for_each,
    clippy::float_cmp,
    reason = "the values compared are exact, and a chain reads well"
)]

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use halo_fabric::{
    Config, Fabric, FabricError, Interrupt, Key, Mesh, Store, StoreError, Tag, Transport, TransportChoice,
};

fn free_rendezvous() -> String {
    halo_fabric::reserve_port(Ipv4Addr::LOCALHOST.into()).unwrap().to_string()
}

fn configs(world: usize, transport: TransportChoice) -> Vec<Config> {
    let rendezvous = free_rendezvous();
    let configure = |rank| Config {
        rendezvous: rendezvous.clone(),
        transport,
        timeout: Duration::from_secs(20),
        slot_bytes: 4096,
        slots: 4,
        ..Config::new(rank, world)
    };
    (0..world).map(configure).collect()
}

/// Runs every configuration as a rank of its own and returns what each got.
fn run<T: Send>(configs: &[Config], work: impl Fn(Mesh) -> T + Sync) -> Vec<Result<T, FabricError>> {
    std::thread::scope(|scope| {
        let ranks =
            configs.iter().map(|config| scope.spawn(|| Mesh::connect(config).map(&work))).collect::<Vec<_>>();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn wait<T>(mesh: &mut Mesh, mut done: impl FnMut(&mut Mesh) -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        mesh.progress().unwrap();
        if let Some(value) = done(mesh) {
            return value;
        }
        assert!(Instant::now() < deadline, "nothing came");
        std::thread::yield_now();
    }
}

/// Everybody sends `count` messages to everybody, as fast as room allows, and checks what comes.
fn storm(mut mesh: Mesh, count: u64) -> Mesh {
    let (rank, world) = (mesh.rank(), mesh.world());
    let content = |from: usize, to: usize, index: u64| {
        let length = (index as usize * 977 + from * 13 + to) % 4097;
        (0..length).map(|at| (at + from * 7 + to * 3 + index as usize) as u8).collect::<Vec<_>>()
    };
    let mut sent = vec![0; world];
    let mut received = vec![0; world];
    let peers = (0..world).filter(|peer| *peer != rank).collect::<Vec<_>>();
    wait(&mut mesh, |mesh| {
        for &peer in &peers {
            while sent[peer] < count && mesh.can_send(peer) {
                let tag = Tag { operation: sent[peer], size: 7 };
                mesh.send(peer, tag, &content(rank, peer, sent[peer])).unwrap();
                sent[peer] += 1;
            }
            while let Some(message) = mesh.head(peer).unwrap() {
                assert_eq!(message.tag, Tag { operation: received[peer], size: 7 });
                assert_eq!(message.payload, content(peer, rank, received[peer]));
                mesh.release(peer).unwrap();
                received[peer] += 1;
            }
        }
        peers.iter().all(|&peer| sent[peer] == count && received[peer] == count).then_some(())
    });
    mesh
}

#[test]
fn what_was_read_from_its_socket_before_the_sleep_ends_it_at_once() {
    let long = Duration::from_secs(60);
    let slept = run(&configs(2, TransportChoice::Tcp), |mut mesh| {
        let peer = 1 - mesh.rank();
        mesh.send(peer, Tag::default(), b"no socket tells of it twice").unwrap();
        wait(&mut mesh, |mesh| mesh.head(peer).unwrap().is_some().then_some(()));
        let start = Instant::now();
        mesh.sleep(&[peer], long);
        let slept = start.elapsed();
        mesh.release(peer).unwrap();
        (mesh, slept)
    });
    for rank in slept {
        let (_mesh, slept) = rank.unwrap();
        assert!(slept < long, "{slept:?}");
    }
}

#[test]
fn parts_that_come_by_further_sockets_wake_a_sleeper() {
    let mut configs = configs(2, TransportChoice::Tcp);
    for config in &mut configs {
        (config.tcp_sockets, config.slot_bytes) = (3, 128 * 1024);
    }
    let long = Duration::from_secs(60);
    let results = run(&configs, |mut mesh| {
        let start = Instant::now();
        for number in 0..40u8 {
            if mesh.rank() == 0 {
                let payload = vec![number; 128 * 1024 - usize::from(number)];
                wait(&mut mesh, |mesh| mesh.can_send(1).then_some(()));
                mesh.send(1, Tag::default(), &payload).unwrap();
                continue;
            }
            mesh.progress().unwrap();
            while mesh.head(0).unwrap().is_none() {
                mesh.sleep(&[0], long);
                mesh.progress().unwrap();
            }
            let payload = mesh.head(0).unwrap().unwrap().payload;
            assert_eq!(payload.len(), 128 * 1024 - usize::from(number));
            assert!(payload.iter().all(|byte| *byte == number));
            mesh.release(0).unwrap();
        }
        mesh.close(long, &Interrupt::default()).unwrap();
        start.elapsed()
    });
    for took in results {
        assert!(took.unwrap() < long, "nobody slept through an arrival");
    }
}

#[test]
fn messages_between_all_pairs_arrive_in_order_over_shm_and_tcp() {
    for (transport, expected) in [
        (TransportChoice::Shm, Transport::Shm),
        (TransportChoice::Tcp, Transport::Tcp),
        (TransportChoice::Auto, Transport::Shm),
    ] {
        for world in [2, 3, 5] {
            let results = run(&configs(world, transport), |mesh| {
                let mesh = storm(mesh, 40);
                assert_eq!(mesh.links().count(), world - 1);
                assert!(mesh.links().all(|(info, _)| info.transport == expected && !info.reason.is_empty()));
            });
            results.into_iter().for_each(|result| result.unwrap());
        }
    }
}

#[test]
fn one_way_traffic_gets_its_credit_back() {
    let results = run(&configs(2, TransportChoice::Shm), |mut mesh| {
        for index in 0..100u64 {
            if mesh.rank() == 0 {
                wait(&mut mesh, |mesh| mesh.can_send(1).then_some(()));
                mesh.send(1, Tag::default(), &index.to_le_bytes()).unwrap();
            } else {
                let value =
                    wait(&mut mesh, |mesh| mesh.head(0).unwrap().map(|message| message.payload.to_vec()));
                assert_eq!(value, index.to_le_bytes());
                mesh.release(0).unwrap();
            }
        }
    });
    results.into_iter().for_each(|result| result.unwrap());
}

#[test]
fn a_world_of_one_needs_nobody() {
    let mesh = Mesh::connect(&Config::new(0, 1)).unwrap();
    assert_eq!((mesh.world(), mesh.links().count()), (1, 0));
}

#[test]
fn rdma_without_a_device_is_an_error_on_all_ranks() {
    for result in run(&configs(2, TransportChoice::Rdma), |_| ()) {
        let error = result.unwrap_err();
        let named = matches!(error, FabricError::TransportUnavailable { transport: "rdma", .. })
            || matches!(&error, FabricError::StoppedByPeer { reason, .. } if reason.contains("rdma"));
        assert!(named, "{error}");
    }
}

#[test]
fn world_sizes_that_differ_are_named_on_both_sides() {
    let mut configs = configs(2, TransportChoice::Shm);
    configs[1].world = 3;
    for result in run(&configs, |_| ()) {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("world size") && error.contains('2') && error.contains('3'), "{error}");
    }
}

#[test]
fn a_rank_given_twice_stops_everybody() {
    let mut configs = configs(3, TransportChoice::Shm);
    configs[2].rank = 1;
    let results = run(&configs, |_| ());
    assert!(results.iter().any(|result| matches!(result, Err(FabricError::RankTakenTwice { rank: 1, .. }))));
    for result in results {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("given twice"), "{error}");
    }
}

#[test]
fn missing_ranks_are_all_named() {
    let mut all = configs(4, TransportChoice::Shm);
    all.truncate(2);
    all.iter_mut().for_each(|config| config.timeout = Duration::from_millis(600));
    for result in run(&all, |_| ()) {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("2, 3") || error.contains("HALO-E0206"), "{error}");
    }
}

#[test]
fn a_rank_with_another_key_is_refused_and_the_others_hear_of_it() {
    let mut configs = configs(2, TransportChoice::Tcp);
    configs[0].key = Some(Key::new("one"));
    configs[1].key = Some(Key::new("two"));
    configs[0].timeout = Duration::from_millis(800);
    let mut results = run(&configs, |_| ()).into_iter();
    let zero = results.next().unwrap().unwrap_err().to_string();
    assert!(zero.contains("rank(s) 1") && zero.contains("same key"), "{zero}");
    assert!(matches!(results.next().unwrap(), Err(FabricError::WrongKey { .. })));
}

#[test]
fn a_rendezvous_open_to_the_network_needs_a_key() {
    let config = Config { rendezvous: "0.0.0.0:29500".to_owned(), ..Config::new(0, 2) };
    assert!(matches!(Mesh::connect(&config), Err(FabricError::KeyNeeded { .. })));
}

#[test]
fn a_rank_that_leaves_is_named_by_who_still_waits() {
    let mut results = run(&configs(2, TransportChoice::Tcp), |mut mesh| {
        if mesh.rank() == 1 {
            return None;
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < deadline, "nothing was noticed");
            if let Err(error) = mesh.progress().and_then(|()| mesh.expect(1)) {
                return Some(error);
            }
        }
    })
    .into_iter();
    let error = results.next().unwrap().unwrap().unwrap();
    assert!(matches!(error, FabricError::PeerLeft { peer: 1, .. }), "{error}");
}

/// A store as a Python program would serve it: a dictionary that keeps the last value.
#[derive(Default)]
struct Dictionary {
    values: Mutex<HashMap<String, Vec<u8>>>,
    written: Condvar,
}

impl Store for Dictionary {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.values.lock().unwrap().insert(key.to_owned(), value.to_owned());
        self.written.notify_all();
        Ok(())
    }

    fn get(&self, key: &str, deadline: Instant) -> Result<Vec<u8>, StoreError> {
        let mut values = self.values.lock().unwrap();
        loop {
            if let Some(value) = values.get(key) {
                return Ok(value.clone());
            }
            let left = deadline.checked_duration_since(Instant::now()).ok_or(StoreError::Absent)?;
            values = self.written.wait_timeout(values, left).unwrap().0;
        }
    }
}

#[test]
fn a_store_served_by_the_caller_is_enough_to_meet() {
    let store = Arc::new(Dictionary::default());
    let configs = configs(3, TransportChoice::Tcp);
    std::thread::scope(|scope| {
        for config in &configs {
            let store = Arc::clone(&store);
            scope.spawn(move || storm(Mesh::connect_with_store(config, &*store).unwrap(), 10));
        }
    });
}
