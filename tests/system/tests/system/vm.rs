//! configure on a machine with real systemd, NetworkManager, firewalld, apt and grub's tools: apply, reboot, look, undo.

use std::process::{Command, Stdio};

use halo_built::program;
use halo_system::{Ran, Vm};
use serde_json::Value;

/// What configure is for here.
const CHECKS: &str = "nic,address,mtu,routes,memlock,remove-ipc,kernel-arguments,packages";
/// Everything in /etc but the linker's cache, and every package.
const STATE: &str = "find /etc -type f -not -name ld.so.cache -exec sha256sum {} + | sort -k 2; \
                     find /etc -not -type f -printf \"%y %p %l\\n\" | sort; dpkg-query -W";

struct Site {
    vm: Vm,
    program: std::path::PathBuf,
}

impl Site {
    fn run_as(&self, user: &str, arguments: &[&str]) -> Ran {
        let config = self.vm.folder().join("halo.toml");
        let text = format!(
            "model = \"/models/m\"\n[ssh]\noptions = [\"-F\", \"{}\", \"-o\", \"ServerAliveCountMax=100\"]\n\
             [system]\nkernel_arguments = [\"iommu=pt\", \"pcie_aspm=off\"]\n[timeouts]\nconnect = 60\n\
             [[nodes]]\nname = \"vm\"\nssh = \"{user}@vm\"\naddress = \"192.168.100.1\"\ninterface = \"eth1\"\n",
            self.vm.ssh_config().display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(&self.program);
        let output = command
            .arg(arguments[0])
            .arg(config)
            .args(&arguments[1..])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran {
            status: output.status.code().unwrap(),
            output: text(output.stdout),
            errors: text(output.stderr),
        }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let ran = self.run_as("me", arguments);
        assert_eq!(ran.status, 0, "{}{}", ran.output, ran.errors);
        ran.output
    }

    /// Checks that do not pass.
    fn wrong(&self) -> Vec<String> {
        let ran = self.run_as("me", &["doctor", "--json", "--only", CHECKS]);
        let answer: Value = serde_json::from_str(&ran.output).unwrap_or_else(|_| panic!("{ran:?}"));
        let rows = answer["rows"].as_array().unwrap().iter().filter(|row| row["verdict"] != "pass");
        rows.map(|row| row["check"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
#[ignore = "needs root to make its disk, and QEMU: starts a virtual machine by software emulation, twice"]
fn a_machine_is_set_up_survives_a_reboot_and_is_put_back() {
    let mut site = Site { vm: Vm::start(), program: program("halo-cluster") };
    let before = site.vm.shell(STATE);
    let fresh = ["kernel-arguments", "mtu", "address", "memlock", "remove-ipc", "packages"];
    assert_eq!(site.wrong(), fresh);

    // A user without sudo changes nothing.
    let refused = site.run_as("guest", &["configure", "--apply", "--yes", "--only", "limits"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(
        refused.errors.starts_with("error[HALO-E0741]: root's rights on node vm are refused to guest"),
        "{refused:?}"
    );
    assert_eq!(site.vm.shell(STATE), before);

    let output = site.run(&["configure", "--apply", "--yes"]);
    assert!(
        output.ends_with("reboot vm: new kernel arguments are used from the next start on\n"),
        "{output}"
    );
    // All but the reboot is there at once, for new logins; a user's manager stays a while after the last one.
    site.vm.shell("systemctl stop user@$(id -u me).service");
    assert_eq!(site.wrong(), ["kernel-arguments"]);

    site.vm.reboot();
    assert_eq!(site.wrong(), Vec::<String>::new());
    assert!(site.vm.shell("cat /proc/cmdline").contains(" iommu=pt pcie_aspm=off "));
    assert_eq!(site.vm.shell("firewall-cmd --get-zone-of-interface=eth1"), "trusted");
    assert_ne!(site.vm.shell("firewall-cmd --get-zone-of-interface=eth0 || true"), "trusted");
    // The machine's own network offers no way out; the data network must not seem to be one.
    assert_eq!(site.vm.shell("ip route show default"), "");
    assert_eq!(site.run(&["configure", "--apply", "--yes"]), "vm: nothing to change\n");

    site.run(&["configure", "--undo", "--yes"]);
    assert_eq!(site.vm.shell(STATE), before);
    assert!(!site.vm.shell("nmcli -t -f NAME connection show").lines().any(|name| name == "halo"));
    assert!(!site.vm.shell("cat /boot/grub/grub.cfg").contains("pcie_aspm"));
    let wrong = site.wrong();
    // The running kernel keeps its arguments until the next start.
    assert_eq!(wrong, fresh[1..], "{wrong:?}");
}
