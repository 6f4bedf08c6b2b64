//! configure on two hosts over ssh: what it changes, what it calls, and what is left after an undo.

use halo_system::{Ran, Site};

fn good(ran: &Ran) -> &str {
    assert_eq!(ran.status, 0, "{}{}", ran.output, ran.errors);
    &ran.output
}

/// The verdicts of doctor's rows for one check, by node.
fn verdicts(site: &Site, check: &str) -> Vec<String> {
    let ran = site.run(&["doctor", "--json", "--only", check]);
    let answer: serde_json::Value = serde_json::from_str(&ran.output).unwrap_or_else(|_| panic!("{ran:?}"));
    let rows = answer["rows"].as_array().unwrap();
    rows.iter()
        .map(|row| format!("{} {}", row["verdict"].as_str().unwrap(), row["found"].as_str().unwrap()))
        .collect()
}

#[test]
#[ignore = "needs root: makes network namespaces and mounts"]
fn two_fedoras_are_set_up_and_put_back() {
    let site = Site::new(2, "rdma0");
    // Shown, not done.
    let ran = site.run(&["configure"]);
    insta::assert_snapshot!("shown", good(&ran));
    assert_eq!((site.changes(1), site.calls(1)), (String::new(), String::new()));

    good(&site.run(&["configure", "--apply", "--yes"]));
    insta::assert_snapshot!("calls_of_apply", site.calls(1));
    assert_eq!(site.calls(1), site.calls(2));
    assert_eq!(site.shell(1, "cat /run/double/grubby"), "ro\nquiet\niommu=pt\npcie_aspm=off");
    assert_eq!(site.shell(1, "stat -c %a /etc/NetworkManager/system-connections/halo.nmconnection"), "600");
    // The network is really there: doctor tries it.
    for check in ["mtu", "address", "frames", "firewall"] {
        let found = verdicts(&site, check);
        assert!(found.len() == 2 && found.iter().all(|row| row.starts_with("pass")), "{check}: {found:?}");
    }

    // A second time there is nothing to do.
    assert_eq!(
        good(&site.run(&["configure", "--apply", "--yes"])),
        "n1: nothing to change\nn2: nothing to change\n"
    );

    site.shell(1, "rm /run/double/log");
    good(&site.run(&["configure", "--undo", "--yes"]));
    insta::assert_snapshot!("calls_of_undo", site.calls(1));
    assert_eq!((site.changes(1), site.changes(2)), (String::new(), String::new()));
    assert_eq!(site.shell(1, "cat /run/double/grubby"), "ro\nquiet\niommu=soft");
    assert_eq!(site.shell(1, "cat /run/double/packages"), "bash");
    assert_eq!(good(&site.run(&["configure", "--undo", "--yes"])), "there is nothing to take back\n");
}

#[test]
#[ignore = "needs root: makes network namespaces and mounts"]
fn a_run_killed_in_the_midst_of_a_step_is_said_continued_and_taken_back() {
    for then in ["--apply", "--undo"] {
        let site = Site::new(1, "rdma0");
        site.shell(1, "mkfifo /run/double/started /run/double/go && echo grubby >/run/double/block");
        let run = site.start(&["configure", "--apply", "--yes"]);
        // grubby runs: what is to be done is in the journal. Now everything of the run goes.
        assert_eq!(site.shell(1, "timeout 120 cat /run/double/started"), "started");
        let pids = site.hosts.processes(1).unwrap();
        for (pid, _) in
            pids.iter().filter(|(_, words)| words.contains("python3 -u -c") || words.contains("grubby"))
        {
            site.shell(1, &format!("kill -9 {pid}"));
        }
        let output = run.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(
            errors.contains("error[HALO-E0745]: the step `kernel-arguments` failed on node n1"),
            "{errors}"
        );
        site.shell(1, "rm /run/double/block");

        let shown = site.run(&["configure"]);
        let said =
            "n1: an earlier run was interrupted in the step `start the kernel with iommu=pt pcie_aspm=off`";
        assert!(good(&shown).starts_with(said), "{}", shown.output);
        good(&site.run(&["configure", then, "--yes"]));
        if then == "--apply" {
            assert_eq!(site.shell(1, "cat /run/double/grubby"), "ro\nquiet\niommu=pt\npcie_aspm=off");
            good(&site.run(&["configure", "--undo", "--yes"]));
        }
        assert_eq!(site.changes(1), "");
        assert_eq!(site.shell(1, "cat /run/double/grubby | sort"), "iommu=soft\nquiet\nro");
    }
}

