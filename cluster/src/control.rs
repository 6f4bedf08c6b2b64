//! The commands that deal with a launch from outside: `launch --detach`, `status`, `stop`, `logs`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::Cluster;
use crate::config::Config;
use crate::error::{ClusterError, Said};
use crate::report;
use crate::state::{Folder, State};

const POLL: Duration = Duration::from_millis(100);

/// Runs `launch` with the same arguments in the background, and returns when the model is served.
pub fn detach(folder: &Folder) -> Result<(), ClusterError> {
    drop(folder.lock()?); // a launch that runs already is reported here, not in a log
    folder.clear_logs();
    folder.has_room()?;
    let log = folder.launch_log();
    let output = File::create(&log).map_err(|source| folder.refuse(source))?;
    let errors = output.try_clone().map_err(|source| folder.refuse(source))?;
    let program = std::env::current_exe().map_err(|source| folder.refuse(source))?;
    let mut child = Command::new(&program)
        .args(std::env::args_os().skip(1).filter(|argument| argument != "--detach"))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0) // Ctrl-C at this terminal is not for it
        .spawn()
        .map_err(|source| ClusterError::Start { program: program.display().to_string(), source })?;
    let interrupted = crate::interrupts()?;
    let shown = follow(folder, &mut child, &interrupted)?;
    let state = folder.read().filter(|state| state.pid == child.id() && state.phase == "ready");
    if let Some(state) = state {
        print!("{}", report::ready(&state));
        return Ok(());
    }
    let _ = child.wait();
    let lines = shown.lines().skip_while(|line| !line.starts_with("error["));
    let message = lines.enumerate().take_while(|(index, line)| *index == 0 || line.starts_with("  "));
    let message = message.map(|(_, line)| line).collect::<Vec<_>>().join("\n  ");
    if message.is_empty() {
        folder.has_room()?; // else it could not leave one
    }
    let cause = if message.is_empty() { "it left no message".to_owned() } else { message };
    Err(ClusterError::DetachedEnded { log: log.display().to_string(), cause: Said(cause) })
}

/// Shows the progress of the launch in the background until it is ready or has ended; what it printed.
fn follow(
    folder: &Folder,
    child: &mut Child,
    interrupted: &std::sync::atomic::AtomicBool,
) -> Result<String, ClusterError> {
    let mut log = File::open(folder.launch_log()).map_err(|source| folder.refuse(source))?;
    let mut shown = String::new();
    loop {
        let ended = matches!(child.try_wait(), Ok(Some(_)));
        let ready = folder.read().is_some_and(|state| state.pid == child.id() && state.phase == "ready");
        let before = shown.len();
        let _ = log.read_to_string(&mut shown);
        for line in
            shown[before..].lines().filter(|line| line.starts_with("ok ") || line.starts_with("failed "))
        {
            eprintln!("{line}");
        }
        if ended || ready {
            return Ok(shown);
        }
        if interrupted.swap(false, std::sync::atomic::Ordering::Relaxed) {
            signal(child.id());
        }
        thread::sleep(POLL);
    }
}

/// Prints what is known of the launch.
pub fn status(folder: &Folder, json: bool) {
    let state = current(folder);
    if json {
        let running = folder.is_running();
        let value = serde_json::json!({"running": running, "launch": state});
        println!("{}", serde_json::to_string_pretty(&value).unwrap_or_default());
        return;
    }
    match state {
        Some(state) => print!("{}", report::status(&state)),
        None => println!("nothing was launched"),
    }
}

/// The state on disk, corrected when its process died without a word.
pub fn current(folder: &Folder) -> Option<State> {
    let mut state = folder.read()?;
    if !folder.is_running() && !["stopped", "failed"].contains(&state.phase.as_str()) {
        "failed".clone_into(&mut state.phase);
    }
    Some(state)
}

/// Ends the launch; when its process is gone already, removes what it left on the nodes.
pub fn stop(folder: &Folder) -> Result<(), ClusterError> {
    let state = folder.read();
    let Some(mut state) = state else {
        println!("nothing was launched");
        return Ok(());
    };
    if folder.is_running() {
        signal(state.pid);
        return wait_until_stopped(folder, &state);
    }
    if ["stopped", "failed"].contains(&state.phase.as_str()) {
        println!("nothing is running");
        return Ok(());
    }
    let _lock = folder.lock()?;
    let config = match &state.config {
        Some(_) => Config::read(&folder.config())?,
        None => Config::local(&folder.tiny_model()),
    };
    let mut cluster = Cluster::new(config, state.launch.clone(), folder.logs())?;
    let unclean = cluster.sweep_all();
    if let Some(node) = unclean.first() {
        let cause = "it cannot be asked to remove what is left there".to_owned();
        return Err(ClusterError::NodeLost { node: node.clone(), cause });
    }
    "stopped".clone_into(&mut state.phase);
    folder.write(&state)?;
    println!("the launch had died; what it left is removed");
    Ok(())
}

fn wait_until_stopped(folder: &Folder, state: &State) -> Result<(), ClusterError> {
    // Two groups of nodes, each with its grace, and a margin.
    let patience = Duration::from_secs(120);
    let deadline = Instant::now() + patience;
    while folder.is_running() {
        if Instant::now() > deadline {
            let log = folder.launch_log().display().to_string();
            return Err(ClusterError::StopTimeout { pid: state.pid, seconds: patience.as_secs(), log });
        }
        thread::sleep(POLL);
    }
    println!("stopped");
    Ok(())
}

fn signal(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Prints one log, or lists them.
pub fn logs(folder: &Folder, name: Option<&str>) -> Result<(), ClusterError> {
    let entries = fs::read_dir(folder.logs()).map_err(|source| folder.refuse(source))?;
    let mut present: Vec<_> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log").map(str::to_owned))
        .collect();
    present.sort();
    let Some(name) = name else {
        for log in present {
            println!("{log}");
        }
        return Ok(());
    };
    if !present.iter().any(|log| log == name) {
        let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
        return Err(ClusterError::NoLog { name: name.to_owned(), present });
    }
    let mut file =
        File::open(folder.logs().join(format!("{name}.log"))).map_err(|source| folder.refuse(source))?;
    let mut out = std::io::stdout().lock();
    std::io::copy(&mut file, &mut out).and_then(|_| out.flush()).map_err(|source| folder.refuse(source))
}
