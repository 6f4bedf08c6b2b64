//! For tests: both ranks exchange payloads whose every byte tells its rank and its place.

use super::{Exchange, Outcome, Pair, Partner, measure};
use crate::line::Work;
use crate::peers::free_port;

const SIZES: [usize; 5] = [1, 4096, 70_001, 3_000_000, 8];

/// Writes a rank's payload.
pub(super) fn write(payload: &mut [u8], rank: usize) {
    for (place, own) in payload.iter_mut().enumerate() {
        *own = byte(rank, place);
    }
}

fn byte(rank: usize, place: usize) -> u8 {
    (place % 127) as u8 | (rank << 7) as u8
}

/// Runs both ranks; `own` writes a rank's payload wherever it is sent from.
pub(super) fn exchange<P: Pair>(connect: fn(&mut Partner, usize) -> Outcome<P>, own: fn(&mut P, usize)) {
    let rendezvous = format!("127.0.0.1:{}", free_port().unwrap());
    let run = |rank: usize| {
        let mut partner = Partner::connect(rank, &rendezvous).unwrap();
        let mut pair = connect(&mut partner, 3_000_000).unwrap();
        own(&mut pair, rank);
        SIZES.map(|bytes| {
            let work = Work { bytes, iterations: 5 };
            let line = measure(&mut pair, &mut partner, work, Exchange::Exchange).unwrap();
            let holds = |held: &[u8], rank| {
                held.len() == bytes && held.iter().enumerate().all(|(place, held)| *held == byte(rank, place))
            };
            let (own, theirs) = pair.inputs(bytes);
            assert!(holds(own, rank) && holds(theirs, 1 - rank), "rank {rank}, {bytes} bytes");
            assert!(pair.exchange(bytes, true).is_err(), "a header is not sent");
            (line.bytes, line.p10_us, line.p50_us)
        })
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        (run(0), other.join().unwrap())
    });
    assert_eq!(first, second);
    assert!(first.iter().all(|(_, p10_us, _)| *p10_us > 0.0), "{first:?}");
}
