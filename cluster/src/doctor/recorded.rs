//! Facts of machines that are not here, for tests: written by hand from their documentation, not recorded on them.

use std::path::Path;

use super::{Finding, Subject};
use crate::config::Config;
use crate::facts::Facts;

/// Two boards a and b, of which a runs halo-cluster.
pub fn config(link: &str) -> Config {
    let text = format!(
        "model = \"/models/m\"\n\
         [network]\nlink = \"{link}\"\nprefix = 30\n\
         [[nodes]]\nname = \"a\"\nlocal = true\naddress = \"192.168.100.1\"\ninterface = \"enp193s0np0\"\n\
         [[nodes]]\nname = \"b\"\nssh = \"me@b\"\naddress = \"192.168.100.2\"\ninterface = \"enp193s0np0\"\n"
    );
    Config::parse(&text, Path::new("c.toml")).unwrap()
}

/// A Strix Halo board with an E810 and Fedora 43, configured as it should be: board a.
pub fn fedora() -> Facts {
    serde_json::from_str(include_str!("../../tests/recorded/fedora-43-e810.json")).unwrap()
}

/// The same hardware with Ubuntu 24.04 as it comes out of the box.
pub fn ubuntu() -> Facts {
    serde_json::from_str(include_str!("../../tests/recorded/ubuntu-24.04-e810.json")).unwrap()
}

/// What `judge` finds on board a after `change`.
pub fn judged(
    link: &str,
    change: impl FnOnce(&mut Facts),
    judge: impl Fn(&Subject<'_>) -> Vec<Finding>,
) -> Vec<Finding> {
    let (config, mut facts) = (config(link), fedora());
    change(&mut facts);
    judge(&Subject { config: &config, node: config.head(), index: 0, facts: &facts })
}
