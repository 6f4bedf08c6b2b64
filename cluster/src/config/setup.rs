//! What the configuration says of the machines themselves: `[network]`, `[container]` and `[system]`. `doctor` expects
//! it and `configure` sets it up. Every value here may reach a file or a command on a node, so each has a narrow shape.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// `[network]`: the data network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// What joins the nodes.
    pub link: Link,
    /// The MTU of the data interfaces.
    #[serde(deserialize_with = "mtu")]
    pub mtu: u32,
    /// How many bits of the data addresses name the network.
    #[serde(deserialize_with = "prefix")]
    pub prefix: u8,
}

impl Default for Network {
    fn default() -> Self {
        Self { link: Link::default(), mtu: 9000, prefix: 24 }
    }
}

/// What joins the nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// A NIC with RDMA over Ethernet, such as Intel's E810.
    Roce,
    /// A USB4 or Thunderbolt cable, which carries IP.
    Usb4,
    /// Any other network.
    #[default]
    Ethernet,
}

impl Link {
    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Roce => "roce",
            Self::Usb4 => "usb4",
            Self::Ethernet => "ethernet",
        }
    }
}

/// `[container]`: where Python, vLLM and Ray are when they are not on the machine itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// What runs it.
    pub engine: Engine,
    /// Its name, the same on every node.
    #[serde(deserialize_with = "container_name")]
    pub name: String,
    /// What `configure` creates it from; it must exist already if this is left out.
    #[serde(default, deserialize_with = "image")]
    pub image: Option<String>,
}

impl Container {
    /// The words before a command that is to run inside it.
    pub fn inside(&self) -> Vec<String> {
        let words: &[&str] = match self.engine {
            Engine::Podman => &["podman", "exec", &self.name],
            Engine::Docker => &["docker", "exec", &self.name],
            Engine::Toolbox => &["toolbox", "run", "--container", &self.name],
            Engine::Distrobox => &["distrobox", "enter", &self.name, "--"],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// The same for a command that is spoken to through its standard input.
    pub fn inside_with_input(&self) -> Vec<String> {
        let mut words = self.inside();
        if matches!(self.engine, Engine::Podman | Engine::Docker) {
            words.insert(2, "--interactive".to_owned());
        }
        words
    }

    /// What starts it when it is stopped; empty where entering does that.
    pub fn start(&self) -> String {
        match self.engine {
            Engine::Podman | Engine::Docker => format!("{} start {}", self.engine.name(), self.name),
            Engine::Toolbox | Engine::Distrobox => String::new(),
        }
    }
}

/// What runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// podman, as the user who logs in.
    Podman,
    /// docker.
    Docker,
    /// toolbox, which Fedora brings along.
    Toolbox,
    /// distrobox.
    Distrobox,
}

impl Engine {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
            Self::Toolbox => "toolbox",
            Self::Distrobox => "distrobox",
        }
    }
}

/// `[system]`: the nodes' own settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct System {
    /// The kernel arguments of every node, instead of those that its memory asks for.
    #[serde(deserialize_with = "kernel_arguments")]
    pub kernel_arguments: Option<Vec<String>>,
}

/// Whether `text` is a plain word: letters, digits and `also`, and no option.
fn plain(text: &str, also: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

fn mtu<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let good = u32::try_from(number).ok().filter(|mtu| (1280..=65520).contains(mtu));
    good.ok_or_else(|| D::Error::custom(format!("{number} is no MTU, expected 1280 to 65520")))
}

fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let good = u8::try_from(number).ok().filter(|prefix| (8..=126).contains(prefix));
    good.ok_or_else(|| D::Error::custom(format!("{number} is no prefix length, expected e.g. 24 or 30")))
}

fn container_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let good = plain(&name, "-_.") && !name.starts_with('.') && name.len() <= 63;
    good.then_some(name.clone())
        .ok_or_else(|| D::Error::custom(format!("`{name}` cannot be the name of a container")))
}

fn image<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    if plain(&name, "-_./:@") {
        return Ok(Some(name));
    }
    Err(D::Error::custom(format!("`{name}` is no image, expected one like docker.io/library/fedora:43")))
}

fn kernel_arguments<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let Some(words) = Option::<Vec<String>>::deserialize(deserializer)? else { return Ok(None) };
    match words.iter().find(|word| !plain(word, "-_.=,:/+")) {
        Some(word) => {
            Err(D::Error::custom(format!("`{word}` is no kernel argument, expected e.g. iommu=pt")))
        }
        None => Ok(Some(words)),
    }
}

/// The name of an interface as the kernel allows it, and no more than names have in practice.
pub(super) fn interface<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    if plain(&name, "-_.:@") && name.len() <= 15 && !name.starts_with('.') {
        return Ok(Some(name));
    }
    Err(D::Error::custom(format!("`{name}` is no interface, expected a name of `ip -brief link`")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const NODE: &str = "model = \"/m\"\nnodes = [{name = \"a\", local = true, address = \"10.0.0.1\"}]\n";

    fn parse(more: &str) -> Result<Config, String> {
        Config::parse(&format!("{NODE}{more}"), Path::new("c.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = parse("").unwrap();
        assert_eq!(config.network, Network { link: Link::Ethernet, mtu: 9000, prefix: 24 });
        assert_eq!((config.container, config.system), (None, System::default()));
    }

    #[test]
    fn all_of_it_is_read() {
        let config = parse(
            "[network]\nlink = \"roce\"\nmtu = 4096\nprefix = 30\n\
             [container]\nengine = \"toolbox\"\nname = \"vllm\"\nimage = \"docker.io/x/y:latest\"\n\
             [system]\nkernel_arguments = [\"iommu=pt\", \"amdgpu.gttsize=1\"]\n",
        )
        .unwrap();
        assert_eq!(config.network, Network { link: Link::Roce, mtu: 4096, prefix: 30 });
        let container = config.container.unwrap();
        assert_eq!((container.engine, container.name.as_str()), (Engine::Toolbox, "vllm"));
        assert_eq!(config.system.kernel_arguments.unwrap().len(), 2);
    }

    #[test]
    fn values_that_a_shell_could_take_amiss_are_refused() {
        for (table, key) in [
            ("container", "engine = \"podman\"\nname"),
            ("container", "engine = \"podman\"\nname = \"x\"\nimage"),
            ("system", "kernel_arguments"),
        ] {
            for value in ["$(reboot)", "a;b", "a b", "`id`", "-rf", "a\\nb", "'", "\\\"", ""] {
                let value = format!("\"{value}\"");
                let value = if table == "system" { format!("[{value}]") } else { value };
                let error = parse(&format!("[{table}]\n{key} = {value}\n")).unwrap_err();
                assert!(error.starts_with("c.toml:"), "{error}");
            }
        }
        for name in ["a b", "../x", "", "0123456789abcdef", "eth0;id", ".."] {
            let text = NODE.replace("local", &format!("interface = \"{name}\", local"));
            assert!(Config::parse(&text, Path::new("c.toml")).is_err(), "{name}");
        }
    }
}
