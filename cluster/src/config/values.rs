//! Values of the configuration that have a narrower shape than TOML gives them, and those that may be left out.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub(super) fn default_host() -> IpAddr {
    IpAddr::from([0, 0, 0, 0])
}

pub(super) fn default_port() -> u16 {
    8000
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn one() -> usize {
    1
}

pub(super) fn ip_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let refuse =
        |_| serde::de::Error::custom(format!("`{text}` is no IP address, expected one like 192.168.100.1"));
    text.parse().map_err(refuse)
}

pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| {
        serde::de::Error::custom(format!("{number} is no port, expected a number from 1 to 65535"))
    })
}

pub(super) fn rank_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let count = usize::try_from(number).ok().filter(|count| (1..=64).contains(count));
    count.ok_or_else(|| serde::de::Error::custom(format!("{number} ranks on a node, expected 1 to 64")))
}

pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let good = u64::try_from(number).ok().filter(|number| (1..=86_400).contains(number));
    good.map(Duration::from_secs).ok_or_else(|| {
        serde::de::Error::custom(format!("{number} is no time-out, expected 1 to 86400 seconds"))
    })
}
