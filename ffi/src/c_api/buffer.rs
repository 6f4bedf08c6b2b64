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

/// A buffer to read.
///
/// # Safety
/// Unless NULL, `pointer` points to `bytes` bytes that nobody writes during `'a`.
pub(crate) unsafe fn input<'a>(
    function: &'static str,
    argument: &'static str,
    pointer: *const c_void,
    bytes: usize,
) -> Result<&'a [u8], Error> {
    if bytes == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(Error::Null { function, argument });
    }
    // SAFETY: not NULL, the caller promises the rest; `size` has kept `bytes` within isize.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), bytes) })
}

/// A buffer to write.
///
/// # Safety
/// Unless NULL, `pointer` points to `bytes` bytes that nobody else reads or writes during `'a`.
pub(crate) unsafe fn output<'a>(
    function: &'static str,
    argument: &'static str,
    pointer: *mut c_void,
    bytes: usize,
) -> Result<&'a mut [u8], Error> {
    if bytes == 0 {
        return Ok(&mut []);
    }
    if pointer.is_null() {
        return Err(Error::Null { function, argument });
    }
    // SAFETY: not NULL, the caller promises the rest; `size` has kept `bytes` within isize.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), bytes) })
}

/// Refuses buffers that overlap: the result would depend on the order of copies.
pub(crate) fn apart(
    function: &'static str,
    input: (*const c_void, usize),
    output: (*mut c_void, usize),
) -> Result<(), Error> {
    let (start, end) = (
        input.0.addr().max(output.0.addr()),
        end(input.0.addr(), input.1).min(end(output.0.addr(), output.1)),
    );
    if input.1 == 0 || output.1 == 0 || start >= end {
        return Ok(());
    }
    Err(Error::Overlap { function, bytes: end - start })
}

fn end(address: usize, bytes: usize) -> usize {
    address.saturating_add(bytes)
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

    #[test]
    fn buffers_overlap_when_they_share_a_byte() {
        let at = |address: usize| std::ptr::without_provenance_mut::<c_void>(address);
        let overlap = |a: (usize, usize), b: (usize, usize)| match apart("f", (at(a.0), a.1), (at(b.0), b.1))
        {
            Ok(()) => 0,
            Err(Error::Overlap { bytes, .. }) => bytes,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(overlap((100, 10), (110, 10)), 0);
        assert_eq!(overlap((110, 10), (100, 10)), 0);
        assert_eq!(overlap((100, 10), (109, 10)), 1);
        assert_eq!(overlap((109, 10), (100, 10)), 1);
        assert_eq!(overlap((100, 10), (102, 3)), 3);
        assert_eq!(overlap((100, 0), (100, 10)), 0);
        assert_eq!(overlap((usize::MAX - 4, 10), (usize::MAX - 2, 10)), 2);
    }

    #[test]
    fn a_count_that_no_buffer_can_have_is_refused() {
        assert_eq!(size("f", "input", 3, DType::F32).unwrap(), 12);
        for count in [usize::MAX, usize::MAX / 4 + 1, isize::MAX as usize / 2] {
            assert!(matches!(size("f", "input", count, DType::F32), Err(Error::TooLarge { .. })), "{count}");
        }
    }
}
