//! The floor: one payload written to another processor's side and noticed there, with no collective around it. It is
//! what `ib_write_lat` is for RDMA: half of a ping-pong.

mod shm;
mod stream;
mod tcp;

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::line::{Line, Work, pin};
use crate::peers::Place;

/// One side of a ping-pong.
pub(crate) trait Side: Send {
    /// Writes the payload so that the other side can notice it.
    fn write(&mut self) -> std::io::Result<()>;
    /// Waits until the other side's next payload is there.
    fn wait(&mut self) -> std::io::Result<()>;
}

/// Measures every size over shared memory or TCP on loopback, between two threads tied to processors of their own.
///
/// # Errors
/// The system refused memory, a socket or a thread.
pub fn measure(place: Place, work: &[Work]) -> Result<Vec<Line>, Error> {
    work.iter()
        .map(|work| {
            let samples = match place {
                Place::Tcp => ping_pong(*work, tcp::sides(work.bytes)),
                _ => ping_pong(*work, Ok(shm::sides(work.bytes))),
            };
            Ok(Line::of(work.bytes, "none", &samples.map_err(Error::system("the floor's ping-pong"))?))
        })
        .collect()
}

/// The average time of a message in a one-way stream over TCP on loopback, with `buffers` buffers in turn on both sides.
///
/// # Errors
/// As [`measure`].
pub fn stream(bytes: usize, count: usize, buffers: usize) -> Result<Line, Error> {
    let took = stream::stream(bytes, count, buffers).map_err(Error::system("the floor's stream"))?;
    Ok(Line::of(bytes, "none", &[took / count as u32]))
}

/// Half the time of each round trip.
fn ping_pong<S: Side>(work: Work, sides: std::io::Result<[S; 2]>) -> std::io::Result<Vec<Duration>> {
    let [mut ping, mut pong] = sides?;
    let rounds = work.warmup() + work.iterations;
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || {
            pin(1);
            (0..rounds).try_for_each(|_| pong.wait().and_then(|()| pong.write()))
        });
        let measured = scope.spawn(move || {
            pin(0);
            let mut samples = Vec::with_capacity(rounds);
            for _ in 0..rounds {
                let start = Instant::now();
                ping.write()?;
                ping.wait()?;
                samples.push(start.elapsed() / 2);
            }
            Ok(samples.split_off(work.warmup()))
        });
        let samples = measured.join().expect("the measuring thread does not panic");
        echo.join().expect("the echoing thread does not panic")?;
        samples
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_floors_measure_every_size() {
        for place in [Place::Shm, Place::Tcp] {
            let work = [8, 100_000].map(|bytes| Work { bytes, iterations: 5 });
            let lines = measure(place, &work).unwrap();
            assert_eq!(lines.iter().map(|line| line.bytes).collect::<Vec<_>>(), [8, 100_000]);
            assert!(lines.iter().all(|line| line.p10_us > 0.0 && line.p10_us <= line.p50_us), "{lines:?}");
        }
    }

    #[test]
    fn a_stream_moves_messages_that_are_no_whole_number_of_pieces() {
        let line = stream(300_000, 5, 2).unwrap();
        assert!(line.bytes == 300_000 && line.p50_us > 0.0, "{line:?}");
    }
}
