//! Rounds on this machine: in each, every peer runs once, and another one begins.

use crate::driver;
use crate::error::Error;
use crate::floor;
use crate::line::Work;
use crate::peers::{Peer, Place, local, processes};
use crate::results::Results;

/// Sizes of the plot; those of the targets are among them.
pub const SIZES: &[usize] =
    &[8, 64, 512, 2 << 10, 8 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20];

/// Runs every peer of a place once per round, except those in `without`; `told` hears what runs.
///
/// # Errors
/// A peer that cannot run.
pub fn run(
    place: Place,
    rounds: usize,
    sizes: &[usize],
    without: &[Peer],
    results: &mut Results,
    mut told: impl FnMut(usize, Peer),
) -> Result<(), Error> {
    let peers: Vec<Peer> = local(place).iter().copied().filter(|peer| !without.contains(peer)).collect();
    let work: Vec<Work> = sizes.iter().copied().map(Work::new).collect();
    for round in 0..rounds {
        // Whoever comes first finds the machine as the round before left it; that falls to each in turn.
        for turn in 0..peers.len() {
            let peer = peers[(round + turn) % peers.len()];
            told(round, peer);
            let lines = if peer == Peer::Floor {
                floor::measure(place, &work)?
            } else {
                driver::run(peer.name(), place.name(), &processes(peer, place)?, &work)?
            };
            results.add(place, peer, round, lines);
        }
    }
    Ok(())
}
