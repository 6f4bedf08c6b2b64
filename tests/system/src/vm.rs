//! A virtual machine with real systemd, NetworkManager, firewalld, sshd and grub's tools, by software emulation.
//!
//! The disk is made once from Debian's packages (`guest/make-image.sh`) and kept in `.cache/system-vm`; each machine has
//! a copy. The rig is the boot loader: it starts the kernel with the arguments that the guest's own grub.cfg gives.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use halo_built::workspace;

/// Starting under emulation takes most of a minute, on a busy machine several.
const START: Duration = Duration::from_secs(600);
/// What every start needs in emulation, besides the guest's own arguments.
/// A service that is slow to start is not given up here.
const RIG: &str = "console=ttyS0 mitigations=off tsc=reliable random.trust_cpu=on audit=0 net.ifnames=0 \
                   systemd.default_timeout_start_sec=600";
const MAKE: &str = include_str!("../guest/make-image.sh");

/// A machine: `eth0` is how it is reached, `eth1` is for data.
#[derive(Debug)]
pub struct Vm {
    folder: tempfile::TempDir,
    image: PathBuf,
    port: u16,
    qemu: Option<Child>,
}

/// The folder of the image, made if it is not there or older than its script.
fn image() -> PathBuf {
    let folder = workspace().join(".cache/system-vm");
    fs::create_dir_all(&folder).expect(".cache can be made");
    // Several tests may want it at the same moment; one makes it.
    let lock = fs::File::create(folder.join("lock")).expect("the lock can be made");
    lock.lock().expect("the lock can be had");
    if fs::read_to_string(folder.join("stamp")).is_ok_and(|stamp| stamp == MAKE) {
        return folder;
    }
    let script = workspace().join("tests/system/guest/make-image.sh");
    let made = Command::new("sh").arg(script).arg(&folder).stdin(Stdio::null()).output().expect("sh starts");
    assert!(made.status.success(), "the image cannot be made: {}", String::from_utf8_lossy(&made.stderr));
    fs::write(folder.join("stamp"), MAKE).expect("the stamp can be written");
    folder
}

impl Vm {
    /// A machine that answers ssh, with the kernel arguments of a fresh installation.
    pub fn start() -> Self {
        let image = image();
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let port = halo_fabric::reserve_port(Ipv4Addr::LOCALHOST.into()).expect("a port is free").port();
        let copied = Command::new("cp")
            .arg("--sparse=always")
            .arg(image.join("root.ext4"))
            .arg(folder.path())
            .status();
        assert!(copied.is_ok_and(|status| status.success()), "the disk cannot be copied");
        let mut vm = Self { folder, image, port, qemu: None };
        vm.write_ssh_config();
        vm.boot("root=/dev/vda ro quiet");
        vm
    }

    fn write_ssh_config(&self) {
        let key = fs::read_to_string(self.image.join("host_key.pub")).expect("the image has a host key");
        let (known, port) = (self.folder.path().join("known_hosts"), self.port);
        fs::write(&known, format!("[127.0.0.1]:{port} {key}")).expect("the folder is writable");
        let config = format!(
            "Host vm\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {}\n  StrictHostKeyChecking yes\n",
            self.image.join("user_key").display(),
            known.display()
        );
        fs::write(self.ssh_config(), config).expect("the folder is writable");
    }

    /// For `ssh -F`.
    pub fn ssh_config(&self) -> PathBuf {
        self.folder.path().join("ssh_config")
    }

    /// A place for files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn boot(&mut self, arguments: &str) {
        let image = |name: &str| self.image.join(name).display().to_string();
        let own = |name: &str| self.folder.path().join(name).display().to_string();
        let lan = format!("user,id=lan,restrict=on,hostfwd=tcp:127.0.0.1:{}-:22", self.port);
        let append = format!("{arguments} {RIG}");
        let disk = format!("file={},if=virtio,format=raw,cache=unsafe", own("root.ext4"));
        let serial = format!("file:{}", own("console"));
        let log = fs::File::create(own("qemu.log")).expect("the log can be made");
        // The kernel ends it with this process, however that ends.
        let qemu = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "q35"])
            .args(["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-smp", "2", "-m", "1G"])
            .args(["-kernel", &image("vmlinuz"), "-initrd", &image("initrd"), "-append", &append])
            .args(["-serial", &serial, "-drive", &disk, "-device", "virtio-rng-pci"])
            .args(["-netdev", &lan, "-device", "virtio-net-pci,netdev=lan,romfile="])
            .args(["-netdev", "hubport,id=data,hubid=0"])
            .args(["-device", "virtio-net-pci,netdev=data,romfile="])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.qemu = Some(qemu.expect("setpriv and QEMU are installed"));
        let deadline = Instant::now() + START;
        loop {
            let answer =
                self.ssh("me", "systemctl is-active NetworkManager && systemctl is-active firewalld");
            if answer.status.success() {
                return;
            }
            let ended = self.qemu.as_mut().is_none_or(|qemu| !matches!(qemu.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                let console = fs::read_to_string(own("console")).unwrap_or_default();
                let lines: Vec<_> = console.lines().collect();
                panic!("the machine does not answer: {}", lines[lines.len().saturating_sub(30)..].join("\n"));
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    fn ssh(&self, user: &str, line: &str) -> Output {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.ssh_config()).args([
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=10",
            "-l",
            user,
        ]);
        ssh.args(["vm", line]).stdin(Stdio::null()).output().expect("ssh starts")
    }

    /// A line of sh as root, which must succeed; what it printed.
    pub fn shell(&self, line: &str) -> String {
        let output = self.ssh("me", &format!("sudo sh -c '{line}'"));
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Shuts down in order, and starts with the arguments that grub.cfg now has for the first entry.
    pub fn reboot(&mut self) {
        let line = self.shell("grep -m 1 -E \"^[[:space:]]+linux[[:space:]]\" /boot/grub/grub.cfg");
        let arguments = line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
        // The connection may end before the answer comes.
        let _ = self.ssh("me", "sudo systemctl poweroff");
        let deadline = Instant::now() + START;
        let mut qemu = self.qemu.take().expect("the machine runs");
        while matches!(qemu.try_wait(), Ok(None)) {
            assert!(Instant::now() < deadline, "the machine does not power off");
            thread::sleep(Duration::from_millis(100));
        }
        self.boot(&arguments);
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if let Some(mut qemu) = self.qemu.take() {
            let _ = qemu.kill();
            let _ = qemu.wait();
        }
    }
}
