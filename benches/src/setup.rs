//! How long a communicator takes to be ready, and what it keeps in memory.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::driver;
use crate::error::Error;
use crate::peers;
use crate::results::median;

/// What 16 ranks on one machine are given.
pub const TARGET: Duration = Duration::from_secs(2);

/// A world that was set up several times.
#[derive(Debug, Clone, Serialize)]
pub struct Setup {
    /// Ranks, one process each.
    pub ranks: usize,
    /// Median seconds from the first process's start to the last one's end: connect, and close at once.
    pub seconds: f64,
    /// The arena of one rank by its peers.
    pub bytes_per_peer: usize,
}

/// Sets up `ranks` processes over shm, `rounds` times.
///
/// # Errors
/// A rank that failed.
pub fn measure(ranks: usize, rounds: usize) -> Result<Setup, Error> {
    let mut seconds = Vec::new();
    let mut arena_bytes = 0;
    for _ in 0..rounds {
        let processes = peers::halo("shm", ranks)?;
        let start = Instant::now();
        let printed = driver::collect("halo", "shm", &processes, &[])?;
        seconds.push(start.elapsed().as_secs_f64());
        let told = printed.lines().find_map(|line| serde_json::from_str::<Told>(line).ok());
        arena_bytes = told.map_or(arena_bytes, |told| told.arena_bytes);
    }
    let seconds = median(seconds.into_iter()).unwrap_or(0.0);
    Ok(Setup { ranks, seconds, bytes_per_peer: arena_bytes / (ranks - 1).max(1) })
}

#[derive(serde::Deserialize)]
struct Told {
    arena_bytes: usize,
}
