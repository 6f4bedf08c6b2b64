//! One pass over all inputs: every block is loaded from each, combined in registers, and stored once.

use super::element::{BLOCK, Block, Element, Lanes};
use super::operator::Operator;

/// Reduces `blocks` blocks from each of `sources` into `output`.
///
/// # Safety
/// Each source is readable and `output` writable for that many blocks, at any alignment. A source may be `output`
/// itself; otherwise it does not overlap `output`.
#[inline(always)]
pub(super) unsafe fn reduce<E: Element, O: Operator>(sources: &[*const u8], output: *mut u8, blocks: usize) {
    let (first, others) = sources.split_first().expect("a reduction has an input");
    for at in (0..blocks).map(|block| block * BLOCK) {
        // SAFETY: this block is one of `blocks`. Where a source is `output`, its block is read before it is written,
        // and no block is read again.
        unsafe {
            let load = |source: &*const u8| E::widen(source.add(at).cast::<Block>().read_unaligned());
            let lanes =
                others.iter().fold(load(first), |so_far, next| E::settle(so_far.combine::<O>(load(next))));
            let result = E::narrow(lanes.finish::<O>(sources.len()));
            output.add(at).cast::<Block>().write_unaligned(result);
        }
    }
}
