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

    /// An E810 of 100 Gb/s behind four lanes of PCIe, over RDMA: docs/scaling.md says where the figures are from.
    pub const E810: Self = Self::of(5.23, 50.6, 0.6);
    /// 25 Gb/s Ethernet, over RDMA; assumed.
    pub const ETHERNET_25: Self = Self::of(6.0, 23.0, 0.6);
    /// USB4 between two hosts, over TCP; assumed.
    pub const USB4: Self = Self::of(68.0, 18.0, 5.0);

    /// Of a latency in microseconds, a bandwidth in gigabits per second, and what a message costs the processor.
    const fn of(latency: f64, bandwidth: f64, post: f64) -> Self {
        Self { latency, per_byte: 8e-3 / bandwidth, post, per_byte_reduced: Self::PER_BYTE_REDUCED }
    }
}

/// The bytes from which on two-shot is faster than one-shot, to a hundredth, for three ranks and more. Every rank computes
/// the same from the same numbers.
pub(super) fn two_shot_from(ranks: usize, costs: Costs) -> usize {
    let takes = |algorithm, bytes: f64| {
        let (slot_bytes, slots) = (halo_fabric::DEFAULT_SLOT_BYTES, halo_fabric::DEFAULT_SLOTS);
        Exercise { algorithm, ranks, bytes: bytes as usize, slot_bytes, slots, widening: 1 }.takes(costs)
    };
    let mut bytes = 256.0;
    // With three ranks and more two-shot moves fewer bytes, so there is such a size.
    while takes(Algorithm::TwoShot, bytes) >= takes(Algorithm::OneShot, bytes) {
        bytes *= 1.01;
    }
    bytes as usize
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
                // Of several chunks the first results are on their way before the last inputs have come.
                let waits = if share > self.slot_bytes as f64 { 1.0 } else { 2.0 };
                waits * latency + 2.0 * all_sent(share) + waits * (work * (n - 1.0) * slot(share))
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
        let group = (self.slots / 2).max(1) * chunk;
        let (n, widening) = (self.ranks as f64, self.widening as f64);
        let largest = share.min(chunk) as f64;
        let of_group = |bytes: usize| {
            let (messages, bytes) = (bytes.div_ceil(chunk).max(1) as f64, bytes as f64);
            let step = |wide: f64| {
                let busy = (wire * wide * bytes).max(post * messages + work * wide * bytes);
                busy.max(latency + (wire + work) * wide * largest)
            };
            // One input and all results go as they are, what is between them is wide.
            n * step(1.0) + (n - 2.0) * step(widening)
        };
        let (groups, rest) = (share / group, share % group);
        groups as f64 * of_group(group) + if rest > 0 || groups == 0 { of_group(rest) } else { 0.0 }
    }
}
