//! One pass over all inputs: every block is loaded from each, combined in registers, and stored once.

use std::ops::Range;

use super::element::{Block, Element, Lanes};
use super::operator::Operator;

/// Reduces `blocks` of each of `sources` into the same blocks of `output`: all, or the last, of `ranks` inputs.
///
/// # Safety
/// Each source is readable and `output` writable up to the last block's end, at any alignment. A source may be `output`
/// itself; otherwise it does not overlap `output`.
#[inline(always)]
pub(super) unsafe fn reduce<E: Element, O: Operator>(
    sources: &[*const u8],
    output: *mut u8,
    ranks: usize,
    blocks: Range<usize>,
) {
    let (first, others) = sources.split_first().expect("a reduction has an input");
    for block in blocks {
        // SAFETY: this is one of `blocks`. Where a source is `output`, its block is read before it is written, and no
        // block is read again.
        unsafe {
            let mut lanes = load::<E>(*first, block);
            for source in others {
                lanes = E::settle(lanes.combine::<O>(load::<E>(*source, block)));
            }
            let result = E::narrow(lanes.finish::<O>(ranks));
            output.cast::<Block>().add(block).write_unaligned(result);
        }
    }
}

/// # Safety
/// `source` is readable up to the end of this block.
#[inline(always)]
unsafe fn load<E: Element>(source: *const u8, block: usize) -> E::Lanes {
    // SAFETY: as the caller promises.
    E::widen(unsafe { source.cast::<Block>().add(block).read_unaligned() })
}
