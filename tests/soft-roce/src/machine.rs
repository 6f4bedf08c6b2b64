//! One virtual machine: its folder, its QEMU process, its output.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use crate::error::Error;
use crate::image::Image;
use crate::rig::Rig;

/// What a machine prints, line by line.
pub(crate) struct Line {
    pub(crate) machine: usize,
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) struct Machine {
    folder: PathBuf,
    qemu: Child,
    readers: Vec<JoinHandle<()>>,
}

const STAGE2: &str = include_str!("../guest/stage2.sh");

impl Machine {
    pub(crate) fn start(
        rig: &Rig,
        image: &Image,
        shared: &Path,
        index: usize,
        count: usize,
        command: &str,
        lines: &Sender<Line>,
    ) -> Result<Self, Error> {
        let folder = shared.join(index.to_string());
        let io = |what: &str| Error::system(format!("{what} for machine {index}"));
        fs::create_dir(&folder).map_err(io("making the folder"))?;
        fs::write(folder.join("stage2.sh"), STAGE2).map_err(io("writing the start script"))?;
        fs::write(folder.join("command"), command).map_err(io("writing the command"))?;
        fs::write(folder.join("environment"), environment(rig, index, count))
            .map_err(io("writing the environment"))?;
        let readers = ["out", "err"]
            .map(|name| {
                let path = folder.join(name);
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &path,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
                    0,
                )
                .map_err(|error| io("making a pipe")(error.into()))?;
                Ok(read_lines(path, index, lines.clone()))
            })
            .into_iter()
            .collect::<Result<_, Error>>()?;
        let log = File::create(folder.join("qemu.log")).map_err(io("making the log"))?;
        // The kernel ends it with this process, however that ends.
        let qemu = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(arguments(rig, image, &folder, shared, index, count))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(io("starting QEMU"))?;
        Ok(Self { folder, qemu, readers })
    }

    /// Whether it has powered off.
    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.qemu.try_wait(), Ok(None))
    }

    /// Whether its kernel has given up. It should power off then, but an emulated processor that has failed may not.
    pub(crate) fn panicked(&self) -> bool {
        let console = fs::read(self.folder.join("console")).unwrap_or_default();
        String::from_utf8_lossy(&console).contains("Kernel panic")
    }

    /// The command's exit status, if it came to an end.
    pub(crate) fn status(&self) -> Option<i32> {
        fs::read_to_string(self.folder.join("status")).ok()?.trim().parse().ok()
    }

    /// The last lines of the console and of QEMU's own log.
    pub(crate) fn console(&self) -> String {
        let read = |name: &str| fs::read(self.folder.join(name)).unwrap_or_default();
        let text = [read("console"), read("qemu.log")].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// What the kernel complained of, if it did.
    pub(crate) fn kernel_complaints(&self) -> Vec<String> {
        let console = fs::read(self.folder.join("console")).unwrap_or_default();
        let signs = ["Kernel panic", "BUG:", "Oops", "Call Trace", "soft lockup", "hung task"];
        String::from_utf8_lossy(&console)
            .lines()
            .filter(|line| signs.iter().any(|sign| line.contains(sign)))
            .map(str::to_owned)
            .collect()
    }

    /// Ends it and lets the last lines through.
    pub(crate) fn stop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        // A QEMU that refused its arguments never opened its ends; readers that still wait for that are let go.
        for name in ["out", "err"] {
            let _ = File::options().read(true).write(true).open(self.folder.join(name));
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

fn read_lines(path: PathBuf, machine: usize, lines: Sender<Line>) -> JoinHandle<()> {
    // Opening waits for QEMU to open its end, and reading ends when QEMU closes it.
    std::thread::spawn(move || {
        let Ok(pipe) = File::open(path) else { return };
        let mut reader = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if lines.send(Line { machine, text }).is_err() {
                return;
            }
        }
    })
}

fn environment(rig: &Rig, index: usize, count: usize) -> String {
    let peer = if count > 1 { index ^ 1 } else { index };
    let mut text = format!(
        "export RANK={index} WORLD={count} ADDRESS=192.168.100.{} PEER=192.168.100.{} RIG_MTU={} RIG_CABLES={}\n",
        index + 1,
        peer + 1,
        rig.mtu,
        rig.cables
    );
    for (name, value) in &rig.environment {
        text += &format!("export {name}='{}'\n", value.replace('\'', r"'\''"));
    }
    text
}

fn arguments(
    rig: &Rig,
    image: &Image,
    folder: &Path,
    shared: &Path,
    index: usize,
    count: usize,
) -> Vec<String> {
    let cable = |number: u32| {
        if count == 1 {
            return format!("hubport,id=cable{number},hubid={number}");
        }
        let socket = |index: usize| shared.join(format!("cable{number}.{index}")).display().to_string();
        let (ours, theirs) = (socket(index), socket(index ^ 1));
        format!(
            "dgram,id=cable{number},local.type=unix,local.path={ours},remote.type=unix,remote.path={theirs}"
        )
    };
    let kernel_line = "console=ttyS0 panic=-1 oops=panic quiet loglevel=5 mitigations=off nokaslr no_timer_check \
                       tsc=reliable random.trust_cpu=on audit=0 net.ifnames=0";
    let file = |name: &str| folder.join(name).display().to_string();
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "q35"]);
    add(&["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,-erms"]);
    // The processors of one package lie on one node.
    let packages = if rig.two_nodes { rig.vcpus } else { 1 };
    add(&["-smp", &format!("{},sockets={packages}", rig.vcpus), "-m", &rig.memory]);
    if rig.two_nodes {
        for node in ["0", "1"] {
            add(&["-object", &format!("memory-backend-ram,id=node{node},size=512M")]);
            add(&["-numa", &format!("node,nodeid={node},cpus={node},memdev=node{node}")]);
        }
    }
    add(&["-kernel", &image.kernel.display().to_string(), "-initrd", &image.initramfs.display().to_string()]);
    add(&["-append", kernel_line, "-serial", &format!("file:{}", file("console"))]);
    add(&["-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"]);
    add(&["-device", "virtio-9p-pci,fsdev=root,mount_tag=machine"]);
    add(&["-fsdev", &format!("local,id=rig,path={},security_model=none,multidevs=remap", folder.display())]);
    add(&["-device", "virtio-9p-pci,fsdev=rig,mount_tag=rig", "-device", "virtio-rng-pci"]);
    for number in 0..rig.cables {
        add(&["-netdev", &cable(number)]);
        let mac = format!("52:54:00:12:{:02x}:{:02x}", 0x34 + number, index + 1);
        let device = format!("virtio-net-pci,netdev=cable{number},mac={mac},host_mtu={},romfile=", rig.mtu);
        add(&["-device", &device]);
    }
    add(&["-device", "virtio-serial-pci"]);
    for name in ["out", "err"] {
        add(&["-chardev", &format!("file,id={name},path={}", file(name))]);
        add(&["-device", &format!("virtserialport,chardev={name},name={name}")]);
    }
    arguments
}
