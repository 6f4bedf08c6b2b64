//! What any all-reduce of two ranks must do: both send to each other at once and take in what has come; then, with no
//! collective around it, add the two. A one-way floor has neither: over loopback and over an emulated network both
//! processors have both directions to serve.

mod by;
mod notices;
mod partner;
mod rdma;
mod tcp;
#[cfg(test)]
mod trial;
mod uring;
mod zerocopy;

use std::time::Instant;

use halo_ccl::{Arithmetic, DType, ReduceOp, Rounding, Source, reduce};

pub use by::By;
pub use partner::Partner;
pub use rdma::Verbs;
pub use tcp::Socket;
pub(crate) use tcp::moved;
pub use uring::Uring;
pub use zerocopy::Zerocopy;

use crate::line::{Line, Work};
use crate::peers::Peer;

/// What it comes to; the program that runs it ends with the error.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// What both ranks do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Exchange {
    /// The payload and nothing else.
    Exchange,
    /// The payload, and the addition.
    ExchangeSum,
    /// The payload with what says that it is there, and the addition.
    ExchangeFlagSum,
}

impl Exchange {
    /// As whom it is measured.
    pub fn peer(self) -> Peer {
        match self {
            Self::Exchange => Peer::Exchange,
            Self::ExchangeSum => Peer::ExchangeSum,
            Self::ExchangeFlagSum => Peer::ExchangeFlagSum,
        }
    }

    fn dtype(self) -> &'static str {
        if self == Self::Exchange { "none" } else { "bf16" }
    }
}

/// A rank's end of the way between the two.
pub trait Pair {
    /// Sends `bytes` bytes, with a flag of their own if `flagged`, and returns when the other's are here.
    ///
    /// # Errors
    /// The system refused, or the other rank is gone.
    fn exchange(&mut self, bytes: usize, flagged: bool) -> Outcome;

    /// This rank's bytes and the other's, of the last exchange.
    fn inputs(&self, bytes: usize) -> (&[u8], &[u8]);

    /// Of the sends without a copy that the kernel has spoken of since this was last asked, the share that it copied.
    fn copied(&mut self) -> Option<f64> {
        None
    }
}

/// What only plain calls are measured with is refused by the others.
fn only_payloads(flagged: bool) -> Outcome {
    if flagged { Err("a header is sent by plain calls only".into()) } else { Ok(()) }
}

/// Measures one exchange; both ranks return the same times, by the slower one's of each operation.
///
/// # Errors
/// As [`Pair::exchange`].
pub fn measure(pair: &mut impl Pair, partner: &mut Partner, work: Work, exchange: Exchange) -> Outcome<Line> {
    let arithmetic = Arithmetic { dtype: DType::BF16, op: ReduceOp::Sum, rounding: Rounding::Once };
    let mut output = vec![0; work.bytes];
    let mut samples = Vec::with_capacity(work.iterations);
    partner.meet()?;
    for turn in 0..work.warmup() + work.iterations {
        let start = Instant::now();
        pair.exchange(work.bytes, exchange == Exchange::ExchangeFlagSum)?;
        if exchange != Exchange::Exchange {
            let (own, theirs) = pair.inputs(work.bytes);
            reduce(arithmetic, &[Source::Bytes(own), Source::Bytes(theirs)], &mut output);
        }
        if turn >= work.warmup() {
            samples.push(start.elapsed());
        }
    }
    let line = Line::of(work.bytes, exchange.dtype(), &partner.slowest(&samples)?);
    Ok(Line { copied: pair.copied(), ..line })
}
