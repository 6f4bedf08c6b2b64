//! Element types and reduction operations.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// What the bytes of a buffer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DType {
    /// IEEE 754 binary32.
    F32 = 1,
    /// IEEE 754 binary16.
    F16 = 2,
    /// bfloat16: the upper half of a binary32.
    BF16 = 3,
    /// Bytes; moved, never added.
    U8 = 4,
}

impl DType {
    /// Every element type.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::BF16, Self::U8];

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::U8 => 1,
        }
    }

    /// Whether it can be reduced.
    pub fn is_arithmetic(self) -> bool {
        self != Self::U8
    }

    pub(crate) fn from_wire(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| *dtype as u8 == value)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::U8 => "u8",
        })
    }
}

impl FromStr for DType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|dtype| dtype.to_string() == text);
        found.ok_or_else(|| Error::UnknownName {
            what: "element type",
            given: text.to_owned(),
            known: "f32, f16, bf16, u8",
        })
    }
}

/// How elements of all ranks become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReduceOp {
    /// The sum in rank order, accumulated in f32, rounded once.
    Sum = 1,
    /// The largest; NaN if any is NaN.
    Max = 2,
    /// The smallest; NaN if any is NaN.
    Min = 3,
}

impl ReduceOp {
    /// Every operation.
    pub const ALL: [Self; 3] = [Self::Sum, Self::Max, Self::Min];

    pub(crate) fn from_wire(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|op| *op as u8 == value)
    }
}

impl fmt::Display for ReduceOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Min => "min",
        })
    }
}

impl FromStr for ReduceOp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|op| op.to_string() == text);
        found.ok_or_else(|| Error::UnknownName {
            what: "reduction",
            given: text.to_owned(),
            known: "sum, max, min",
        })
    }
}
