//! Buffers from Python as slices, none of which is written while another one shows the same memory.

use halo_ccl::Input;
use pyo3::prelude::*;

use crate::error::exception;

/// An address and a length in bytes: `halo/_views.py` has checked that they are contiguous memory of this process, of
/// that length, writable where needed, and keeps them alive for the call.
#[derive(Clone, Copy, PartialEq, Eq, FromPyObject)]
pub(crate) struct View(pub(crate) usize, pub(crate) usize);

impl View {
    /// Whether this is block `rank` of the `world` blocks of `whole`.
    pub(crate) fn is_block(self, (rank, world): (usize, usize), whole: Self) -> bool {
        let Self(address, bytes) = self;
        let fits = bytes.checked_mul(world) == Some(whole.1);
        fits && address == whole.0.wrapping_add(rank * bytes)
    }

    pub(crate) fn to_read<'a>(self) -> &'a [u8] {
        let Self(address, bytes) = self;
        if bytes == 0 {
            return &[];
        }
        // SAFETY: `halo/_views.py` took address and length from a contiguous buffer that it keeps alive for this call.
        unsafe { std::slice::from_raw_parts(address as *const u8, bytes) }
    }

    /// Where a call has an input and an output, they go through [`apart`].
    pub(crate) fn to_write<'a>(self) -> &'a mut [u8] {
        let Self(address, bytes) = self;
        if bytes == 0 {
            return &mut [];
        }
        // SAFETY: as in `to_read`, and the buffer is writable. Another Python thread that writes it meanwhile spoils the
        // data, as with every buffer that is handed out without the lock.
        unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes) }
    }

    fn shared_with(self, other: Self) -> usize {
        let end = |view: Self| view.0.saturating_add(view.1);
        end(self).min(end(other)).saturating_sub(self.0.max(other.0))
    }
}

/// Input and output, unless they overlap: what one writes the other would read, or not, by chance.
pub(crate) fn apart<'a>(
    operation: &'static str,
    input: View,
    output: View,
) -> PyResult<(&'a [u8], &'a mut [u8])> {
    let bytes = input.shared_with(output);
    if bytes == 0 {
        return Ok((input.to_read(), output.to_write()));
    }
    let message = format!("{operation}: input and output overlap in {bytes} bytes");
    let help =
        "use buffers that lie apart, or the same memory where docs/python.md allows an operation in place";
    Err(exception("HALO-E0513", &message, help, None))
}

/// The same for an operation that may be asked for `in_place`: then `output` holds the input.
pub(crate) fn apart_unless<'a>(
    in_place: bool,
    operation: &'static str,
    input: View,
    output: View,
) -> PyResult<(Input<'a>, &'a mut [u8])> {
    if in_place {
        return Ok((Input::InPlace, output.to_write()));
    }
    let (input, output) = apart(operation, input, output)?;
    Ok((Input::From(input), output))
}
