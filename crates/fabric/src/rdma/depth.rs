//! How deep the queues of a link are, and whether a device has such.

use halo_verbs::{Context, QueueLimits};

use crate::config::DEFAULT_SLOTS;
use crate::error::FabricError;
use crate::layout::Layout;

/// Two work requests per message in flight and one per credit, which the slots bound, and a quarter of the depth that may
/// be unsignaled. That is five per slot; the rest is for completions not seen yet.
const PER_SLOT: u32 = 8;
const SHALLOWEST: u32 = 16;

/// Work requests that must fit a queue.
pub(super) fn queue_depth(layout: Layout) -> u32 {
    (PER_SLOT * layout.slots as u32).max(SHALLOWEST)
}

/// Refuses slots for which the device has no queues, before anything is made there.
pub(super) fn check(context: &Context, layout: Layout) -> Result<(), FabricError> {
    match too_deep(queue_depth(layout), context.queue_limits()?) {
        Some(cause) => Err(too_many_slots(context.name(), layout, cause)),
        None => Ok(()),
    }
}

/// What it means that the device does not make the queues of a link. It may have promised more than it has: with more slots
/// than usual, their number is the likely reason.
pub(super) fn refused(device: &str, layout: Layout, error: halo_verbs::Error) -> FabricError {
    match error {
        halo_verbs::Error::Call { .. } if layout.slots > DEFAULT_SLOTS => {
            too_many_slots(device, layout, error.to_string())
        }
        other => other.into(),
    }
}

/// The limit that a depth exceeds, in words.
fn too_deep(depth: u32, limits: QueueLimits) -> Option<String> {
    let limits =
        [("work requests (max_qp_wr)", limits.work_requests), ("completions (max_cqe)", limits.completions)];
    let (what, most) = limits.into_iter().min_by_key(|(_, most)| *most).filter(|(_, most)| depth > *most)?;
    Some(format!("it allows {most} {what}, which is enough for {} slots", most / PER_SLOT))
}

fn too_many_slots(device: &str, layout: Layout, cause: String) -> FabricError {
    let (slots, depth) = (layout.slots, queue_depth(layout));
    FabricError::TooManySlots { device: device.to_owned(), slots, depth, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: QueueLimits = QueueLimits { work_requests: 4096, completions: 32767 };

    fn layout(slots: usize) -> Layout {
        Layout { world: 2, slot_bytes: 64, slots }
    }

    #[test]
    fn slots_beyond_what_the_device_allows_are_refused_with_the_limit() {
        assert_eq!(too_deep(queue_depth(layout(DEFAULT_SLOTS)), LIMITS), None);
        assert_eq!(too_deep(queue_depth(layout(512)), LIMITS), None);
        let cause = too_deep(queue_depth(layout(513)), LIMITS).unwrap();
        assert_eq!(cause, "it allows 4096 work requests (max_qp_wr), which is enough for 512 slots");
        let limits = QueueLimits { work_requests: 1 << 20, ..LIMITS };
        let cause = too_deep(queue_depth(layout(4096)), limits).unwrap();
        assert_eq!(cause, "it allows 32767 completions (max_cqe), which is enough for 4095 slots");
        let error = too_many_slots("rxe0", layout(4096), cause);
        assert_eq!(error.stable_code(), "HALO-E0228");
        let told = error.to_string();
        for part in ["rxe0", "HALO_SLOTS=4096", "32768 work requests", "32767 completions (max_cqe)"] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn a_refusal_within_the_limits_is_laid_to_the_slots_where_they_are_many() {
        let refusal = || {
            let (call, device) = ("ibv_create_qp".to_owned(), "mlx5_0".to_owned());
            halo_verbs::Error::Call { call, device, cause: "no memory".to_owned() }
        };
        let error = refused("mlx5_0", layout(2048), refusal());
        assert!(matches!(&error, FabricError::TooManySlots { slots: 2048, depth: 16384, .. }), "{error}");
        assert!(error.to_string().contains("no memory"), "{error}");
        let error = refused("mlx5_0", layout(DEFAULT_SLOTS), refusal());
        assert!(matches!(error, FabricError::Verbs(halo_verbs::Error::Call { .. })), "{error}");
        let error = refused("mlx5_0", layout(2048), halo_verbs::Error::NoDevices);
        assert!(matches!(error, FabricError::Verbs(halo_verbs::Error::NoDevices)), "{error}");
    }
}
