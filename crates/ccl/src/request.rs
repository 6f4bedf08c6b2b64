//! What can be asked of a communicator: one value per operation, with the buffers it works on.

use crate::dtype::DType;
use crate::reduce_op::ReduceOp;

/// Where the input of an operation lies.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// In the output buffer, in the place where an output of all ranks' blocks has this rank's own.
    InPlace,
    /// In a buffer of its own.
    From(&'a [u8]),
}

impl<'a, Bytes: AsRef<[u8]> + ?Sized> From<&'a Bytes> for Input<'a> {
    fn from(bytes: &'a Bytes) -> Self {
        Self::From(bytes.as_ref())
    }
}

impl<'a> Input<'a> {
    /// The bytes, unless they lie in the output.
    pub(crate) fn separate(self) -> Option<&'a [u8]> {
        match self {
            Self::InPlace => None,
            Self::From(bytes) => Some(bytes),
        }
    }
}

/// One operation of this rank. Every rank asks for the same one, with the same sizes. A block is what one rank
/// contributes or receives; buffers of all ranks' blocks hold them in rank order.
#[derive(Debug)]
pub enum Request<'a> {
    /// Every rank's `output` becomes the reduction of all inputs.
    AllReduce {
        /// As long as `output`.
        input: Input<'a>,
        /// The result.
        output: &'a mut [u8],
        /// What the bytes are.
        dtype: DType,
        /// How elements are combined.
        op: ReduceOp,
    },
    /// The root's `output` becomes the reduction of all inputs.
    Reduce {
        /// In place only on the root.
        input: Input<'a>,
        /// The result; `None` on every other rank.
        output: Option<&'a mut [u8]>,
        /// What the bytes are.
        dtype: DType,
        /// How elements are combined.
        op: ReduceOp,
        /// Who gets the result.
        root: usize,
    },
    /// Every rank's `output` becomes all inputs.
    AllGather {
        /// One block.
        input: Input<'a>,
        /// `world` blocks.
        output: &'a mut [u8],
        /// What the bytes are.
        dtype: DType,
    },
    /// `output` becomes this rank's block of the reduction of all inputs.
    ReduceScatter {
        /// `world` blocks.
        input: Input<'a>,
        /// One block; `world` blocks in place, of which this rank's own becomes the result.
        output: &'a mut [u8],
        /// What the bytes are.
        dtype: DType,
        /// How elements are combined.
        op: ReduceOp,
    },
    /// Every rank's `buffer` becomes the root's.
    Broadcast {
        /// The same length everywhere.
        buffer: &'a mut [u8],
        /// What the bytes are.
        dtype: DType,
        /// Whose.
        root: usize,
    },
    /// The root's `output` becomes all inputs.
    Gather {
        /// One block; in place only on the root.
        input: Input<'a>,
        /// `world` blocks; `None` on every other rank.
        output: Option<&'a mut [u8]>,
        /// What the bytes are.
        dtype: DType,
        /// Who gets them.
        root: usize,
    },
    /// `output` becomes this rank's block of the root's input.
    Scatter {
        /// `world` blocks; `None` on every other rank.
        input: Option<&'a [u8]>,
        /// One block.
        output: &'a mut [u8],
        /// What the bytes are.
        dtype: DType,
        /// Whose.
        root: usize,
    },
    /// Block i of `output` becomes rank i's block for this rank.
    AllToAll {
        /// `world` blocks, one for each rank.
        input: &'a [u8],
        /// `world` blocks, one from each rank.
        output: &'a mut [u8],
        /// What the bytes are.
        dtype: DType,
    },
    /// Sends to one rank, which receives as many bytes.
    Send {
        /// What is sent.
        data: &'a [u8],
        /// What the bytes are.
        dtype: DType,
        /// To whom.
        to: usize,
    },
    /// Receives what one rank sends.
    Recv {
        /// Where it goes.
        data: &'a mut [u8],
        /// What the bytes are.
        dtype: DType,
        /// From whom.
        from: usize,
    },
    /// Done when every rank has asked for it.
    Barrier,
}
