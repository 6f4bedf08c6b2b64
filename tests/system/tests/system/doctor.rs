//! doctor on four hosts: what is wrong between them is tried, not guessed.

use halo_system::Site;
use serde_json::Value;

/// Rows of these checks that are not as they should be: check, node, what was found.
fn wrong(site: &Site, only: &str) -> Vec<(String, String, String)> {
    let ran = site.run(&["doctor", "--json", "--only", only]);
    let answer: Value = serde_json::from_str(&ran.output).unwrap_or_else(|_| panic!("{ran:?}"));
    let rows = answer["rows"].as_array().unwrap().iter().filter(|row| row["verdict"] != "pass");
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let wrong: Vec<_> = rows.map(|row| (text(row, "check"), text(row, "node"), text(row, "found"))).collect();
    assert_eq!(ran.status == 0, wrong.is_empty(), "{ran:?}");
    wrong
}

fn row(check: &str, node: &str, found: &str) -> (String, String, String) {
    (check.to_owned(), node.to_owned(), found.to_owned())
}

#[test]
#[ignore = "needs root: makes network namespaces and mounts"]
fn what_is_wrong_between_four_hosts_is_found_on_the_right_ones() {
    const ALL: &str = "ssh,cable,mtu,frames,address,routes,firewall,clock";
    let site = Site::new(4, "rdma0");
    for number in 1..=4 {
        site.shell(
            number,
            &format!("ip link set rdma0 mtu 9000; ip address add 192.168.100.{number}/24 dev rdma0"),
        );
    }
    assert_eq!(wrong(&site, ALL), []);

    // A switch port with a small MTU: no interface shows it.
    let switch = format!("{}-switch", site.hosts.host(1).name.rsplit_once('-').unwrap().0);
    let ip = |words: &[&str]| {
        let done = std::process::Command::new("ip").args(["-n", &switch]).args(words).status();
        assert!(done.unwrap().success(), "ip {words:?}");
    };
    ip(&["link", "set", "port2", "mtu", "1500"]);
    let found = "frames of 9000 bytes do not reach n2, small ones do";
    let from_2 = "frames of 9000 bytes do not reach n1, n3, n4, small ones do";
    assert_eq!(
        wrong(&site, ALL),
        [
            row("frames", "n1", found),
            row("frames", "n2", from_2),
            row("frames", "n3", found),
            row("frames", "n4", found)
        ]
    );
    ip(&["link", "set", "port2", "mtu", "9000"]);

    // A host that does not answer another one.
    site.shell(3, "ip route add blackhole 192.168.100.1/32");
    let wrong_now = wrong(&site, ALL);
    let firewall = |node: &str, peer: &str| {
        wrong_now.iter().any(|row| row.0 == "firewall" && row.1 == node && row.2.contains(peer))
    };
    assert!(firewall("n1", "n3") && firewall("n3", "n1"), "{wrong_now:?}");
    assert!(!firewall("n1", "n2") && !firewall("n2", "n3"), "{wrong_now:?}");
    site.shell(3, "ip route delete blackhole 192.168.100.1/32");

    // The cable of one host, and the ssh of another.
    site.hosts.set_data_link(4, false).unwrap();
    site.shell(2, "ip link set eth0 down");
    let wrong_now = wrong(&site, ALL);
    let has = |check: &str, node: &str| wrong_now.iter().any(|row| row.0 == check && row.1 == node);
    assert!(has("ssh", "n2") && has("cable", "n4") && has("frames", "n1"), "{wrong_now:?}");
    assert!(!has("cable", "n1"), "{wrong_now:?}");
}
