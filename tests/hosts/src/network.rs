//! The two networks: management, a bridge on the machine itself; data, a switch that only the hosts reach.

use crate::error::HostsError;
use crate::record::{HostRecord, Record};
use crate::system::run;

/// The data interface on every host, as a NIC's name would be.
const DATA: &str = "rdma0";

/// How many management networks there can be on one machine.
const NETWORKS: u8 = 250;

/// The bridge of the management network, on the machine itself. Interface names have 15 characters at most, so they
/// are made from the subnet, not from the name.
fn bridge_of(subnet: u8) -> String {
    format!("hh{subnet}")
}

fn bridge(record: &Record) -> String {
    bridge_of(record.subnet)
}

/// Makes the bridge of a management network that nobody on this machine has, and returns the network's number. The
/// kernel decides whose it is: it sees the bridges of others even where their records are out of sight.
pub(crate) fn claim_bridge() -> Result<u8, HostsError> {
    for subnet in 1..=NETWORKS {
        match run("ip", &format!("link add {} type bridge", bridge_of(subnet))) {
            Ok(()) => return Ok(subnet),
            Err(HostsError::Command { output, .. }) if output.contains("File exists") => {}
            Err(error) => return Err(error),
        }
    }
    Err(HostsError::Name {
        name: format!("{}-{}", bridge_of(1), bridge_of(NETWORKS)),
        cause: "all 250 management networks are taken".to_owned(),
        help: "take hosts down with `hosts down --all`".to_owned(),
    })
}

/// The namespace that holds the switch of the data network.
fn switch(record: &Record) -> String {
    format!("{}-switch", record.name)
}

pub(crate) fn create(record: &Record) -> Result<(), HostsError> {
    let (bridge, switch, subnet) = (bridge(record), switch(record), record.subnet);
    run("ip", &format!("address add 10.77.{subnet}.254/24 dev {bridge}"))?;
    run("ip", &format!("link set {bridge} up"))?;
    run("ip", &format!("netns add {switch}"))?;
    run("ip", &format!("-n {switch} link add data type bridge"))?;
    run("ip", &format!("-n {switch} link set data mtu 9000 up"))?;
    for (number, host) in (1..).zip(&record.hosts) {
        let name = &host.name;
        run("ip", &format!("netns add {name}"))?;
        run("ip", &format!("-n {name} link set lo up"))?;

        run("ip", &format!("link add {bridge}-{number} type veth peer name eth0 netns {name}"))?;
        run("ip", &format!("link set {bridge}-{number} master {bridge} up"))?;
        run("ip", &format!("-n {name} address add {}/24 dev eth0", host.management))?;
        run("ip", &format!("-n {name} link set eth0 up"))?;
        // Ray finds no address of its own without a default route.
        run("ip", &format!("-n {name} route add default via 10.77.{subnet}.254"))?;

        run(
            "ip",
            &format!(
                "-n {switch} link add port{number} mtu 9000 type veth peer name {DATA} mtu 9000 netns {name}"
            ),
        )?;
        run("ip", &format!("-n {switch} link set port{number} master data up"))?;
        run("ip", &format!("-n {name} address add {}/24 dev {DATA}", host.address))?;
        run("ip", &format!("-n {name} link set {DATA} up"))?;
    }
    Ok(())
}

pub(crate) fn set_data_link(host: &HostRecord, up: bool) -> Result<(), HostsError> {
    run("ip", &format!("-n {} link set {DATA} {}", host.name, if up { "up" } else { "down" }))
}

/// Removes what exists. What does not is not an error: creation may have stopped half-way.
pub(crate) fn remove(record: &Record) {
    for host in &record.hosts {
        let _ = run("ip", &format!("netns delete {}", host.name));
    }
    let _ = run("ip", &format!("netns delete {}", switch(record)));
    for number in 1..=record.hosts.len() {
        // The kernel removes a veth with its peer's namespace, but a little later; the name may be wanted at once.
        let _ = run("ip", &format!("link delete {}-{number}", bridge(record)));
    }
    let _ = run("ip", &format!("link delete {}", bridge(record)));
}
