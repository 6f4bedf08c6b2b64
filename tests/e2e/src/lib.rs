//! Real launches on real (namespace) hosts: what the tests in `tests/` share.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use halo_built::{program, python, scratch};
use halo_hosts::Hosts;
use serde_json::{Value, json};

/// One launch at a time: each fills a small machine.
pub fn alone() -> MutexGuard<'static, ()> {
    static LAUNCH: Mutex<()> = Mutex::new(());
    LAUNCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names the folder where torch keeps what it compiles.
const COMPILED: &str = "TORCHINDUCTOR_CACHE_DIR";

/// Such a folder for all launches: every host has a /tmp of its own, and would compile the same again.
fn compiled() -> PathBuf {
    scratch().join("compiled")
}

/// Runs the environment's Python, which must succeed; what it printed.
fn run_python(arguments: &[&OsStr]) -> String {
    let output = Command::new(python()).args(arguments).output().expect("the environment's Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The folder of the tiny model, which is made once.
pub fn model() -> PathBuf {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let folder = scratch().join("tiny-model");
        // One that is there may be an older version's.
        let _ = std::fs::remove_dir_all(&folder);
        run_python(&["-m".as_ref(), "halo.tiny_model".as_ref(), folder.as_ref()]);
        folder
    };
    MODEL.get_or_init(make).clone()
}

/// Tokens of a completion.
const TOKENS: usize = 32;

/// The tokens that the model chooses greedily after each prompt, by transformers alone: without vLLM, ranks or halo.
pub fn expected_tokens(prompts: &[&str]) -> Vec<Vec<u64>> {
    let (script, folder) = (concat!(env!("CARGO_MANIFEST_DIR"), "/greedy.py"), model());
    let count = TOKENS.to_string();
    let mut arguments: Vec<&OsStr> = vec![script.as_ref(), folder.as_ref(), count.as_ref()];
    arguments.extend(prompts.iter().map(AsRef::<OsStr>::as_ref));
    serde_json::from_str(&run_python(&arguments)).expect("greedy.py prints JSON")
}

/// A launcher with its own state.
pub struct Rig {
    launcher: PathBuf,
    folder: tempfile::TempDir,
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Rig {
    /// A folder of its own.
    pub fn new() -> Self {
        let folder = tempfile::tempdir_in(scratch()).expect("target/tmp is writable");
        Self { launcher: program("halo-cluster"), folder }
    }

    /// The folder of this launcher's own, seen by every host.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A configuration with one rank on each of two hosts, over tcp.
    pub fn config(&self, hosts: &Hosts) -> PathBuf {
        let mut text = format!(
            "model = \"{}\"\ntransport = \"tcp\"\npython = \"{}\"\n",
            model().display(),
            python().display()
        );
        for number in [1, 2] {
            let host = hosts.host(number);
            text += &format!(
                "[[nodes]]\nname = \"{0}\"\nssh = \"{0}\"\naddress = \"{1}\"\n",
                host.name, host.address
            );
        }
        text += &format!("[ssh]\noptions = [\"-F\", \"{}\"]\n", hosts.ssh_config().display());
        // In bfloat16, two ranks round their halves before the sum and one rank does not: where two tokens are almost
        // equally likely, a greedy choice may then differ by rounding alone. In float32 it does not.
        text +=
            "[vllm]\nargs = [\"--enforce-eager\", \"--max-model-len\", \"2048\", \"--dtype\", \"float32\"]\n";
        text += "[env]\nVLLM_CPU_KVCACHE_SPACE = \"1\"\n";
        text += &format!("{COMPILED} = \"{}\"\n", compiled().display());
        let path = self.folder.path().join("two.toml");
        std::fs::write(&path, text).expect("the folder is writable");
        path
    }

    /// A command of the launcher.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.launcher);
        command.args(arguments).stdin(Stdio::null());
        command.env("XDG_STATE_HOME", self.folder.path()).env(COMPILED, compiled());
        command
    }

    /// Runs a command of the launcher, which must succeed.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let output = self.command(arguments).output().expect("halo-cluster starts");
        assert!(output.status.success(), "{}", self.explain(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a failed command printed, and the ends of the logs.
    pub fn explain(&self, output: &Output) -> String {
        let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
        let logs = std::fs::read_dir(self.folder.path().join("halo-cluster/logs"));
        for log in logs.into_iter().flatten().flatten() {
            let content = std::fs::read_to_string(log.path()).unwrap_or_default();
            let lines: Vec<_> = content.lines().collect();
            text += &format!(
                "\n--- {}\n{}",
                log.path().display(),
                lines[lines.len().saturating_sub(25)..].join("\n")
            );
        }
        text
    }

    /// `status --json`, the part about the launch.
    pub fn status(&self) -> Value {
        let text = self.run(["status", "--json"]);
        serde_json::from_str::<Value>(&text).expect("status --json is JSON")["launch"].clone()
    }

    /// Starts `launch` in the foreground and waits until it serves.
    pub fn serve(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("halo-cluster starts");
        let mut output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut text = String::new();
        while !text.contains("Stop: Ctrl-C") {
            if output.read_line(&mut text).expect("its output is text") == 0 {
                let output = child.wait_with_output().expect("it can be waited for");
                panic!("{text}{}", self.explain(&output));
            }
        }
        child
    }
}

/// The tokens that the served model chooses greedily.
pub fn tokens(endpoint: &str, prompt: &str) -> Vec<u64> {
    let body = json!({"model": model(), "prompt": prompt, "max_tokens": TOKENS, "temperature": 0,
        "ignore_eos": true, "return_token_ids": true});
    let (status, text) = post(endpoint, &body);
    assert_eq!(status, 200, "{text}");
    let answer: Value = serde_json::from_str(&text).expect("the answer is JSON");
    let tokens = answer["choices"][0]["token_ids"].as_array().cloned().unwrap_or_default();
    tokens.iter().filter_map(Value::as_u64).collect()
}

/// Opens a completion request at `http://host:port`.
pub fn request(endpoint: &str, body: &Value) -> TcpStream {
    let address = endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("the endpoint listens");
    // A hang guard: an answer that never comes fails the test instead of stopping it.
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a deadline can be set");
    let body = body.to_string();
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the server reads");
    stream
}

/// Status and body of a completion request.
pub fn post(endpoint: &str, body: &Value) -> (u16, String) {
    let mut text = String::new();
    request(endpoint, body).read_to_string(&mut text).expect("an answer arrives");
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
