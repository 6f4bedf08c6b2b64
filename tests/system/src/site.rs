//! Namespace hosts that may be changed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use halo_built::{program, scratch, workspace};
use halo_hosts::Hosts;

/// Run on each host: what is changed under /etc, /var/lib and /usr/local/bin stays in the host's own /run.
const DRESS: &str = r#"
set -eu
for folder in etc var/lib usr/local/bin; do
  mkdir -p "/run/layers/$folder/upper" "/run/layers/$folder/work"
  mount -t overlay overlay -o "lowerdir=/$folder,upperdir=/run/layers/$folder/upper,workdir=/run/layers/$folder/work" "/$folder"
done
mkdir /run/double
for tool in grubby dnf rpm systemctl nmcli; do install -m 755 "$1/double" "/usr/local/bin/$tool"; done
rm -f /etc/os-release
printf 'ID=fedora\nVERSION_ID=43\nPRETTY_NAME="Fedora Linux 43 (double)"\n' >/etc/os-release
printf 'ro\nquiet\niommu=soft\n' >/run/double/grubby
printf 'bash\n' >/run/double/packages
mkdir -p /etc/NetworkManager/system-connections
ip address flush dev rdma0
ip link set rdma0 mtu 1500
cat >/run/list <<'LIST'
find /etc -type f -exec sha256sum {} + | sort -k2; find /etc -not -type f -printf '%y %p %l\n' | sort
LIST
sh /run/list >/run/before
"#;

/// Hosts dressed as Fedora out of the box: no data address, MTU 1500.
pub struct Site {
    /// The hosts.
    pub hosts: Hosts,
    program: PathBuf,
    /// Outside /tmp, of which every host has its own.
    folder: tempfile::TempDir,
}

/// What a command of halo-cluster printed, and its exit status.
#[derive(Debug)]
pub struct Ran {
    /// The exit status.
    pub status: i32,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Site {
    /// Hosts, of which halo-cluster knows `interface` as that of the data network.
    pub fn new(count: usize, interface: &str) -> Self {
        let hosts = Hosts::up(count).expect("hosts come up");
        let doubles = workspace().join("tests/system/doubles");
        for number in 1..=count {
            let words = ["sh", "-c", DRESS, "dress", doubles.to_str().expect("the checkout's path is text")];
            let output = hosts.exec(number, words).expect("the host runs a shell");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let folder = tempfile::tempdir_in(scratch()).expect("target/tmp is writable");
        let site = Self { hosts, program: program("halo-cluster"), folder };
        let mut text = format!(
            "model = \"/models/m\"\n[ssh]\noptions = [\"-F\", \"{}\"]\n\
             [system]\nkernel_arguments = [\"iommu=pt\", \"pcie_aspm=off\"]\n",
            site.hosts.ssh_config().display()
        );
        for number in 1..=count {
            let host = site.hosts.host(number);
            text += &format!(
                "[[nodes]]\nname = \"n{number}\"\nssh = \"{}\"\naddress = \"{}\"\ninterface = \"{interface}\"\n",
                host.name, host.address
            );
        }
        std::fs::write(site.config(), text).expect("the folder is writable");
        site
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("halo.toml")
    }

    /// Adds lines at the configuration's beginning.
    pub fn prepend(&self, lines: &str) {
        let text = std::fs::read_to_string(self.config()).expect("the configuration is there");
        std::fs::write(self.config(), format!("{lines}\n{text}")).expect("the folder is writable");
    }

    /// A command of halo-cluster with this configuration, and a state of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(arguments[0]).arg(self.config()).args(&arguments[1..]).stdin(Stdio::null());
        command.env("XDG_STATE_HOME", self.folder.path().join("state"));
        command
    }

    /// Runs a command of halo-cluster with this configuration.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Self::ran(&mut self.command(arguments))
    }

    /// A command line as a user would type it, where the configuration lies.
    pub fn line(&self, line: &str) -> Ran {
        let place = |path: &Path| path.parent().expect("it lies in a folder").to_owned();
        let path = std::env::var("PATH").expect("there is a PATH");
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(place(&self.config())).stdin(Stdio::null());
        command.env("XDG_STATE_HOME", self.folder.path().join("state"));
        Self::ran(command.env("PATH", format!("{}:{path}", place(&self.program).display())))
    }

    fn ran(command: &mut Command) -> Ran {
        let output = command.output().expect("it starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
        Ran {
            status: output.status.code().expect("it is not killed"),
            output: text(output.stdout),
            errors: text(output.stderr),
        }
    }

    /// The same, in the background.
    pub fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("halo-cluster starts")
    }

    /// A line of sh on a host, which must succeed; what it printed.
    pub fn shell(&self, number: usize, line: &str) -> String {
        let output = self.hosts.exec(number, ["sh", "-c", line]).expect("the host runs a shell");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// How the doubles were called on a host, without the questions.
    pub fn calls(&self, number: usize) -> String {
        self.shell(number, "cat /run/double/log 2>/dev/null || true")
    }

    /// What differs in /etc from before, and what is left of configure's own folder.
    pub fn changes(&self, number: usize) -> String {
        let etc = "sh /run/list | diff /run/before - || true";
        let own = "ls /var/lib/halo-cluster 2>/dev/null | grep -v '^lock$' || true";
        self.shell(number, &format!("{etc}; {own}"))
    }
}
