//! A launch as a service of systemd: the unit that starts it with the machine, and the word that it is ready.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;

use super::Request;
use crate::config::Config;
use crate::error::ClusterError;

/// Writes the unit for `request`, and says how to install it.
pub fn write(request: &Request, to: &Path) -> Result<String, ClusterError> {
    let refuse = |source| ClusterError::Unit { path: to.to_owned(), source };
    let Some(file) = &request.file else {
        return Err(refuse(std::io::Error::other("--local is for trying out; name a configuration")));
    };
    let file = std::path::absolute(file).map_err(refuse)?;
    let program = std::env::current_exe().map_err(refuse)?;
    let user = Command::new("id").arg("-un").output().map_err(refuse)?;
    let user = String::from_utf8_lossy(&user.stdout).trim().to_owned();
    let text = unit(&request.config, &file, &program, &user, &request.options);
    std::fs::write(to, text).map_err(refuse)?;
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!(
        "wrote {0}\ninstall it: sudo install -m 644 {0} /etc/systemd/system/ && sudo systemctl daemon-reload && \
         sudo systemctl enable --now {name}\n",
        to.display()
    ))
}

fn unit(config: &Config, file: &Path, program: &Path, user: &str, options: &[String]) -> String {
    let start: Vec<String> = [program.display().to_string(), "launch".to_owned(), file.display().to_string()]
        .into_iter()
        .chain(options.iter().cloned())
        .map(|word| quoted(&word))
        .collect();
    let timeouts = &config.timeouts;
    // Until it is ready: every phase with its own deadline, and a margin for the preflight.
    let starting = (timeouts.connect + timeouts.ray + timeouts.ready).as_secs() + 180;
    let stopping = timeouts.stop.as_secs() * 2 + 60;
    format!(
        "[Unit]\n\
         Description=One model on {} machines (halo-cluster)\n\
         Documentation=man:halo-cluster(1)\n\
         Wants=network-online.target\n\
         After=network-online.target\n\n\
         [Service]\n\
         # halo-cluster says when the model is served.\n\
         Type=notify\n\
         NotifyAccess=main\n\
         User={user}\n\
         ExecStart={}\n\
         # It stops all nodes itself; only then may its own processes be killed.\n\
         KillMode=mixed\n\
         TimeoutStartSec={starting}\n\
         TimeoutStopSec={stopping}\n\
         Restart=on-failure\n\
         RestartSec=10\n\
         # RDMA registers memory; a user's unit would stay at 8 MiB whatever stood here.\n\
         LimitMEMLOCK=infinity\n\n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        config.nodes.len(),
        start.join(" "),
    )
}

/// As systemd reads a word: quotes around it, its specials doubled.
fn quoted(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{word}\"")
}

/// Tells systemd, if it started this process, that the model is served.
pub fn notify_ready() {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let bytes = name.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
        None => SocketAddr::from_pathname(Path::new(&name)),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        // systemd's own time-out notices what does not arrive.
        let _ = socket.send_to_addr(b"READY=1", &address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_meaning_in_a_unit() {
        assert_eq!(quoted("/a b/50%$x\"\\"), "\"/a b/50%%$$x\\\"\\\\\"");
    }
}
