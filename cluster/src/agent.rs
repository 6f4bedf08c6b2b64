//! The connection to one node: the agent's source goes over ssh's (or a local python's) standard input, then JSON
//! lines go both ways. Nothing that a user configured or a secret ever stands on a remote command line, except the
//! interpreter's path, which is quoted.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::config::{Config, Node};
use crate::error::ClusterError;
use crate::script::AGENT;

/// What an agent says.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Message {
    /// The answer to a request.
    Reply {
        reply: u64,
        #[serde(default)]
        result: Value,
        error: Option<String>,
    },
    /// Something that happened.
    Event(Event),
}

/// What happens on a node by itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The agent is there.
    Alive,
    /// A line that a process printed.
    Output { process: String, line: String },
    /// A process ended: its exit status, or minus the signal.
    Exited { process: String, status: i64 },
    /// A communicator's statistics are new.
    Statistics { file: String, pid: u64, statistics: Value },
    /// The process of a communicator ended.
    RankEnded { file: String },
}

/// What reaches the launcher.
#[derive(Debug)]
pub enum Signal {
    /// Node `.0` said something.
    Said(usize, Message),
    /// The connection to node `.0` ended; what its ssh or python wrote to standard error.
    Closed(usize, String),
    /// A line of a process could not be written to its log.
    LogLost(std::io::Error),
    /// This process got a signal to end.
    Interrupt,
}

/// One node's agent. Dropping it closes the connection, upon which the agent stops everything.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    stdin: Option<ChildStdin>,
}

/// The command that starts an agent on `node`.
pub fn command(config: &Config, node: &Node, launch: &str) -> Command {
    let bootstrap = format!("import sys; exec(sys.stdin.buffer.read({}).decode())", AGENT.len());
    let python = [&config.python_of(node), "-u", "-c", &bootstrap, launch, "halo-agent"];
    let Some(container) = &config.container else { return on_node(config, node, &python) };
    let (inside, start) = (container.inside_with_input(), container.start());
    let inside = inside.iter().map(String::as_str);
    if start.is_empty() {
        return on_node(config, node, &inside.chain(python).collect::<Vec<_>>());
    }
    // Started if it is not; the words after the script are the shell's "$@", so nothing in them is read by it.
    let script = format!("{start} >/dev/null && exec \"$@\"");
    let words = ["sh", "-c", &script, "sh"].into_iter().chain(inside).chain(python).collect::<Vec<_>>();
    on_node(config, node, &words)
}

/// The command that runs `argv` on `node`: over ssh, where every word is quoted, or right here.
pub fn on_node(config: &Config, node: &Node, argv: &[&str]) -> Command {
    let Some(target) = &node.ssh else {
        let mut command = Command::new(argv[0]);
        // systemd waits for the word of this process, not of what it starts.
        command.args(&argv[1..]).env_remove("NOTIFY_SOCKET");
        return command;
    };
    let seconds = config.timeouts.connect.as_secs();
    let mut command = Command::new("ssh");
    command
        .args(&config.ssh.options)
        .args(["-T", "-o", "BatchMode=yes", "-o", &format!("ConnectTimeout={seconds}")])
        // A peer that vanished without a word is noticed after 9 s.
        .args(["-o", "ServerAliveInterval=3", "-o", "ServerAliveCountMax=3", "--", target])
        .arg(shlex::try_join(argv.iter().copied()).unwrap_or_default());
    command
}

/// Why the connection to `node` ended: what ssh or the interpreter `python` said, if it never spoke itself.
pub fn closed(node: &Node, python: String, spoke: bool, said: String) -> ClusterError {
    let name = node.name.clone();
    let cause = if said.is_empty() { "the connection ended".to_owned() } else { said };
    if spoke {
        return ClusterError::NodeLost { node: name, cause };
    }
    let has = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    match node.ssh.clone() {
        None => ClusterError::NoPython { node: name, python, cause },
        Some(target)
            if has(&["Permission denied", "Host key verification failed", "Too many authentication"]) =>
        {
            ClusterError::LoginRefused { node: name, target, cause }
        }
        Some(_) if has(&["not found", "No such file", "cannot execute", "Traceback", "SyntaxError"]) => {
            ClusterError::NoPython { node: name, python, cause }
        }
        Some(target) => ClusterError::Unreachable { node: name, target, cause },
    }
}

