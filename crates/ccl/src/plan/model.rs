//! How long an all-reduce takes on a network that is known by four figures. `docs/scaling.md` explains the formulas and
//! holds what they say of networks that are not here; `bench-peers --fit` finds the figures of those that are.

use super::Algorithm;

/// What things take, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// From the post of a message to its first byte at the receiver.
    pub latency: f64,
    /// A byte on the port of a rank, which sends one message at a time.
    pub per_byte: f64,
    /// The processor's part in one message.
    pub post: f64,
    /// The processor's part in one byte that has arrived.
    pub per_byte_reduced: f64,
}

impl Costs {
    /// Reducing 12 GB/s, as it was measured with AVX-512.
    pub const PER_BYTE_REDUCED: f64 = 83e-6;
}

/// One all-reduce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exercise {
    /// How it is done.
    pub algorithm: Algorithm,
    /// Number of ranks.
    pub ranks: usize,
    /// Bytes of the buffer.
    pub bytes: usize,
    /// Bytes of a slot, and slots between two ranks.
    pub slot_bytes: usize,
    /// As above.
    pub slots: usize,
    /// Bytes that a sum which is rounded once takes between two ranks for each byte of it: 2 for 16-bit floats.
    pub widening: usize,
}

impl Exercise {
    /// Microseconds, by formula: messages one after the other through one port, and reduction of what arrived, all of it
    /// where it fits a slot, the last slot's worth where it is cut in chunks.
    pub fn takes(&self, costs: Costs) -> f64 {
        let (n, b) = (self.ranks as f64, self.bytes as f64);
        let Costs { latency, per_byte: wire, post, per_byte_reduced: work } = costs;
        let slot = |bytes: f64| bytes.min(self.slot_bytes as f64);
        // The processor posts while the port sends: whichever takes longer.
        let all_sent = |bytes: f64| (wire * (n - 1.0) * bytes).max(post * (n - 2.0) + wire * bytes);
        match self.algorithm {
            Algorithm::OneShot => {
                let busiest = all_sent(b).max(work * (n - 1.0) * (b - slot(b)));
                latency + busiest + work * (n - 1.0) * slot(b)
            }
            Algorithm::TwoShot => {
                let share = b / n;
                2.0 * (latency + all_sent(share) + work * (n - 1.0) * slot(share))
            }
            Algorithm::Doubling => {
                let steps = n.log2().ceil();
                steps * latency + wire * (n - 1.0) * b + work * (n - 1.0) * b
            }
            Algorithm::Ring => self.ring(costs),
        }
    }

    /// In every step of a ring each rank sends a group of chunks: it waits for the first of them to arrive, or its port or
    /// its processor is busy with all of them.
    fn ring(&self, Costs { latency, per_byte: wire, post, per_byte_reduced: work }: Costs) -> f64 {
        let chunk = self.slot_bytes / self.widening;
        let share = self.bytes.div_ceil(self.ranks);
        let chunks = share.div_ceil(chunk).max(1);
        let group = (self.slots / 2).max(1);
        let bytes = share as f64 / chunks as f64;
        let (n, widening) = (self.ranks as f64, self.widening as f64);
        let of_group = |width: usize| {
            let step = |bytes: f64| {
                let busy = width as f64 * (wire * bytes).max(post + work * bytes);
                busy.max(latency + (wire + work) * bytes)
            };
            // One input and all results go as they are, what is between them is wide.
            n * step(bytes) + (n - 2.0) * step(widening * bytes)
        };
        let (groups, rest) = (chunks / group, chunks % group);
        groups as f64 * of_group(group) + if rest > 0 { of_group(rest) } else { 0.0 }
    }
}
