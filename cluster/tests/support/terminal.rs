//! A pseudo-terminal, for what asks.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};

use crate::support::{PATIENCE, Rig};

/// A terminal with halo-cluster at it.
pub struct Terminal {
    keys: Box<dyn Write + Send>,
    shown: Receiver<Vec<u8>>,
    text: String,
    child: Box<dyn portable_pty::Child + Send + Sync>,
}

impl Terminal {
    /// Starts a command with these variables in its environment.
    pub fn start(rig: &Rig, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let size = PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_halo-cluster"));
        command.args(arguments);
        command.cwd(rig.folder.path());
        command.env("XDG_STATE_HOME", rig.path("state"));
        command.env("TERM", "xterm");
        environment.iter().for_each(|(name, value)| command.env(name, value));
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let (keys, mut output) =
            (pair.master.take_writer().unwrap(), pair.master.try_clone_reader().unwrap());
        let (sender, shown) = channel();
        std::thread::spawn(move || {
            let _master = pair.master;
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { keys, shown, text: String::new(), child }
    }

    /// Waits until `question` is shown after everything so far, then answers it.
    pub fn answer(&mut self, question: &str, keys: &str) {
        while !self.text.contains(question) {
            let bytes = self.shown.recv_timeout(PATIENCE);
            let bytes = bytes.unwrap_or_else(|_| panic!("`{question}` is not in: {}", self.text));
            let text = String::from_utf8_lossy(&bytes).into_owned();
            // A terminal answers where its cursor is; the prompt library asks.
            if text.contains("\u{1b}[6n") {
                self.keys.write_all(b"\x1b[1;1R").unwrap();
            }
            self.text += &text;
        }
        self.text.clear();
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Its exit status, and what it showed since the last answer.
    pub fn end(mut self) -> (u32, String) {
        let status = self.child.wait().unwrap().exit_code();
        while let Ok(bytes) = self.shown.recv_timeout(PATIENCE) {
            self.text += &String::from_utf8_lossy(&bytes);
        }
        (status, self.text)
    }
}
