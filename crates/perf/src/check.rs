//! Inputs that every rank can compute for every other, and the outputs that must come of them.
//!
//! Values are small whole numbers, so that a sum is exact in every type and any wrong element is a wrong element.

use half::{bf16, f16};
use halo_ccl::{DType, Kind, ReduceOp};

/// The input element of a rank at an index, in one iteration.
fn value(rank: usize, index: usize, iteration: u64) -> u8 {
    // Odd constants spread each argument over all bits; the upper ones are the best mixed.
    let sum = (index as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add((rank as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .wrapping_add(iteration.wrapping_mul(0x1656_67b1_9e37_79f9));
    (sum.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 56) as u8 % 13
}

fn put(dtype: DType, value: f32, element: &mut [u8]) {
    match dtype {
        DType::F32 => element.copy_from_slice(&value.to_le_bytes()),
        DType::F16 => element.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
        DType::BF16 => element.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
        DType::U8 => element[0] = value as u8,
    }
}

/// Fills a rank's input.
pub(crate) fn fill(dtype: DType, rank: usize, iteration: u64, input: &mut [u8]) {
    for (index, element) in input.chunks_exact_mut(dtype.size()).enumerate() {
        put(dtype, f32::from(value(rank, index, iteration)), element);
    }
}

/// What is compared: the operation and where this rank stands in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expectation {
    pub(crate) kind: Kind,
    pub(crate) dtype: DType,
    pub(crate) op: ReduceOp,
    pub(crate) rank: usize,
    pub(crate) world: usize,
    pub(crate) iteration: u64,
}

impl Expectation {
    /// Elements of `output` that are not what they must be.
    pub(crate) fn count_wrong(&self, output: &[u8]) -> u64 {
        let size = self.dtype.size();
        let elements = output.len() / size;
        let mut expected = [0; 4];
        let mut wrong = 0;
        for (index, element) in output.chunks_exact(size).enumerate() {
            put(self.dtype, self.element(index, elements), &mut expected[..size]);
            wrong += u64::from(*element != expected[..size]);
        }
        wrong
    }

    fn element(&self, index: usize, elements: usize) -> f32 {
        let of = |rank: usize, index: usize| f32::from(value(rank, index, self.iteration));
        match self.kind {
            Kind::AllReduce | Kind::Reduce => self.reduced(index),
            Kind::ReduceScatter => self.reduced(self.rank * elements + index),
            Kind::AllGather | Kind::Gather => {
                let block = elements / self.world;
                of(index / block, index % block)
            }
            Kind::Scatter => of(0, self.rank * elements + index),
            Kind::AllToAll => {
                let block = elements / self.world;
                of(index / block, self.rank * block + index % block)
            }
            // With send/recv, what comes back to rank 0 is its own, and rank 1 has it from rank 0.
            Kind::Broadcast | Kind::SendRecv | Kind::Barrier => of(0, index),
        }
    }

    fn reduced(&self, index: usize) -> f32 {
        let values = (0..self.world).map(|rank| f32::from(value(rank, index, self.iteration)));
        let reduced = match self.op {
            ReduceOp::Sum => values.reduce(|a, b| a + b),
            ReduceOp::Max => values.reduce(f32::max),
            ReduceOp::Min => values.reduce(f32::min),
        };
        reduced.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flipped_bit_is_one_wrong_element() {
        let mut buffer = vec![0; 4000];
        fill(DType::BF16, 0, 3, &mut buffer);
        let expectation = Expectation {
            kind: Kind::Broadcast,
            dtype: DType::BF16,
            op: ReduceOp::Sum,
            rank: 1,
            world: 2,
            iteration: 3,
        };
        assert_eq!(expectation.count_wrong(&buffer), 0);
        buffer[1001] ^= 1;
        assert_eq!(expectation.count_wrong(&buffer), 1);
        assert!(Expectation { iteration: 4, ..expectation }.count_wrong(&buffer) > 1000, "iterations differ");
    }
}