#[test]
#[ignore = "needs root: makes network namespaces and mounts"]
fn what_someone_else_changed_is_not_overwritten() {
    let site = Site::new(1, "rdma0");
    good(&site.run(&["configure", "--apply", "--yes", "--only", "limits"]));
    site.shell(1, "cp -a /etc/security/limits.d/90-halo.conf /run/kept && echo mine >>/etc/security/limits.d/90-halo.conf");
    let ran = site.run(&["configure", "--undo", "--yes"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let said = "error[HALO-E0744]: what was changed on node n1 cannot be taken back: \
                /etc/security/limits.d/90-halo.conf was changed by someone else since";
    assert!(ran.errors.starts_with(said), "{}", ran.errors);
    assert!(site.shell(1, "tail -1 /etc/security/limits.d/90-halo.conf").ends_with("mine"));
    site.shell(1, "cp -a /run/kept /etc/security/limits.d/90-halo.conf");
    good(&site.run(&["configure", "--undo", "--yes"]));
    assert_eq!(site.changes(1), "");
}

#[test]
#[ignore = "needs root: makes network namespaces and mounts"]
fn what_must_not_be_changed_is_refused_before_anything_is() {
    // The interface by which ssh comes in.
    let site = Site::new(2, "eth0");
    let ran = site.run(&["configure", "--apply", "--yes"]);
    let said = "error[HALO-E0740]: interface eth0 of node n1 is the one by which the node is reached";
    assert!(ran.status == 1 && ran.errors.starts_with(said), "{ran:?}");
    // A node that cannot be reached.
    site.shell(2, "ip link set eth0 down");
    let ran = site.run(&["configure", "--apply", "--yes", "--only", "limits"]);
    assert!(ran.status == 1 && ran.errors.starts_with("error[HALO-E0611]: node n2"), "{ran:?}");
    assert_eq!(site.changes(1), "");
    // No terminal to ask at, no such node.
    let ran = site.run(&["configure", "--apply", "--only", "limits", "--node", "n1"]);
    assert!(ran.status == 1 && ran.errors.contains("error[HALO-E0747]"), "{ran:?}");
    let ran = site.run(&["configure", "--node", "n3"]);
    assert!(ran.errors.starts_with("error[HALO-E0748]: there is no node `n3`; there are n1, n2"), "{ran:?}");
    assert_eq!(site.changes(1), "");
}

#[test]
#[ignore = "needs root: makes network namespaces and mounts"]
fn a_full_disk_stops_before_the_change_and_can_be_continued() {
    let site = Site::new(1, "rdma0");
    site.shell(1, "mkdir -p /var/lib/halo-cluster && mount -t tmpfs -o size=12k tmpfs /var/lib/halo-cluster");
    site.shell(
        1,
        "mkdir /var/lib/halo-cluster/backup; head -c 1M /dev/zero >/var/lib/halo-cluster/filler || true",
    );
    let ran = site.run(&["configure", "--apply", "--yes", "--only", "limits"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.errors.contains("No space left on device"), "{}", ran.errors);
    assert_eq!(site.shell(1, "ls /etc/security/limits.d | grep -c halo || true"), "0");
    site.shell(1, "rm /var/lib/halo-cluster/filler");
    good(&site.run(&["configure", "--apply", "--yes", "--only", "limits"]));
    good(&site.run(&["configure", "--undo", "--yes"]));
    assert_eq!(site.changes(1), "");
}

#[test]
#[ignore = "needs root: makes network namespaces and mounts"]
fn a_user_without_sudo_changes_nothing() {
    let site = Site::new(1, "rdma0");
    // In the host's own /etc.
    site.shell(1, "useradd --no-create-home --home-dir /tmp --shell /bin/sh --password '*' guest");
    let before = site.changes(1);
    let name = &site.hosts.host(1).name;
    let text = std::fs::read_to_string(site.config()).unwrap();
    let text = text.replace(&format!("ssh = \"{name}\""), &format!("ssh = \"guest@{name}\""));
    std::fs::write(site.config(), text).unwrap();
    let ran = site.run(&["configure", "--apply", "--yes", "--only", "limits"]);
    let said = "error[HALO-E0741]: root's rights on node n1 are refused to guest";
    assert!(ran.status == 1 && ran.errors.starts_with(said), "{ran:?}");
    assert_eq!(site.changes(1), before);
}
