//! One message of the fabric, as a collective sends it: payload and flag written by one rank and noticed by the other, then
//! back. What a layer above the fabric costs is its time less this.

use std::time::{Duration, Instant};

use clap::Parser;
use halo_benches::line::{Line, Work, pin};
use halo_fabric::{Config, Fabric, FabricError, Mesh, Tag};

/// One of two ranks; rank 0 prints a line for each size, with halves of the round trips.
#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long)]
    rank: usize,
    /// Where rank 0 listens.
    #[arg(long, value_name = "HOST:PORT")]
    rendezvous: String,
    #[arg(value_name = "BYTES:ITERATIONS")]
    work: Vec<Work>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { rank, rendezvous, work } = Arguments::parse();
    pin(rank);
    let config = Config { rendezvous, ..Config::from_env(rank, 2)? };
    let mut mesh = Mesh::connect(&config)?;
    for work in work {
        let halves = ping_pong(&mut mesh, work)?;
        if rank == 0 {
            println!("@ fabric_write {}", serde_json::to_string(&Line::of(work.bytes, "none", &halves))?);
        }
    }
    mesh.close(config.timeout, &config.interrupt)?;
    Ok(())
}

fn ping_pong(mesh: &mut Mesh, work: Work) -> Result<Vec<Duration>, FabricError> {
    let payload = vec![1; work.bytes];
    let mut halves = Vec::with_capacity(work.iterations);
    for turn in 0..work.warmup() + work.iterations {
        let start = Instant::now();
        if mesh.rank() == 0 {
            send(mesh, &payload)?;
            receive(mesh)?;
        } else {
            receive(mesh)?;
            send(mesh, &payload)?;
        }
        if turn >= work.warmup() {
            halves.push(start.elapsed() / 2);
        }
    }
    Ok(halves)
}

fn send(mesh: &mut Mesh, payload: &[u8]) -> Result<(), FabricError> {
    let peer = 1 - mesh.rank();
    while !mesh.can_send(peer) {
        mesh.progress()?;
    }
    mesh.send(peer, Tag::default(), payload)
}

fn receive(mesh: &mut Mesh) -> Result<(), FabricError> {
    let peer = 1 - mesh.rank();
    while mesh.head(peer)?.is_none() {
        mesh.progress()?;
    }
    mesh.release(peer)
}
