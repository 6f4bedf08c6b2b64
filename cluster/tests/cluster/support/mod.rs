//! A launcher of its own for every test: state folder, port, model, and a Python with stand-ins.

pub mod terminal;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Hang guard of every wait; nothing is measured with it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Rig {
    pub folder: tempfile::TempDir,
    pub port: u16,
}

/// What the launched processes said is the only trace of a failure that does not come again.
impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for log in fs::read_dir(self.path("state/halo-cluster/logs")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(log.path()).unwrap_or_default();
            eprintln!("--- {}\n{text}", log.path().display());
        }
    }
}

impl Rig {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = halo_fabric::reserve_port(Ipv4Addr::LOCALHOST.into()).unwrap().port();
        let rig = Self { folder, port };
        rig.python(&["ray", "vllm", "halo"]);
        fs::create_dir(rig.path("model")).unwrap();
        fs::write(rig.path("model/config.json"), "{}").unwrap();
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A Python that finds these stand-ins and nothing else.
    pub fn python(&self, modules: &[&str]) {
        let stand_ins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_ins");
        let path = modules
            .iter()
            .map(|name| stand_ins.join(name).display().to_string())
            .collect::<Vec<_>>()
            .join(":");
        let script = format!("export PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1\nexec python3 -S \"$@\"\n");
        self.script("python", &script);
    }

    /// A configuration of one local node with two ranks, and `more` after it.
    pub fn config(&self, more: &str) -> PathBuf {
        let text = format!(
            "model = \"{}\"\ntransport = \"shm\"\nhost = \"127.0.0.1\"\nport = {}\npython = \"{}\"\n\
             [[nodes]]\nname = \"a\"\nlocal = true\naddress = \"127.0.0.1\"\nranks = 2\n{more}",
            self.path("model").display(),
            self.port,
            self.path("python").display(),
        );
        self.write("cluster.toml", &text)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halo-cluster"));
        command
            .args(arguments)
            .env("XDG_STATE_HOME", self.path("state"))
            .env_remove("VIRTUAL_ENV")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Exit status, standard output and standard error, with what differs from run to run named.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        self.finish(&mut self.command(arguments))
    }

    pub fn finish(&self, command: &mut Command) -> (i32, String, String) {
        let mut child = command.spawn().unwrap();
        let errors = child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || read(errors));
        let output = read(child.stdout.take().unwrap());
        let status = child.wait().unwrap().code().unwrap();
        (status, self.settle(&output), self.settle(&reader.join().unwrap()))
    }

    /// [`Rig::failure`] where ssh fails with `message`.
    pub fn failure_with_ssh(&self, message: &str, config: &Path) -> String {
        self.program("ssh", &format!("echo '{message}' >&2\nexit 255\n"));
        let mut command = self.command(&["launch", config.to_str().unwrap()]);
        self.refused(self.finish(command.env("PATH", self.path_with_programs())))
    }

    /// A program that stands before others of its name on [`Rig::path_with_programs`].
    pub fn program(&self, name: &str, script: &str) {
        fs::create_dir_all(self.path("bin")).unwrap();
        self.script(&format!("bin/{name}"), script);
    }

    pub fn path_with_programs(&self) -> String {
        format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap())
    }

    /// A command with an ssh of its own on PATH.
    pub fn command_with_ssh(&self, script: &str, arguments: &[&str]) -> std::process::Output {
        fs::create_dir_all(self.path("bin")).unwrap();
        self.script("bin/ssh", script);
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        self.command(arguments).env("PATH", path).output().unwrap()
    }

    /// Written by a process of its own: a program that another test starts meanwhile would hold a file that this one has
    /// open, and what is open for writing cannot be executed.
    fn script(&self, name: &str, text: &str) {
        let mut install = Command::new("install");
        install.args(["-m", "755", "/dev/stdin"]).arg(self.path(name)).stdin(Stdio::piped());
        let mut child = install.spawn().unwrap();
        write!(child.stdin.take().unwrap(), "#!/bin/sh\n{text}").unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// `launch` on a configuration that must fail; its error without the progress before and after.
    pub fn failure(&self, config: &Path) -> String {
        self.refused(self.run(&["launch", config.to_str().unwrap()]))
    }

    fn refused(&self, (status, output, errors): (i32, String, String)) -> String {
        assert_eq!(status, 1, "{output}{errors}");
        assert_eq!(self.left(), Vec::<String>::new());
        let keep = |line: &&str| !line.starts_with("ok ") && !line.starts_with("failed ");
        errors.lines().filter(keep).collect::<Vec<_>>().join("\n")
    }

    fn settle(&self, text: &str) -> String {
        text.replace(self.folder.path().to_str().unwrap(), "[DIR]").replace(&self.port.to_string(), "[PORT]")
    }

    /// Starts `launch` in the foreground and waits until it serves.
    pub fn serve(&self, config: &Path) -> Served {
        let mut child = self.command(&["launch", config.to_str().unwrap()]).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("Stop: Ctrl-C") {
            assert_ne!(
                output.read_line(&mut text).unwrap(),
                0,
                "{text}{}",
                read(child.stderr.take().unwrap())
            );
        }
        Served { child, output: text }
    }

    pub fn status(&self) -> serde_json::Value {
        let (status, output, _) = self.run(&["status", "--json"]);
        assert_eq!(status, 0);
        serde_json::from_str(&output).unwrap()
    }

    /// No process and no folder of a launch is left.
    pub fn assert_nothing_is_left(&self) {
        assert_eq!(self.left(), Vec::<String>::new());
        let folder = format!("/tmp/halo-{}", self.status()["launch"]["launch"].as_str().unwrap());
        assert!(!Path::new(&folder).exists(), "{folder}");
    }

    /// Processes that were started by this rig's launcher: all inherit its state folder.
    pub fn left(&self) -> Vec<String> {
        processes(&format!("XDG_STATE_HOME={}", self.path("state").display()))
    }

    pub fn wait_until_nothing_is_left(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.left().is_empty() {
            assert!(Instant::now() < deadline, "left: {:?}", self.left());
            std::thread::yield_now();
        }
    }
}

/// A launch that serves.
pub struct Served {
    pub child: Child,
    pub output: String,
}

impl Served {
    pub fn signal(&self, signal: &str) {
        kill(u64::from(self.child.id()), signal);
    }

    /// Waits for its end; exit status (none after a signal) and standard error.
    pub fn end(mut self) -> (Option<i32>, String) {
        let errors = read(self.child.stderr.take().unwrap());
        (self.child.wait().unwrap().code(), errors)
    }
}

pub fn kill(pid: u64, signal: &str) {
    assert!(Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap().success());
}

pub fn read(mut pipe: impl Read) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).unwrap();
    text
}

/// Command lines of the processes that have `variable` (NAME=value) in their environment: `PID words`.
pub fn processes(variable: &str) -> Vec<String> {
    let read = |pid: &str, file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|pid| pid.chars().all(|c| c.is_ascii_digit()))
        .filter(|pid| read(pid, "environ").split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes()))
        .map(|pid| format!("{pid} {}", String::from_utf8_lossy(&read(&pid, "cmdline")).replace('\0', " ")))
        .collect()
}

/// The answer to a POST, status line included.
pub fn post(port: u16, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    read(stream)
}
