//! Sizes with suffixes, and the list of sizes to measure.

use std::fmt;
use std::str::FromStr;

/// A number of bytes, written `8`, `64K`, `2M` or `1G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) struct Bytes(pub(crate) usize);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|last: char| !last.is_ascii_digit());
        let shift = match &text[digits.len()..] {
            "" | "B" => 0,
            "K" | "k" | "KiB" => 10,
            "M" | "m" | "MiB" => 20,
            "G" | "g" | "GiB" => 30,
            other => return Err(format!("unknown suffix `{other}`; use K, M or G")),
        };
        let number: usize =
            digits.parse().map_err(|_| "expected a number such as 8, 64K or 2M".to_owned())?;
        number
            .checked_shl(shift)
            .filter(|bytes| bytes >> shift == number)
            .map(Self)
            .ok_or("too large".to_owned())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// From `min` to `max`, each `factor` times the one before, whole multiples of `grain`. Zero is followed by one grain.
pub(crate) fn sweep(min: usize, max: usize, factor: u64, grain: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut size = min;
    while size <= max {
        let whole = size / grain * grain;
        if sizes.last() != Some(&whole) {
            sizes.push(whole);
        }
        size = if size == 0 { grain } else { size.saturating_mul(factor as usize) };
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_binary_and_nonsense_is_refused() {
        let read = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
        assert_eq!(read("8"), Ok(8));
        assert_eq!(read("64K"), Ok(65536));
        assert_eq!(read("2MiB"), Ok(2 << 20));
        assert_eq!(read("1G"), Ok(1 << 30));
        for wrong in ["", "K", "8Q", "-1", "1.5M", "99999999999999999999", "18446744073709551615G"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sweep_goes_from_end_to_end_in_whole_grains() {
        assert_eq!(sweep(8, 64, 2, 4), [8, 16, 32, 64]);
        assert_eq!(sweep(0, 16, 4, 4), [0, 4, 16]);
        assert_eq!(sweep(6, 30, 2, 4), [4, 12, 24]);
        assert_eq!(sweep(9, 8, 2, 4), Vec::<usize>::new());
    }
}