impl Agent {
    /// Starts the agent of node `index`; all that it says goes to `inbox`, what its processes print to `logs`.
    pub fn start(
        config: &Config,
        index: usize,
        launch: &str,
        logs: &Path,
        inbox: &Sender<Signal>,
    ) -> Result<Self, ClusterError> {
        let node = config.nodes[index].get_ref();
        let mut command = command(config, node, launch);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0) // Ctrl-C at the terminal is for the launcher alone, which then stops the agents
            .spawn()
            .map_err(|source| match &node.ssh {
                Some(_) => ClusterError::Start { program: program.clone(), source },
                None => ClusterError::NoPython {
                    node: node.name.clone(),
                    python: program.clone(),
                    cause: source.to_string(),
                },
            })?;
        let errors = collect(child.stderr.take().expect("stderr is piped"));
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut files = LogFiles { folder: logs.to_owned(), node: node.name.clone(), open: Vec::new() };
        let inbox = inbox.clone();
        thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&line) else { continue };
                if let Message::Event(Event::Output { process, line }) = &message
                    && let Err(error) = files.write(process, line)
                {
                    let _ = inbox.send(Signal::LogLost(error));
                }
                if inbox.send(Signal::Said(index, message)).is_err() {
                    return;
                }
            }
            let said = errors.join().unwrap_or_default();
            let _ = inbox.send(Signal::Closed(index, said));
        });
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A failure shows as a closed connection, with ssh's own words.
        let _ = stdin.write_all(AGENT.as_bytes());
        Ok(Self { child, stdin: Some(stdin) })
    }

    /// Sends one request. A broken connection shows as [`Signal::Closed`].
    pub fn send(&mut self, request: &Value) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(format!("{request}\n").as_bytes()).and_then(|()| stdin.flush());
        }
    }

    /// Closes the connection and waits, but not for ever, for its process.
    pub fn close(&mut self, patience: Duration) {
        self.stdin = None;
        let deadline = std::time::Instant::now() + patience;
        while matches!(self.child.try_wait(), Ok(None)) {
            if std::time::Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.close(Duration::from_secs(2));
    }
}

/// Reads to the end, for the last lines.
pub fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    })
}

/// The log files of one node: NODE-PROCESS.log.
struct LogFiles {
    folder: PathBuf,
    node: String,
    open: Vec<Log>,
}

/// One of them, and how many lines it lacks since the last one that was written.
struct Log {
    process: String,
    file: Option<File>,
    lost: u64,
}

impl LogFiles {
    /// A line, whole or not at all; where some are missing, the next one that can be written says so.
    fn write(&mut self, process: &str, line: &str) -> std::io::Result<()> {
        let at = self.open.iter().position(|log| log.process == process).unwrap_or_else(|| {
            self.open.push(Log { process: process.to_owned(), file: None, lost: 0 });
            self.open.len() - 1
        });
        let log = &mut self.open[at];
        let path = self.folder.join(format!("{}-{process}.log", self.node));
        let written = log.write(&path, line);
        log.lost = if written.is_ok() { 0 } else { log.lost + 1 };
        written
    }
}

impl Log {
    fn write(&mut self, path: &Path, line: &str) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::create(path)?),
        };
        let mut text = format!("{line}\n");
        if self.lost > 0 {
            text = format!("({} line(s) are missing here: they could not be written)\n{text}", self.lost);
        }
        let before = file.stream_position()?;
        file.write_all(text.as_bytes()).inspect_err(|_| {
            let _ = file.set_len(before).and_then(|()| file.seek(SeekFrom::Start(before)));
        })
    }
}
