//! Pointers and counts from C as slices, after every check that a pointer allows.

use std::ffi::{CStr, c_char, c_void};

use halo_ccl::DType;

use crate::c_api::error::Error;

/// Bytes of `count` elements.
pub(crate) fn size(
    function: &'static str,
    argument: &'static str,
    count: usize,
    dtype: DType,
) -> Result<usize, Error> {
    let size = dtype.size();
    count.checked_mul(size).filter(|bytes| isize::try_from(*bytes).is_ok()).ok_or(Error::TooLarge {
        function,
        argument,
        count,
        size,
    })
}

/// Where a buffer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) address: usize,
    pub(crate) bytes: usize,
}

impl Span {
    /// No memory at all.
    pub(crate) const NONE: Self = Self { address: 0, bytes: 0 };

    fn end(self) -> usize {
        self.address.saturating_add(self.bytes)
    }

    /// Refuses buffers that overlap: what one writes the other would read, or not, by chance.
    pub(crate) fn apart(self, function: &'static str, other: Self) -> Result<(), Error> {
        let (start, end) = (self.address.max(other.address), self.end().min(other.end()));
        if self.bytes == 0 || other.bytes == 0 || start >= end {
            return Ok(());
        }
        Err(Error::Overlap { function, bytes: end - start })
    }

    /// The buffer to read.
    ///
    /// # Safety
    /// Unless NULL, `pointer` points to this span, and nobody writes it during `'a`.
    pub(crate) unsafe fn to_read<'a>(
        self,
        function: &'static str,
        argument: &'static str,
        pointer: *const c_void,
    ) -> Result<&'a [u8], Error> {
        if self.bytes == 0 {
            return Ok(&[]);
        }
        if pointer.is_null() {
            return Err(Error::Null { function, argument });
        }
        // SAFETY: not NULL, the caller promises the rest; `size` has kept the length within isize.
        Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), self.bytes) })
    }

    /// The buffer to write.
    ///
    /// # Safety
    /// Unless NULL, `pointer` points to this span, and nobody else reads or writes it during `'a`.
    pub(crate) unsafe fn to_write<'a>(
        self,
        function: &'static str,
        argument: &'static str,
        pointer: *mut c_void,
    ) -> Result<&'a mut [u8], Error> {
        if self.bytes == 0 {
            return Ok(&mut []);
        }
        if pointer.is_null() {
            return Err(Error::Null { function, argument });
        }
        // SAFETY: not NULL, the caller promises the rest; `size` has kept the length within isize.
        Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), self.bytes) })
    }
}

/// Refuses operations of one group of which one writes what another reads or writes.
pub(crate) fn all_apart(
    function: &'static str,
    spans: impl Iterator<Item = (Span, bool)>,
) -> Result<(), Error> {
    let mut spans: Vec<(Span, bool)> = spans.filter(|(span, _)| span.bytes > 0).collect();
    spans.sort_by_key(|(span, _)| span.address);
    // How far the buffers seen so far reach, and how far those of them that are written.
    let (mut reach, mut written) = (0, 0);
    for (span, writes) in spans {
        let end = if writes { reach } else { written };
        if span.address < end {
            return Err(Error::Overlap { function, bytes: end.min(span.end()) - span.address });
        }
        reach = reach.max(span.end());
        if writes {
            written = written.max(span.end());
        }
    }
    Ok(())
}

/// Text that ends with a zero byte.
///
/// # Safety
/// Unless NULL, `pointer` points to such text.
pub(crate) unsafe fn text(
    function: &'static str,
    argument: &'static str,
    pointer: *const c_char,
) -> Result<String, Error> {
    if pointer.is_null() {
        return Err(Error::Null { function, argument });
    }
    // SAFETY: not NULL, the caller promises the rest.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map(str::to_owned).map_err(|_| Error::NotText {
        function,
        argument,
        text: text.to_string_lossy().into_owned(),
    })
}

/// A place for a result.
///
/// # Safety
/// Unless NULL, `pointer` points to memory for a `T` that nobody else uses during `'a`.
pub(crate) unsafe fn result<'a, T>(
    function: &'static str,
    argument: &'static str,
    pointer: *mut T,
) -> Result<&'a mut std::mem::MaybeUninit<T>, Error> {
    // SAFETY: the caller promises memory for a T; that it may be uninitialised is in the type.
    unsafe { pointer.cast::<std::mem::MaybeUninit<T>>().as_mut() }.ok_or(Error::Null { function, argument })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(address: usize, bytes: usize) -> Span {
        Span { address, bytes }
    }

    fn overlap(answer: Result<(), Error>) -> usize {
        match answer {
            Ok(()) => 0,
            Err(Error::Overlap { bytes, .. }) => bytes,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn buffers_overlap_when_they_share_a_byte() {
        let shared = |a: Span, b: Span| overlap(a.apart("f", b));
        assert_eq!(shared(span(100, 10), span(110, 10)), 0);
        assert_eq!(shared(span(110, 10), span(100, 10)), 0);
        assert_eq!(shared(span(100, 10), span(109, 10)), 1);
        assert_eq!(shared(span(109, 10), span(100, 10)), 1);
        assert_eq!(shared(span(100, 10), span(102, 3)), 3);
        assert_eq!(shared(span(100, 0), span(100, 10)), 0);
        assert_eq!(shared(span(usize::MAX - 4, 10), span(usize::MAX - 2, 10)), 2);
    }

    #[test]
    fn in_a_group_inputs_may_overlap_and_outputs_may_not() {
        let shared = |spans: &[(Span, bool)]| overlap(all_apart("f", spans.iter().copied()));
        assert_eq!(shared(&[(span(100, 10), false), (span(105, 10), false), (span(120, 5), true)]), 0);
        assert_eq!(shared(&[(span(105, 10), true), (span(100, 10), false)]), 5);
        assert_eq!(shared(&[(span(105, 10), false), (span(100, 10), true)]), 5);
        assert_eq!(shared(&[(span(100, 50), false), (span(110, 1), false), (span(149, 10), true)]), 1);
        assert_eq!(shared(&[(span(100, 10), true), (span(0, 0), true), (span(100, 10), true)]), 10);
    }

    #[test]
    fn a_count_that_no_buffer_can_have_is_refused() {
        assert_eq!(size("f", "input", 3, DType::F32).unwrap(), 12);
        for count in [usize::MAX, usize::MAX / 4 + 1, isize::MAX as usize / 2] {
            assert!(matches!(size("f", "input", count, DType::F32), Err(Error::TooLarge { .. })), "{count}");
        }
    }
}
