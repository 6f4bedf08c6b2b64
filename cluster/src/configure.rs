//! `configure`.
use crate::config::Config;
/// The file that adds kernel arguments where grub reads a folder of settings (Debian, Ubuntu).
pub const GRUB_FILE: &str = "/etc/default/grub.d/halo.cfg";
/// Every file that configure may write, and that doctor therefore looks at.
pub fn files(_: &Config) -> Vec<&'static str> {
    vec![GRUB_FILE]
}
