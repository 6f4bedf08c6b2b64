//! Inputs that every rank can compute for every other, and the outputs that must come of them.

use std::ops::Range;

use halo_ccl::{Algorithm, DType, Kind, ReduceOp, Rounding, definition};

/// Elements that are compared at a time, so that other ranks' inputs never fill the memory.
const PIECE: usize = 16 * 1024;

/// The input element of a rank at an index, in one iteration: a small whole number.
fn value(rank: usize, index: usize, iteration: u64) -> u8 {
    // Odd constants spread each argument over all bits; the upper ones are the best mixed.
    let sum = (index as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add((rank as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .wrapping_add(iteration.wrapping_mul(0x1656_67b1_9e37_79f9));
    (sum.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 56) as u8 % 13
}

/// Fills a rank's input, or the part of it that begins with element `first`.
pub(crate) fn fill(dtype: DType, rank: usize, iteration: u64, first: usize, input: &mut [u8]) {
    for (index, element) in input.chunks_exact_mut(dtype.size()).enumerate() {
        definition::put(dtype, f32::from(value(rank, first + index, iteration)), element);
    }
}

/// What is compared: the operation and where this rank stands in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expectation {
    pub(crate) kind: Kind,
    /// How an all-reduce was done, which decides in what order its inputs were added.
    pub(crate) algorithm: Algorithm,
    pub(crate) dtype: DType,
    pub(crate) op: ReduceOp,
    pub(crate) rounding: Rounding,
    pub(crate) rank: usize,
    pub(crate) world: usize,
    pub(crate) iteration: u64,
}

impl Expectation {
    /// Elements of `output` that are not what they must be.
    pub(crate) fn count_wrong(&self, output: &[u8]) -> u64 {
        let size = self.dtype.size();
        let elements = output.len() / size;
        let mut wrong = 0;
        for first in (0..elements).step_by(PIECE) {
            let last = (first + PIECE).min(elements);
            let expected = self.elements(first..last, elements);
            let given = output[first * size..last * size].chunks_exact(size);
            wrong +=
                given.zip(expected.chunks_exact(size)).filter(|(given, expected)| given != expected).count();
        }
        wrong as u64
    }

    /// Some of the `elements` elements of this rank's output.
    fn elements(&self, range: Range<usize>, elements: usize) -> Vec<u8> {
        match self.kind {
            Kind::AllReduce => self.all_reduced(&range, elements),
            Kind::Reduce => self.reduced(range.start, range.len()),
            Kind::ReduceScatter => self.reduced(self.rank * elements + range.start, range.len()),
            Kind::AllGather | Kind::Gather => {
                let block = elements / self.world;
                range.flat_map(|index| self.input(index / block, index % block, 1)).collect()
            }
            Kind::Scatter => self.input(0, self.rank * elements + range.start, range.len()),
            Kind::AllToAll => {
                let block = elements / self.world;
                let of = |index: usize| self.input(index / block, self.rank * block + index % block, 1);
                range.flat_map(of).collect()
            }
            // With send/recv, what comes back to rank 0 is its own, and rank 1 has it from rank 0.
            Kind::Broadcast | Kind::SendRecv | Kind::Barrier => self.input(0, range.start, range.len()),
        }
    }

    fn input(&self, rank: usize, first: usize, count: usize) -> Vec<u8> {
        let mut input = vec![0; count * self.dtype.size()];
        fill(self.dtype, rank, self.iteration, first, &mut input);
        input
    }

    fn reduced(&self, first: usize, count: usize) -> Vec<u8> {
        self.reduced_from(0, first, count)
    }

    /// The reduction that begins with the input of `first_rank`.
    fn reduced_from(&self, first_rank: usize, first: usize, count: usize) -> Vec<u8> {
        let ranks = (0..self.world).map(|at| (first_rank + at) % self.world);
        let inputs = ranks.map(|rank| self.input(rank, first, count)).collect::<Vec<_>>();
        definition::reduce(self.dtype, self.op, self.rounding, &inputs)
    }

    fn all_reduced(&self, range: &Range<usize>, elements: usize) -> Vec<u8> {
        let size = self.dtype.size();
        let mut expected = Vec::with_capacity(range.len() * size);
        for (run, first_rank) in self.algorithm.first_ranks(self.world, elements * size) {
            let (start, end) = (range.start.max(run.start / size), range.end.min(run.end / size));
            if start < end {
                expected.extend(self.reduced_from(first_rank, start, end - start));
            }
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expectation(kind: Kind, dtype: DType) -> Expectation {
        let (op, rounding) = (ReduceOp::Sum, Rounding::Once);
        let algorithm = Algorithm::OneShot;
        Expectation { kind, algorithm, dtype, op, rounding, rank: 1, world: 2, iteration: 3 }
    }

    #[test]
    fn a_ring_is_compared_in_its_own_order() {
        // Of 8-bit floats that are rounded after each step, the order shows.
        let one_shot = Expectation {
            op: ReduceOp::Sum,
            rounding: Rounding::Each,
            world: 5,
            ..expectation(Kind::AllReduce, DType::F8E4M3)
        };
        let ring = Expectation { algorithm: Algorithm::Ring, ..one_shot };
        let elements = 2 * PIECE + 77;
        let (of_ring, of_one_shot) =
            (ring.elements(0..elements, elements), one_shot.elements(0..elements, elements));
        assert_eq!((of_ring.len(), of_one_shot.len()), (elements, elements));
        assert_eq!((ring.count_wrong(&of_ring), one_shot.count_wrong(&of_one_shot)), (0, 0));
        assert!(ring.count_wrong(&of_one_shot) > 0);
    }

    #[test]
    fn one_flipped_bit_is_one_wrong_element() {
        let mut buffer = vec![0; 4 * PIECE + 10];
        fill(DType::BF16, 0, 3, 0, &mut buffer);
        let expectation = expectation(Kind::Broadcast, DType::BF16);
        assert_eq!(expectation.count_wrong(&buffer), 0);
        buffer[1001] ^= 1;
        assert_eq!(expectation.count_wrong(&buffer), 1);
        *buffer.last_mut().unwrap() ^= 1;
        assert_eq!(expectation.count_wrong(&buffer), 2);
        assert!(Expectation { iteration: 4, ..expectation }.count_wrong(&buffer) > 1000, "iterations differ");
    }

    #[test]
    fn every_type_has_inputs_that_tell_ranks_apart() {
        for dtype in DType::ALL {
            let expectation = expectation(Kind::AllGather, dtype);
            let (mine, theirs) = (expectation.input(0, 0, 100), expectation.input(1, 0, 100));
            assert_ne!(mine, theirs, "{dtype}");
            assert_eq!(expectation.count_wrong(&[mine, theirs].concat()), 0, "{dtype}");
        }
    }
}
