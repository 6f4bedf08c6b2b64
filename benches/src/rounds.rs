//! Rounds on this machine: in each, every peer runs once, and another one begins.

use crate::driver;
use crate::error::Error;
use crate::floor;
use crate::line::Work;
use crate::peers::{Peer, Place, local, processes};
use crate::results::{Absent, Results};

/// Sizes of the plot; those of the targets are among them.
pub const SIZES: &[usize] =
    &[8, 64, 512, 2 << 10, 8 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20];

/// Runs every peer of a place once per round, except those in `without`; `told` hears what runs.
///
/// # Errors
/// A peer that cannot run, except for calls that this system refuses.
pub fn run(
    place: Place,
    rounds: usize,
    sizes: &[usize],
    without: &[Peer],
    results: &mut Results,
    mut told: impl FnMut(usize, Peer),
) -> Result<(), Error> {
    let mut peers: Vec<Peer> = local(place).iter().copied().filter(|peer| !without.contains(peer)).collect();
    // Without plain calls there is nothing to compare others with; those that the system refuses are told of, not tried.
    let plain = peers.contains(&Peer::Exchange);
    peers.retain(|peer| match peer.other_calls() {
        Some(by) if plain => {
            let refused = by.refused();
            let allowed = refused.is_none();
            results.absent.extend(refused.map(|reason| Absent { place, peer: *peer, reason }));
            allowed
        }
        Some(_) => false,
        None => true,
    });
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
