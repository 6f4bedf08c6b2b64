//! What an operation is, as it travels in every message's tag, so that two ranks in different operations notice.

use std::fmt;

use halo_fabric::Tag;

use crate::dtype::DType;
use crate::reduce_op::ReduceOp;

/// The kinds of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Every rank gets the reduction of all inputs.
    AllReduce = 1,
    /// Every rank gets all inputs, in rank order.
    AllGather = 2,
    /// Rank i gets block i of the reduction of all inputs.
    ReduceScatter = 3,
    /// Every rank gets the root's buffer.
    Broadcast = 4,
    /// The root gets all inputs, in rank order.
    Gather = 5,
    /// One rank to another.
    SendRecv = 6,
    /// Nobody leaves before everybody came.
    Barrier = 7,
    /// The root gets the reduction of all inputs.
    Reduce = 8,
    /// Rank i gets block i of the root's input.
    Scatter = 9,
    /// Rank i gets block i of every input.
    AllToAll = 10,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::AllReduce,
        Self::AllGather,
        Self::ReduceScatter,
        Self::Broadcast,
        Self::Gather,
        Self::SendRecv,
        Self::Barrier,
        Self::Reduce,
        Self::Scatter,
        Self::AllToAll,
    ];

    /// The name of the operation.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllReduce => "all_reduce",
            Self::AllGather => "all_gather",
            Self::ReduceScatter => "reduce_scatter",
            Self::Broadcast => "broadcast",
            Self::Gather => "gather",
            Self::SendRecv => "send/recv",
            Self::Barrier => "barrier",
            Self::Reduce => "reduce",
            Self::Scatter => "scatter",
            Self::AllToAll => "all_to_all",
        }
    }
}

/// Everything two ranks must agree on before they exchange a byte of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) dtype: DType,
    /// The reduction, where there is one.
    pub(crate) op: Option<ReduceOp>,
    /// The root, where there is one.
    pub(crate) root: Option<usize>,
    /// Which collective of this communicator it is; 0 for send/recv, which not all ranks take part in.
    pub(crate) epoch: u32,
    /// Bytes of one rank's block: what one rank contributes.
    pub(crate) bytes: usize,
    /// A digest of the sizes that a group has put together; 0 for an operation of its own.
    pub(crate) members: u16,
}

const NO_ROOT: u64 = 0xfff;
/// No buffer is longer: addresses of processes have 47 bits, with five levels of pages 56, and machines less memory.
const SIZE_BITS: u32 = 48;

/// What stands for the sizes of a group's operations and their order. One alone is as good as an operation of its own.
pub(crate) fn digest(sizes: impl ExactSizeIterator<Item = usize>) -> u16 {
    if sizes.len() < 2 {
        return 0;
    }
    // FNV-1a: <https://www.rfc-editor.org/rfc/rfc9923>.
    let hash = sizes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, size| (hash ^ size as u64).wrapping_mul(0x0100_0000_01b3));
    ((hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48) as u16).max(1)
}

impl Operation {
    /// kind 4 bits, dtype 8, reduction 8, root 12, epoch 32; and the bytes 48, members 16.
    pub(crate) fn tag(&self) -> Tag {
        let root = self.root.map_or(NO_ROOT, |root| root as u64);
        let op = self.op.map_or(0, |op| op as u64);
        let operation =
            u64::from(self.epoch) << 32 | root << 20 | op << 12 | (self.dtype as u64) << 4 | self.kind as u64;
        Tag { operation, size: u64::from(self.members) << SIZE_BITS | self.bytes as u64 }
    }

    /// The operation behind a peer's tag, if it is one.
    pub(crate) fn from_tag(tag: Tag) -> Option<Self> {
        let field = |shift: u32, bits: u32| tag.operation >> shift & ((1 << bits) - 1);
        let op = match field(12, 8) as u8 {
            0 => None,
            value => Some(ReduceOp::from_wire(value)?),
        };
        Some(Self {
            kind: Kind::ALL.into_iter().find(|kind| *kind as u64 == field(0, 4))?,
            dtype: DType::from_wire(field(4, 8) as u8)?,
            op,
            root: Some(field(20, 12)).filter(|root| *root != NO_ROOT).map(|root| root as usize),
            epoch: (tag.operation >> 32) as u32,
            bytes: (tag.size & ((1 << SIZE_BITS) - 1)) as usize,
            members: (tag.size >> SIZE_BITS) as u16,
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind.name())?;
        if self.kind != Kind::Barrier {
            write!(f, " of {} x {}", self.bytes / self.dtype.size(), self.dtype)?;
        }
        if let Some(op) = self.op {
            write!(f, " {op}")?;
        }
        if let Some(root) = self.root {
            write!(f, " root {root}")?;
        }
        if self.members > 0 {
            write!(f, ", group #{:04x}", self.members)?;
        }
        if self.epoch > 0 {
            write!(f, " (operation {})", self.epoch)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tag_says_exactly_its_operation(
            kind in proptest::sample::select(&Kind::ALL[..]),
            dtype in proptest::sample::select(&DType::ALL[..]),
            op in proptest::option::of(proptest::sample::select(&ReduceOp::ALL[..])),
            root in proptest::option::of(0usize..1024),
            epoch: u32,
            bytes in 0usize..1 << SIZE_BITS,
            members: u16,
        ) {
            let operation = Operation { kind, dtype, op, root, epoch, bytes, members };
            prop_assert_eq!(Operation::from_tag(operation.tag()), Some(operation));
        }
    }

    #[test]
    fn a_digest_tells_orders_and_sizes_apart() {
        let of = |sizes: &[usize]| digest(sizes.iter().copied());
        assert!(
            of(&[8, 16]) != of(&[16, 8]) && of(&[8, 16]) != of(&[12, 12]) && of(&[24, 0]) != of(&[0, 24])
        );
        assert_eq!((of(&[]), of(&[8])), (0, 0));
        assert_eq!(of(&[8, 16]), of(&[8, 16]));
    }

    #[test]
    fn noise_is_no_operation() {
        assert_eq!(Operation::from_tag(Tag { operation: 0, size: 0 }), None);
        assert_eq!(Operation::from_tag(Tag { operation: u64::MAX, size: 0 }), None);
    }
}
