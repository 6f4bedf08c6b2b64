//! Reduction operations.

use std::fmt;
use std::str::FromStr;

use crate::dtype::DType;
use crate::error::Error;

/// How the elements of all ranks become one. Every rank gets the same bits, on every processor and on every run. "In
/// rank order" begins with rank 0, and only in a ring, which a plan table may choose, with another one for each share
/// ([`crate::Algorithm::first_ranks`]):
///
/// - Floats of up to 32 bits are computed in f32, f64 in f64, in rank order, and rounded once, at the end, to nearest,
///   ties to even (or after every step, with [`crate::Rounding::Each`]). Subnormals are kept. A NaN stays a NaN and
///   comes out as the type's quiet one with a positive sign. What is too large becomes infinity, or what the 8-bit
///   types without one have instead (see [`DType`]).
/// - Integers wrap.
/// - bool is or under [`Sum`](Self::Sum) and [`Max`](Self::Max), and under [`Prod`](Self::Prod) and
///   [`Min`](Self::Min); it has no [`Avg`](Self::Avg).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReduceOp {
    /// The sum.
    Sum = 1,
    /// The product.
    Prod = 2,
    /// The largest; NaN if any is NaN. Of two equal zeros, the later rank's.
    Max = 3,
    /// The smallest; NaN if any is NaN. Of two equal zeros, the later rank's.
    Min = 4,
    /// The sum, then one division by the number of ranks, before the rounding. Integers: the sum, wrapped, divided
    /// towards zero.
    Avg = 5,
}

impl ReduceOp {
    /// Every operation.
    pub const ALL: [Self; 5] = [Self::Sum, Self::Prod, Self::Max, Self::Min, Self::Avg];

    /// The name that users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Prod => "prod",
            Self::Max => "max",
            Self::Min => "min",
            Self::Avg => "avg",
        }
    }

    /// Whether elements of this type can be reduced so: all can, but the average of truth values.
    pub fn is_defined_for(self, dtype: DType) -> bool {
        (self, dtype) != (Self::Avg, DType::Bool)
    }

    pub(crate) fn from_wire(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|op| *op as u8 == value)
    }
}

impl fmt::Display for ReduceOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ReduceOp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|op| op.name() == text);
        found.ok_or_else(|| Error::UnknownName {
            what: "reduction",
            given: text.to_owned(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_read_as_they_are_written_and_travel_as_themselves() {
        for op in ReduceOp::ALL {
            assert_eq!(op.to_string().parse::<ReduceOp>().unwrap(), op);
            assert_eq!(ReduceOp::from_wire(op as u8), Some(op));
        }
        let hint = "mean".parse::<ReduceOp>().unwrap_err().hint().unwrap();
        assert!(hint.contains("sum, prod, max, min, avg"), "{hint}");
    }
}
