//! init over ssh: it finds the data interface of each host, and what it writes is what configure and doctor take.

use halo_system::Site;

#[test]
#[ignore = "needs root: makes network namespaces and mounts"]
fn two_hosts_are_found_set_up_and_good() {
    let site = Site::new(2, "rdma0");
    let ssh = format!("--ssh-option={}", site.hosts.ssh_config().display());
    let nodes = [1, 2].map(|number| format!("--node=n{number}={}", site.hosts.host(number).name));
    let flags = ["init", "--force", &nodes[0], &nodes[1], "--model", "/models/m", "--ssh-option=-F", &ssh];
    let ran = site.run(&flags);
    assert_eq!(ran.status, 0, "{ran:?}");
    let text = std::fs::read_to_string(site.config()).unwrap();
    let folder = site.hosts.folder().display().to_string();
    let text = text.replace(&folder, "[HOSTS]");
    let name = site.hosts.host(1).name.rsplit_once('-').unwrap().0.to_owned();
    insta::assert_snapshot!("written", text.replace(&name, "[SET]"));

    let ran = site.run(&["configure", "--apply", "--yes", "--only", "network"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let ran = site.run(&["doctor", "--only", "nic,address,mtu,frames,firewall,routes"]);
    assert_eq!(ran.status, 0, "{ran:?}");

    // What is there already stays when it is written anew, also other addresses than init would choose.
    for number in [1, 2] {
        site.shell(number, "ip address flush dev rdma0");
        site.shell(number, &format!("ip address add 10.9.0.{}/28 dev rdma0", number + 4));
    }
    assert_eq!(site.run(&flags).status, 0);
    let text = std::fs::read_to_string(site.config()).unwrap();
    assert!(["10.9.0.5", "10.9.0.6", "prefix = 28"].iter().all(|words| text.contains(words)), "{text}");
}
