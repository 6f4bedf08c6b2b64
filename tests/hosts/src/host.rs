//! One host: its namespaces, held by its sshd, which is its process 1.

use std::ffi::OsStr;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::HostsError;
use crate::record::{HostRecord, Record, at};
use crate::system::{find, run_words};

/// How long a host may take to answer ssh.
const READY: Duration = Duration::from_secs(20);

/// Process 1 of a host. Everything here is private to it; when sshd ends, the kernel ends the rest.
/// A checkout that lies under /tmp, as a fresh clone may, stays where it is.
/// Arguments: host name, sshd, its configuration, the hosts file, the checkout.
const INIT: &str = r#"
set -eu
mount -t tmpfs -o mode=1777 shm /dev/shm
case "$5" in /tmp/*) mkdir /dev/shm/checkout; mount --rbind "$5" /dev/shm/checkout ;; esac
mount -t tmpfs -o mode=1777 tmp /tmp
case "$5" in /tmp/*) mkdir -p "$5"; mount --move /dev/shm/checkout "$5"; rmdir /dev/shm/checkout ;; esac
mount -t tmpfs -o mode=755 run /run
mount --bind "$4" /etc/hosts
mkdir /run/sshd
hostname "$1" 2>/dev/null || echo "$1" >/proc/sys/kernel/hostname
exec "$2" -D -e -f "$3"
"#;

/// Keys for the hosts and for whoever enters them, and the files that name them.
pub(crate) fn make_keys(record: &Record) -> Result<(), HostsError> {
    let folder = record.folder.display();
    make_key(record, "host_key")?;
    make_key(record, "user_key")?;
    write(
        record,
        "sshd_config",
        &format!(
            "Port 22\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/user_key.pub\nPidFile none\n\
             AuthenticationMethods publickey\nPermitRootLogin prohibit-password\nUsePAM no\nStrictModes no\n\
             UseDNS no\nMaxStartups 100\n"
        ),
    )?;
    let public = record.folder.join("host_key.pub");
    let host_key = fs::read_to_string(&public).map_err(|source| at(&public, source))?;
    let (mut names, mut known, mut config) =
        (String::from("127.0.0.1 localhost\n::1 localhost\n"), String::new(), String::new());
    for host in &record.hosts {
        names += &format!("{} {}\n", host.address, host.name);
        known += &format!("{} {host_key}", host.management);
        config += &format!(
            "Host {}\n  HostName {}\n  User root\n  IdentityFile {folder}/user_key\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {folder}/known_hosts\n  StrictHostKeyChecking yes\n",
            host.name, host.management
        );
    }
    write(record, "hosts", &names)?;
    write(record, "known_hosts", &known)?;
    write(record, "ssh_config", &config)
}

fn make_key(record: &Record, name: &str) -> Result<(), HostsError> {
    let file = record.folder.join(name).display().to_string();
    // An empty passphrase is an argument of its own.
    run_words("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", &record.name, "-f", &file])
}

fn write(record: &Record, name: &str, text: &str) -> Result<(), HostsError> {
    let file = record.folder.join(name);
    fs::write(&file, text).map_err(|source| at(&file, source))
}

/// The workspace these hosts belong to.
fn checkout() -> std::path::PathBuf {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}

/// Starts host `index` and returns its first process.
pub(crate) fn start(record: &Record, index: usize) -> Result<u32, HostsError> {
    let host = &record.hosts[index];
    let log = log_file(record, host);
    let output = fs::File::create(&log).map_err(|source| at(&log, source))?;
    let errors = output.try_clone().map_err(|source| at(&log, source))?;
    // A session of its own: Ctrl-C at the terminal that made the hosts must not end them.
    let mut command = Command::new(find("setsid")?);
    command
        .args([&find("ip")?, "netns", "exec", &host.name, &find("unshare")?])
        .args(["--mount", "--propagation", "private", "--uts", "--ipc", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "sh", "-c", INIT, "init", &host.name, &find("sshd")?])
        .args([record.folder.join("sshd_config"), record.folder.join("hosts")])
        .arg(checkout())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    let mut child = command
        .spawn()
        .map_err(|source| HostsError::Start { command: "setsid ip netns exec".to_owned(), source })?;
    let first = first_process(record, host, &mut child)?;
    thread::spawn(move || child.wait()); // reaps unshare when the host goes
    Ok(first)
}

/// unshare's only child: process 1 inside.
fn first_process(record: &Record, host: &HostRecord, unshare: &mut Child) -> Result<u32, HostsError> {
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let deadline = Instant::now() + READY;
    loop {
        let found = fs::read_to_string(&children).ok();
        if let Some(pid) = found.and_then(|text| text.split_whitespace().next()?.parse().ok()) {
            return Ok(pid);
        }
        if unshare.try_wait().ok().flatten().is_some() || Instant::now() > deadline {
            let log = fs::read_to_string(log_file(record, host)).unwrap_or_default();
            return Err(HostsError::Command { command: "unshare".to_owned(), output: log.trim().to_owned() });
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the host answers a command over ssh.
pub(crate) fn wait_for_ssh(record: &Record, host: &HostRecord) -> Result<(), HostsError> {
    let deadline = Instant::now() + READY;
    loop {
        let output = Command::new(find("ssh")?)
            .arg("-F")
            .arg(record.ssh_config())
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", &host.name, "true"])
            .stdin(Stdio::null())
            .output()
            .map_err(|source| HostsError::Start { command: "ssh".to_owned(), source })?;
        if output.status.success() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(HostsError::NotReady {
                host: host.name.clone(),
                seconds: READY.as_secs(),
                cause: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                log: log_file(record, host).display().to_string(),
            });
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// A command that runs inside `host`.
pub(crate) fn command<S: AsRef<OsStr>>(host: &HostRecord, argv: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("nsenter");
    let pid = host.pid.unwrap_or_default().to_string();
    command.args(["-t", &pid, "--mount", "--uts", "--ipc", "--net", "--pid"]);
    if let Ok(folder) = std::env::current_dir() {
        command.arg(format!("--wdns={}", folder.display()));
    }
    command.arg("--").args(argv);
    command
}

/// Ends every process of every host and waits until they are gone.
pub(crate) fn kill_all(record: &Record) {
    let ours = |pid: u32| is_first_process(record, pid);
    let pids: Vec<_> = record.hosts.iter().filter_map(|host| host.pid).filter(|pid| ours(*pid)).collect();
    for pid in &pids {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    // The kernel ends the rest of a process namespace before its first process counts as gone.
    let deadline = Instant::now() + READY;
    while pids.iter().any(|pid| ours(*pid)) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether `pid` is still the first process of one of these hosts, and not a stranger that got its number.
fn is_first_process(record: &Record, pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(&*record.folder.to_string_lossy())
}

fn log_file(record: &Record, host: &HostRecord) -> std::path::PathBuf {
    record.folder.join(format!("{}.log", host.name))
}
