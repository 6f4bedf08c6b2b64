//! Element types and reductions as numbers. C can pass any number, so these are not Rust enums; an unknown one is an
//! error that lists the known ones.

use halo_ccl::{DType, ReduceOp};

use crate::c_api::error::Error;

/// An element type: one of the `HALO_DTYPE_...` constants.
pub type DataType = u32;

/// IEEE 754 binary64.
pub const HALO_DTYPE_F64: DataType = 1;
/// IEEE 754 binary32.
pub const HALO_DTYPE_F32: DataType = 2;
/// IEEE 754 binary16.
pub const HALO_DTYPE_F16: DataType = 3;
/// bfloat16: the upper half of a binary32.
pub const HALO_DTYPE_BF16: DataType = 4;
/// OCP 8-bit float E4M3: no infinity; what is larger than 448 becomes 448.
pub const HALO_DTYPE_F8E4M3: DataType = 5;
/// OCP 8-bit float E5M2.
pub const HALO_DTYPE_F8E5M2: DataType = 6;
/// E4M3 with bias 8, one zero and one NaN (AMD's CDNA 3); what is larger than 240 becomes NaN.
pub const HALO_DTYPE_F8E4M3FNUZ: DataType = 7;
/// E5M2 with bias 16, one zero and one NaN (AMD's CDNA 3); what is larger than 57344 becomes NaN.
pub const HALO_DTYPE_F8E5M2FNUZ: DataType = 8;
/// Signed, 8 bits.
pub const HALO_DTYPE_I8: DataType = 9;
/// Signed, 16 bits.
pub const HALO_DTYPE_I16: DataType = 10;
/// Signed, 32 bits.
pub const HALO_DTYPE_I32: DataType = 11;
/// Signed, 64 bits.
pub const HALO_DTYPE_I64: DataType = 12;
/// Unsigned, 8 bits.
pub const HALO_DTYPE_U8: DataType = 13;
/// Unsigned, 16 bits.
pub const HALO_DTYPE_U16: DataType = 14;
/// Unsigned, 32 bits.
pub const HALO_DTYPE_U32: DataType = 15;
/// Unsigned, 64 bits.
pub const HALO_DTYPE_U64: DataType = 16;
/// A byte; any but zero is true. Results are 0 or 1.
pub const HALO_DTYPE_BOOL: DataType = 17;

/// A reduction: one of the `HALO_OP_...` constants.
pub type Reduction = u32;

/// The sum. Floats are computed in f32 (f64 in itself) in rank order and rounded once, so that every rank gets the
/// same bits; integers wrap; of truth values it is "or".
pub const HALO_OP_SUM: Reduction = 1;
/// The product; of truth values "and".
pub const HALO_OP_PROD: Reduction = 2;
/// The largest; NaN if any is NaN.
pub const HALO_OP_MAX: Reduction = 3;
/// The smallest; NaN if any is NaN.
pub const HALO_OP_MIN: Reduction = 4;
/// The sum divided by the number of ranks, before the rounding; integers towards zero. Not of truth values.
pub const HALO_OP_AVG: Reduction = 5;

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
        let dtypes = [
            HALO_DTYPE_F64,
            HALO_DTYPE_F32,
            HALO_DTYPE_F16,
            HALO_DTYPE_BF16,
            HALO_DTYPE_F8E4M3,
            HALO_DTYPE_F8E5M2,
            HALO_DTYPE_F8E4M3FNUZ,
            HALO_DTYPE_F8E5M2FNUZ,
            HALO_DTYPE_I8,
            HALO_DTYPE_I16,
            HALO_DTYPE_I32,
            HALO_DTYPE_I64,
            HALO_DTYPE_U8,
            HALO_DTYPE_U16,
            HALO_DTYPE_U32,
            HALO_DTYPE_U64,
            HALO_DTYPE_BOOL,
        ];
        assert_eq!(dtypes.map(|number| dtype("f", number).unwrap()), DType::ALL);
        let ops = [HALO_OP_SUM, HALO_OP_PROD, HALO_OP_MAX, HALO_OP_MIN, HALO_OP_AVG];
        assert_eq!(ops.map(|number| op("f", number).unwrap()), ReduceOp::ALL);
        assert!(matches!(dtype("f", 0), Err(Error::UnknownConstant { given: 0, .. })));
        assert!(matches!(op("f", u32::MAX), Err(Error::UnknownConstant { .. })));
    }
}
