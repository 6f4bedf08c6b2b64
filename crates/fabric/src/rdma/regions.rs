//! A run of memory registered with the NIC: as one memory region, or as several where the device refuses one so large.

use std::any::Any;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use halo_verbs::{Access, Error, MemoryRegion, ProtectionDomain};

/// Smaller regions than this are not tried: a device that refuses them has no room at all.
const SMALLEST: usize = 1 << 20;

/// Consecutive parts, each with where it begins.
#[derive(Debug)]
pub(crate) struct Parts<T> {
    parts: Vec<(usize, T)>,
    bytes: usize,
}

/// Registered memory.
pub(crate) type Regions = Parts<MemoryRegion>;

impl<T> Parts<T> {
    /// The part in which all of `bytes` bytes at `offset` lie, and where it begins; none if no part has them all.
    #[inline]
    pub(crate) fn holding(&self, offset: usize, bytes: usize) -> Option<(usize, &T)> {
        let index = self.parts.partition_point(|(start, _)| *start <= offset).checked_sub(1)?;
        let end = self.parts.get(index + 1).map_or(self.bytes, |(next, _)| *next);
        let (start, part) = &self.parts[index];
        (offset.checked_add(bytes)? <= end).then_some((*start, part))
    }

    /// What `of` makes of each part, with where it begins.
    pub(crate) fn map<U>(&self, of: impl Fn(&T) -> U) -> Parts<U> {
        let parts = self.parts.iter().map(|(start, part)| (*start, of(part))).collect();
        Parts { parts, bytes: self.bytes }
    }

    /// The parts, for the wire.
    pub(crate) fn into_list(self) -> Vec<(u64, T)> {
        self.parts.into_iter().map(|(start, part)| (start as u64, part)).collect()
    }

    /// The parts of `bytes` bytes, from the wire.
    pub(crate) fn from_list(list: Vec<(u64, T)>, bytes: usize) -> Self {
        Self { parts: list.into_iter().map(|(start, part)| (start as usize, part)).collect(), bytes }
    }

    /// Takes `bytes` bytes in as few parts as `take` accepts: all at once, else in parts of half the size, and so on.
    /// `cut` gives the last place, not behind the one it is given, where a cut harms nothing.
    fn in_parts(
        bytes: usize,
        cut: impl Fn(usize) -> usize,
        mut take: impl FnMut(Range<usize>) -> Result<T, Error>,
    ) -> Result<Self, Error> {
        let mut most = bytes;
        loop {
            match Self::of_at_most(most, bytes, &cut, &mut take) {
                Err(Error::RegionTooLarge { .. }) if most > SMALLEST => most = most.div_ceil(2),
                taken => return taken,
            }
        }
    }

    fn of_at_most(
        most: usize,
        bytes: usize,
        cut: &impl Fn(usize) -> usize,
        take: &mut impl FnMut(Range<usize>) -> Result<T, Error>,
    ) -> Result<Self, Error> {
        let (mut parts, mut start) = (Vec::new(), 0);
        while start < bytes {
            let end = if bytes - start <= most { bytes } else { cut(start + most) };
            // What may not be cut is taken whole, or refused.
            let end = if end > start { end } else { bytes };
            parts.push((start, take(start..end)?));
            start = end;
        }
        Ok(Self { parts, bytes })
    }
}

impl Regions {
    /// Registers `bytes` bytes from `base`, cut where `cut` allows it if one region is refused.
    ///
    /// # Errors
    /// The memlock limit, or the device refuses even small regions.
    ///
    /// # Safety
    /// As [`MemoryRegion::register`].
    pub(crate) unsafe fn register(
        domain: &Arc<ProtectionDomain>,
        base: NonNull<u8>,
        bytes: usize,
        owner: &Arc<dyn Any + Send + Sync>,
        cut: impl Fn(usize) -> usize,
    ) -> Result<Self, Error> {
        let regions = Self::in_parts(bytes, cut, |part| {
            // SAFETY: within the memory that the caller vouches for.
            let start = unsafe { base.add(part.start) };
            let (domain, owner) = (Arc::clone(domain), Arc::clone(owner));
            // SAFETY: as above.
            unsafe { MemoryRegion::register(domain, start, part.len(), Access::RemoteWrite, owner) }
        })?;
        if regions.parts.len() > 1 {
            tracing::info!(
                bytes,
                parts = regions.parts.len(),
                "one memory region was refused, several are used"
            );
        }
        Ok(regions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn too_large(bytes: usize) -> Error {
        let (call, device) = ("ibv_reg_mr".to_owned(), "test0".to_owned());
        Error::RegionTooLarge { call, device, bytes, cause: "no".to_owned() }
    }

    proptest! {
        /// However little a device takes at once: the parts follow each other, each is small enough, and cuts lie only
        /// where they may.
        #[test]
        fn parts_cover_everything_once(bytes in 1usize..(64 << 20), most in SMALLEST..(70 << 20), grain in 1usize..(1 << 19)) {
            let take = |part: Range<usize>| if part.len() > most { Err(too_large(part.len())) } else { Ok(part) };
            let parts = Parts::in_parts(bytes, |at| at / grain * grain, take).unwrap();
            let ranges: Vec<_> = parts.parts.iter().map(|(_, range)| range.clone()).collect();
            prop_assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, bytes));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].end % grain == 0));
            prop_assert_eq!(ranges.len() == 1, bytes <= most);
            for range in &ranges {
                prop_assert_eq!(parts.holding(range.start, range.len()), Some((range.start, range)));
                prop_assert_eq!(parts.holding(range.start, range.len() + 1), None);
            }
        }
    }

    #[test]
    fn other_refusals_and_a_device_without_room_are_errors_at_once() {
        let mut asked = 0;
        let refused = Parts::<()>::in_parts(
            64 << 20,
            |at| at,
            |_| {
                asked += 1;
                Err(Error::NoDevices)
            },
        );
        assert!(matches!(refused, Err(Error::NoDevices)) && asked == 1);
        let refused = Parts::<()>::in_parts(64 << 20, |at| at, |part| Err(too_large(part.len())));
        assert!(matches!(refused, Err(Error::RegionTooLarge { bytes: SMALLEST, .. })), "{refused:?}");
    }
}
