//! The arithmetic of one lane.

/// A number as it is computed with.
pub(super) trait Lane: Copy {
    fn sum(self, other: Self) -> Self;
    fn prod(self, other: Self) -> Self;
    /// NaN if either is; of two equal ones `other`.
    fn max(self, other: Self) -> Self;
    /// NaN if either is; of two equal ones `other`.
    fn min(self, other: Self) -> Self;
    fn divide(self, ranks: usize) -> Self;
}

macro_rules! float_lanes {
    ($($float:ty)*) => {$(
        impl Lane for $float {
            #[inline(always)]
            fn sum(self, other: Self) -> Self {
                self + other
            }

            #[inline(always)]
            fn prod(self, other: Self) -> Self {
                self * other
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if self > other || self.is_nan() { self } else { other }
            }

            #[inline(always)]
            fn min(self, other: Self) -> Self {
                if self < other || self.is_nan() { self } else { other }
            }

            #[inline(always)]
            fn divide(self, ranks: usize) -> Self {
                self / ranks as $float
            }
        }
    )*};
}

float_lanes!(f32 f64);

macro_rules! integer_lanes {
    ($($integer:ty, divided in $quotient:ty;)*) => {$(
        impl Lane for $integer {
            #[inline(always)]
            fn sum(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            #[inline(always)]
            fn prod(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                Ord::max(self, other)
            }

            #[inline(always)]
            fn min(self, other: Self) -> Self {
                Ord::min(self, other)
            }

            #[inline(always)]
            #[allow(clippy::cast_lossless, reason = "the quotient's type differs by the element's")]
            fn divide(self, ranks: usize) -> Self {
                (self as $quotient / ranks as $quotient) as Self
            }
        }
    )*};
}

// There are no vector instructions for integer division. In f64 it is exact up to 32 bits: a quotient that is no whole
// number differs from the next one by at least 1/ranks, far more than f64's rounding.
integer_lanes! {
    i8, divided in f64;
    i16, divided in f64;
    i32, divided in f64;
    i64, divided in i64;
    u8, divided in f64;
    u16, divided in f64;
    u32, divided in f64;
    u64, divided in u64;
}

/// How lanes of all ranks become one.
pub(super) trait Operator {
    /// The next rank's lane joins those before it.
    fn combine<L: Lane>(so_far: L, next: L) -> L;

    /// What remains to be done when all have joined.
    #[inline(always)]
    fn finish<L: Lane>(lane: L, _ranks: usize) -> L {
        lane
    }
}

pub(super) struct Sum;
pub(super) struct Prod;
pub(super) struct Max;
pub(super) struct Min;
pub(super) struct Avg;

impl Operator for Sum {
    #[inline(always)]
    fn combine<L: Lane>(so_far: L, next: L) -> L {
        so_far.sum(next)
    }
}

impl Operator for Prod {
    #[inline(always)]
    fn combine<L: Lane>(so_far: L, next: L) -> L {
        so_far.prod(next)
    }
}

impl Operator for Max {
    #[inline(always)]
    fn combine<L: Lane>(so_far: L, next: L) -> L {
        so_far.max(next)
    }
}

impl Operator for Min {
    #[inline(always)]
    fn combine<L: Lane>(so_far: L, next: L) -> L {
        so_far.min(next)
    }
}

impl Operator for Avg {
    #[inline(always)]
    fn combine<L: Lane>(so_far: L, next: L) -> L {
        so_far.sum(next)
    }

    #[inline(always)]
    fn finish<L: Lane>(lane: L, ranks: usize) -> L {
        lane.divide(ranks)
    }
}
