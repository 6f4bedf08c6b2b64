//! The floating-point environment that reductions are defined for: round to nearest, subnormals kept. A thread may come
//! with another one (`torch.set_flush_denormal(True)` sets it), and its rank would have other bits than its peers.

use std::arch::asm;

// The assembly below is never told to touch no memory: so loads and stores, and with them what is computed between, stay
// on their side of it.

/// While it lives, this thread computes with the default environment; then it has its own again.
#[must_use]
pub(super) struct DefaultEnvironment(Option<Control>);

impl DefaultEnvironment {
    #[inline]
    pub(super) fn enter() -> Self {
        let own = control();
        if own & CHANGES_RESULTS == 0 {
            return Self(None);
        }
        set_control(own & !CHANGES_RESULTS);
        Self(Some(own))
    }
}

impl Drop for DefaultEnvironment {
    #[inline]
    fn drop(&mut self) {
        if let Some(own) = self.0 {
            set_control(own);
        }
    }
}

#[cfg(target_arch = "x86_64")]
type Control = u32;
/// MXCSR: flush to zero, the rounding mode, and subnormal inputs as zeros (Intel's manual, volume 1, 10.2.3).
#[cfg(target_arch = "x86_64")]
const CHANGES_RESULTS: Control = 1 << 15 | 0b11 << 13 | 1 << 6;

#[cfg(target_arch = "x86_64")]
#[inline]
fn control() -> Control {
    let mut control = 0;
    // SAFETY: stores the register into these four bytes.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack, preserves_flags)) };
    control
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn set_control(control: Control) {
    // SAFETY: a value that the register has had, or that with some of its bits cleared. What is compiled here assumes the
    // default environment: this restores it where a caller had left it, and gives the caller's own back behind it.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack, preserves_flags)) };
}

#[cfg(target_arch = "aarch64")]
type Control = u64;
/// FPCR: flush to zero (also of half precision), the rounding mode, default NaN (Arm's manual, C5.2.8).
#[cfg(target_arch = "aarch64")]
const CHANGES_RESULTS: Control = 1 << 25 | 1 << 24 | 0b11 << 22 | 1 << 19;

#[cfg(target_arch = "aarch64")]
#[inline]
fn control() -> Control {
    let control: Control;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, fpcr", out(reg) control, options(nostack, preserves_flags)) };
    control
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn set_control(control: Control) {
    // SAFETY: a value that the register has had, or that with some of its bits cleared. What is compiled here assumes the
    // default environment: this restores it where a caller had left it, and gives the caller's own back behind it.
    unsafe { asm!("msr fpcr, {}", in(reg) control, options(nostack, preserves_flags)) };
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the floating-point environment of this processor is not known");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{self, noise};
    use crate::reduce::tests::{is_comparable, reductions};
    use crate::reduce::{InstructionSet, Partial, Source, finish, join, reduce};
    use proptest::prelude::*;

    /// Runs `work` as a thread that has every bit of its own.
    fn with_every_bit<T>(work: impl FnOnce() -> T) -> T {
        let own = control();
        set_control(own | CHANGES_RESULTS);
        let result = work();
        let after = control();
        set_control(own);
        assert_eq!(after & CHANGES_RESULTS, CHANGES_RESULTS, "the thread has its own environment again");
        result
    }

    proptest! {
        #[test]
        fn a_thread_with_another_environment_computes_the_same(arithmetic in reductions(), seed: u64) {
            prop_assume!(is_comparable(InstructionSet::Baseline, arithmetic));
            let bytes = 100 * arithmetic.dtype.size();
            let inputs = [1, 2].map(|rank| noise(seed ^ rank << 40, bytes));
            let expected = definition::reduce(arithmetic.dtype, arithmetic.op, arithmetic.rounding, &inputs);
            let mut output = vec![0; bytes];
            with_every_bit(|| reduce(arithmetic, &inputs.each_ref().map(|input| Source::Bytes(input)), &mut output));
            prop_assert_eq!(&output, &expected);
            let mut partial = vec![0; bytes * arithmetic.widening()];
            with_every_bit(|| {
                join(arithmetic, Partial::Elements(&inputs[0]), &inputs[1], &mut partial);
                finish(arithmetic, 2, Partial::Elements(&inputs[0]), Source::Bytes(&inputs[1]), &mut output);
            });
            prop_assert_eq!(&output, &expected);
            let mut usual = vec![0; partial.len()];
            join(arithmetic, Partial::Elements(&inputs[0]), &inputs[1], &mut usual);
            prop_assert_eq!(partial, usual);
        }
    }
}
