//! One message of the fabric: sent, noticed and released on the other side, half of a ping-pong.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use halo_benches::line::pin;
use halo_fabric::{Config, Fabric, FabricError, Mesh, Tag, TransportChoice};

fn meshes(transport: TransportChoice) -> [Config; 2] {
    let rendezvous = halo_fabric::reserve_port(Ipv4Addr::LOCALHOST.into()).unwrap().to_string();
    [0, 1].map(|rank| Config { rendezvous: rendezvous.clone(), transport, ..Config::new(rank, 2) })
}

fn send(mesh: &mut Mesh, peer: usize, payload: &[u8]) -> Result<(), FabricError> {
    while !mesh.can_send(peer) {
        mesh.progress()?;
    }
    mesh.send(peer, Tag::default(), payload)
}

/// Takes the next message; false when `stop` is raised first.
fn receive(mesh: &mut Mesh, peer: usize, stop: &AtomicBool) -> Result<bool, FabricError> {
    while mesh.head(peer)?.is_none() {
        mesh.progress()?;
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
    }
    mesh.release(peer)?;
    Ok(true)
}

fn one(criterion: &mut Criterion, transport: TransportChoice, bytes: usize) {
    let [ours, theirs] = meshes(transport);
    let (stop, payload) = (AtomicBool::new(false), vec![1; bytes]);
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| {
            pin(1);
            let mut mesh = Mesh::connect(&theirs).unwrap();
            while receive(&mut mesh, 0, &stop).unwrap() {
                send(&mut mesh, 0, &payload).unwrap();
            }
        });
        pin(0);
        let mut mesh = Mesh::connect(&ours).unwrap();
        let mut group = criterion.benchmark_group(format!("post over {transport}"));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{bytes} B")), |bencher| {
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                for _ in 0..iterations {
                    send(&mut mesh, 1, &payload).unwrap();
                    assert!(
                        receive(&mut mesh, 1, &AtomicBool::new(false)).unwrap(),
                        "nobody stops this side"
                    );
                }
                start.elapsed() / 2
            });
        });
        group.finish();
        stop.store(true, Ordering::Relaxed);
        echo.join().unwrap();
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for transport in [TransportChoice::Shm, TransportChoice::Tcp] {
        for bytes in [8, 8 << 10, 64 << 10] {
            one(&mut criterion, transport, bytes);
        }
    }
    criterion.final_summary();
}
