//! A pseudo-terminal: the program in it, and what a person would see.

use std::io::{Read, Write};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::PATIENCE;

pub struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    keyboard: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    /// Closing it would hang up.
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    /// Runs `command` in a terminal of that many columns and rows.
    pub fn start(command: &Command, columns: u16, rows: u16) -> Self {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut inside = CommandBuilder::new(command.get_program());
        inside.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            }
        }
        if let Some(folder) = command.get_current_dir() {
            inside.cwd(folder);
        }
        inside.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(inside).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let keyboard = pair.master.take_writer().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let screen = vt100::Parser::new(rows, columns, 0);
        Self { child, keyboard, output, screen, _master: pair.master }
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Answers a question once it is on the screen.
    pub fn answer(&mut self, question: &str, keys: &str) {
        self.until(|text| text.contains(question));
        self.press(keys);
    }

    pub fn text(&self) -> String {
        self.screen.screen().contents()
    }

    /// Waits until the screen is as `good` wants it.
    pub fn until(&mut self, good: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if good(&text) {
                return text;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(left) else {
                panic!("the screen never became right:\n{text}")
            };
            self.screen.process(&bytes);
        }
    }

    /// Waits for the program's end: its exit status, and the last screen.
    pub fn end(mut self) -> (u32, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(50)) {
                self.screen.process(&bytes);
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                // What it wrote at last may have come since; then the terminal is closed, unless a process that it left
                // behind still has it.
                while let Ok(bytes) = self.output.recv_timeout(Duration::from_secs(1)) {
                    self.screen.process(&bytes);
                }
                return (status.exit_code(), self.text());
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.text());
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
