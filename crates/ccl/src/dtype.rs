//! Element types.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// What the bytes of a buffer are: elements in the machine's own byte order, at any alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DType {
    /// IEEE 754 binary64.
    F64 = 1,
    /// IEEE 754 binary32.
    F32 = 2,
    /// IEEE 754 binary16.
    F16 = 3,
    /// bfloat16: the upper half of a binary32.
    BF16 = 4,
    /// OCP 8-bit float E4M3 (`float8_e4m3fn`): no infinity, largest 448, which is also what larger results become
    /// (OCP's saturating conversion, and PyTorch's).
    F8E4M3 = 5,
    /// OCP 8-bit float E5M2 (`float8_e5m2`): like binary16 with two bits of mantissa, infinities included.
    F8E5M2 = 6,
    /// E4M3 with bias 8, one zero and one NaN (`float8_e4m3fnuz`, AMD's CDNA 3): largest 240, NaN beyond.
    F8E4M3Fnuz = 7,
    /// E5M2 with bias 16, one zero and one NaN (`float8_e5m2fnuz`, AMD's CDNA 3): largest 57344, NaN beyond.
    F8E5M2Fnuz = 8,
    /// Signed, 8 bits.
    I8 = 9,
    /// Signed, 16 bits.
    I16 = 10,
    /// Signed, 32 bits.
    I32 = 11,
    /// Signed, 64 bits.
    I64 = 12,
    /// Unsigned, 8 bits.
    U8 = 13,
    /// Unsigned, 16 bits.
    U16 = 14,
    /// Unsigned, 32 bits.
    U32 = 15,
    /// Unsigned, 64 bits.
    U64 = 16,
    /// A byte; any but zero is true. Results are 0 or 1.
    Bool = 17,
}

impl DType {
    /// Every element type.
    pub const ALL: [Self; 17] = [
        Self::F64,
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::F8E4M3,
        Self::F8E5M2,
        Self::F8E4M3Fnuz,
        Self::F8E5M2Fnuz,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::Bool,
    ];

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::F8E4M3
            | Self::F8E5M2
            | Self::F8E4M3Fnuz
            | Self::F8E5M2Fnuz
            | Self::I8
            | Self::U8
            | Self::Bool => 1,
        }
    }

    /// The name that users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F8E4M3 => "f8e4m3",
            Self::F8E5M2 => "f8e5m2",
            Self::F8E4M3Fnuz => "f8e4m3fnuz",
            Self::F8E5M2Fnuz => "f8e5m2fnuz",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::Bool => "bool",
        }
    }

    pub(crate) fn from_wire(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| *dtype as u8 == value)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|dtype| dtype.name() == text);
        found.ok_or_else(|| Error::UnknownName {
            what: "element type",
            given: text.to_owned(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_as_they_are_written_and_travel_as_themselves() {
        for dtype in DType::ALL {
            assert_eq!(dtype.to_string().parse::<DType>().unwrap(), dtype);
            assert_eq!(DType::from_wire(dtype as u8), Some(dtype));
        }
        let error = "f33".parse::<DType>().unwrap_err();
        assert!(error.to_string().contains("`f33`"), "{error}");
        assert!(error.hint().unwrap().contains("bf16, f8e4m3, f8e5m2"), "{error:?}");
    }
}
