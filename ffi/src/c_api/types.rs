//! Element types and reductions as numbers. C can pass any number, so these are not Rust enums; an unknown one is an
//! error that lists the known ones.

use halo_ccl::{DType, ReduceOp};

use crate::c_api::error::Error;

/// An element type: one of the `HALO_DTYPE_...` constants.
pub type DataType = u32;

/// IEEE 754 binary32.
pub const HALO_DTYPE_F32: DataType = 1;
/// IEEE 754 binary16.
pub const HALO_DTYPE_F16: DataType = 2;
/// bfloat16: the upper half of a binary32.
pub const HALO_DTYPE_BF16: DataType = 3;
/// Bytes; moved, never added.
pub const HALO_DTYPE_U8: DataType = 4;

/// A reduction: one of the `HALO_OP_...` constants.
pub type Reduction = u32;

/// The sum in rank order, accumulated in f32 and rounded once, so that every rank gets the same bits.
pub const HALO_OP_SUM: Reduction = 1;
/// The largest; NaN if any is NaN.
pub const HALO_OP_MAX: Reduction = 2;
/// The smallest; NaN if any is NaN.
pub const HALO_OP_MIN: Reduction = 3;

/// Reads an element type.
pub(crate) fn dtype(function: &'static str, given: DataType) -> Result<DType, Error> {
    let found = DType::ALL.into_iter().find(|dtype| *dtype as u32 == given);
    found.ok_or_else(|| {
        unknown(function, "element type", given, DType::ALL.map(|known| (known as u32, known.to_string())))
    })
}

/// Reads a reduction.
pub(crate) fn op(function: &'static str, given: Reduction) -> Result<ReduceOp, Error> {
    let found = ReduceOp::ALL.into_iter().find(|op| *op as u32 == given);
    found.ok_or_else(|| {
        unknown(function, "reduction", given, ReduceOp::ALL.map(|known| (known as u32, known.to_string())))
    })
}

fn unknown(
    function: &'static str,
    what: &'static str,
    given: u32,
    known: impl IntoIterator<Item = (u32, String)>,
) -> Error {
    let known = known.into_iter().map(|(number, name)| format!("{number} ({name})")).collect::<Vec<_>>();
    Error::UnknownConstant { function, what, given, known: known.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_the_numbers_of_what_they_name() {
        let dtypes = [HALO_DTYPE_F32, HALO_DTYPE_F16, HALO_DTYPE_BF16, HALO_DTYPE_U8];
        assert_eq!(dtypes.map(|number| dtype("f", number).unwrap()).to_vec(), DType::ALL.to_vec());
        let ops = [HALO_OP_SUM, HALO_OP_MAX, HALO_OP_MIN];
        assert_eq!(ops.map(|number| op("f", number).unwrap()).to_vec(), ReduceOp::ALL.to_vec());
        assert!(matches!(dtype("f", 0), Err(Error::UnknownConstant { given: 0, .. })));
        assert!(matches!(op("f", u32::MAX), Err(Error::UnknownConstant { .. })));
    }
}
