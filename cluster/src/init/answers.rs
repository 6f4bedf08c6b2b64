//! The shapes of init's flags.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::Engine;

/// `NAME=TARGET[,ADDRESS[,INTERFACE]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAnswer {
    pub name: String,
    /// Where ssh finds it; none for the machine on which this runs.
    pub target: Option<String>,
    pub address: Option<IpAddr>,
    pub interface: Option<String>,
}

/// `ENGINE:NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerAnswer {
    pub engine: Engine,
    pub name: String,
}

impl std::str::FromStr for NodeAnswer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = "expected NAME=TARGET[,ADDRESS[,INTERFACE]], e.g. b=me@board-b or a=local,192.168.100.1";
        let (name, rest) = text.split_once('=').ok_or(shape)?;
        let mut words = rest.split(',');
        let target = words.next().filter(|target| !target.is_empty()).ok_or(shape)?;
        let address = words.next().filter(|word| !word.is_empty());
        let address = address
            .map(|word| word.parse().map_err(|_| format!("`{word}` is no IP address; {shape}")))
            .transpose()?;
        let interface = words.next().filter(|word| !word.is_empty()).map(str::to_owned);
        if name.is_empty() || words.next().is_some() {
            return Err(shape.to_owned());
        }
        let target = (target != "local").then(|| target.to_owned());
        Ok(Self { name: name.to_owned(), target, address, interface })
    }
}

impl std::str::FromStr for ContainerAnswer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = "expected ENGINE:NAME, e.g. toolbox:vllm; engines are podman, docker, toolbox, distrobox";
        let (engine, name) = text.split_once(':').filter(|(_, name)| !name.is_empty()).ok_or(shape)?;
        let engine = <Engine as clap::ValueEnum>::from_str(engine, false).map_err(|_| shape)?;
        Ok(Self { engine, name: name.to_owned() })
    }
}

/// `192.168.100.0/24`.
pub fn network(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let shape = "expected a network like 192.168.100.0/24";
    let (address, prefix) = text.split_once('/').ok_or(shape)?;
    let address = address.parse().map_err(|_| shape)?;
    let prefix = prefix.parse().ok().filter(|prefix| (8..=30).contains(prefix));
    Ok((address, prefix.ok_or("the prefix length of a data network is 8 to 30")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_in_every_form() {
        let read = |text: &str| text.parse::<NodeAnswer>();
        let node = |target: Option<&str>, address: Option<&str>, interface: Option<&str>| NodeAnswer {
            name: "a".to_owned(),
            target: target.map(str::to_owned),
            address: address.map(|text| text.parse().unwrap()),
            interface: interface.map(str::to_owned),
        };
        assert_eq!(read("a=local"), Ok(node(None, None, None)));
        assert_eq!(read("a=me@b"), Ok(node(Some("me@b"), None, None)));
        assert_eq!(read("a=me@b,10.0.0.1"), Ok(node(Some("me@b"), Some("10.0.0.1"), None)));
        assert_eq!(read("a=me@b,,enp1s0"), Ok(node(Some("me@b"), None, Some("enp1s0"))));
        for wrong in ["a", "=b", "a=", "a=b,x", "a=b,10.0.0.1,e,f"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_and_containers_are_checked() {
        assert_eq!(network("192.168.100.0/24"), Ok((Ipv4Addr::new(192, 168, 100, 0), 24)));
        assert!(
            ["192.168.100.0", "x/24", "10.0.0.0/31", "10.0.0.0/x"].iter().all(|text| network(text).is_err())
        );
        let container = "toolbox:vllm".parse::<ContainerAnswer>().unwrap();
        assert_eq!((container.engine, container.name.as_str()), (Engine::Toolbox, "vllm"));
        assert!("lxc:a".parse::<ContainerAnswer>().is_err() && "podman:".parse::<ContainerAnswer>().is_err());
    }
}
