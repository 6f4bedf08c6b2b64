//! A conversation with one node: a script of this program runs there in Python, requests go to it and answers come
//! back, one JSON object a line. Several nodes are asked at once, and one that fails does not keep the others.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::agent;
use crate::config::{Config, Node};
use crate::error::ClusterError;

/// The interpreter of the node itself, which is there before any environment is.
const PYTHON: &str = "python3";

/// A connection to one node. Dropping it ends the script.
#[derive(Debug)]
pub struct Session {
    node: Node,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
    spoke: bool,
}

impl Session {
    /// Starts `script` on `node`. `first` are words before the interpreter, such as sudo's, and `password` is what
    /// they read from standard input before the script does.
    pub fn open(
        config: &Config,
        node: &Node,
        script: &str,
        first: &[&str],
        password: Option<&str>,
    ) -> Result<Self, ClusterError> {
        let bootstrap = format!("import sys; exec(sys.stdin.buffer.read({}).decode())", script.len());
        let argv = [first, &[PYTHON, "-u", "-c", &bootstrap]].concat();
        let mut command = agent::on_node(config, node, &argv);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0) // Ctrl-C at the terminal ends this program, and with it the connection
            .spawn()
            .map_err(|source| ClusterError::Start { program, source })?;
        let errors = agent::collect(child.stderr.take().expect("stderr is piped"));
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A failure to write shows as a closed connection, with the other side's own words.
        if let Some(password) = password {
            let _ = stdin.write_all(format!("{password}\n").as_bytes());
        }
        let _ = stdin.write_all(script.as_bytes());
        Ok(Self { node: node.clone(), child, stdin: Some(stdin), lines, errors: Some(errors), spoke: false })
    }

    /// One request and its answer. A node that does not answer in time, or whose connection ends, is an error.
    pub fn ask(&mut self, request: &Value, patience: Duration) -> Result<Value, ClusterError> {
        let what = request["op"].as_str().unwrap_or_default().to_owned();
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(format!("{request}\n").as_bytes()).and_then(|()| stdin.flush());
        }
        loop {
            let line = match self.lines.recv_timeout(patience) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    let (node, seconds) = (self.node.name.clone(), patience.as_secs());
                    return Err(ClusterError::NoAnswer { node, what, seconds });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let said = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
                    return Err(agent::closed(&self.node, PYTHON.to_owned(), self.spoke, said));
                }
            };
            // A login shell may print something before the script does.
            let Ok(mut answer) = serde_json::from_str::<Value>(&line) else { continue };
            if !answer.is_object() {
                continue;
            }
            self.spoke = true;
            if let Some(cause) = answer["error"].as_str() {
                let node = self.node.name.clone();
                return Err(ClusterError::Agent { node, what, cause: cause.to_owned() });
            }
            return Ok(answer["result"].take());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does `work` for each of `items` at the same time; the results in the same order.
pub fn at_once<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        running.into_iter().map(|thread| thread.join().expect("no work of a node panics")).collect()
    })
}
