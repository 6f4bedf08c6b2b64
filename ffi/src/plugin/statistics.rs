//! What has gone over each device, for the proof that it went through halo.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::device;
use super::log;
use super::settings::Settings;

/// Counters of one device.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    sent_bytes: AtomicU64,
    sent_messages: AtomicU64,
    received_bytes: AtomicU64,
    received_messages: AtomicU64,
}

#[derive(Debug, Serialize)]
struct Line {
    device: String,
    sent_bytes: u64,
    sent_messages: u64,
    received_bytes: u64,
    received_messages: u64,
}

impl Statistics {
    pub(crate) fn sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sent_messages.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.received_messages.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes all devices' counters to the file that the settings name, if they name one.
pub(crate) fn write(settings: &Settings) {
    let (Some(path), Ok(devices)) = (&settings.stats_file, device::all()) else { return };
    let path = path.replace("{pid}", &std::process::id().to_string());
    let lines: Vec<Line> = devices
        .iter()
        .map(|device| {
            let Statistics { sent_bytes, sent_messages, received_bytes, received_messages } =
                &device.statistics;
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            Line {
                device: device.describe(),
                sent_bytes: read(sent_bytes),
                sent_messages: read(sent_messages),
                received_bytes: read(received_bytes),
                received_messages: read(received_messages),
            }
        })
        .collect();
    let text = serde_json::to_string(&lines).unwrap_or_default();
    if let Err(error) = std::fs::write(&path, text) {
        log::info(&format!("{path} cannot be written: {error}"));
    }
}
