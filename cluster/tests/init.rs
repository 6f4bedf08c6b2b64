//! init's command line and its questions, on this machine; other machines are tried in tests/system.

mod support;

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use support::{PATIENCE, Rig};

macro_rules! shows {
    ($name:literal, $text:expr) => {
        insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!($name, $text)
        })
    };
}

fn refused(rig: &Rig, arguments: &[&str]) -> String {
    let (status, output, errors) = rig.run(&[&["init"], arguments].concat());
    assert_eq!(status, 1, "{output}{errors}");
    errors
}

#[test]
fn help() {
    shows!("help_init", Rig::new().run(&["init", "--help"]).1);
}

#[test]
fn what_is_missing_or_in_the_way_is_refused() {
    let rig = Rig::new();
    let file = rig.path("halo.toml");
    let file = file.to_str().unwrap();
    shows!("init_missing", refused(&rig, &[file]));
    let node = ["--node", "a=local", "--model", "/models/m"];
    let error = refused(&rig, &[&[file], &node[..2], &["--model", "m"]].concat());
    assert!(error.contains("`model` is `m`, which is no absolute path"), "{error}");
    let error = refused(&rig, &[&[file], &node[..], &["--link", "usb4"]].concat());
    assert!(error.contains("error[HALO-E0752]: the nodes have no link in common of kind usb4"), "{error}");
    assert!(!std::path::Path::new(file).exists());
    std::fs::write(file, "mine").unwrap();
    shows!("init_exists", refused(&rig, &[&[file], &node[..]].concat()));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
    let (status, _, errors) = rig.run(&["init", "--node", "a"]);
    assert!(status == 2 && errors.contains("expected NAME=TARGET[,ADDRESS[,INTERFACE]]"), "{errors}");
}

/// A terminal with the wizard at it.
struct Terminal {
    keys: Box<dyn Write + Send>,
    shown: Receiver<Vec<u8>>,
    text: String,
    child: Box<dyn portable_pty::Child + Send + Sync>,
}

impl Terminal {
    fn start(rig: &Rig, arguments: &[&str]) -> Self {
        let size = PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_halo-cluster"));
        command.args(arguments);
        command.cwd(rig.folder.path());
        command.env("XDG_STATE_HOME", rig.path("state"));
        command.env("TERM", "xterm");
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
    fn answer(&mut self, question: &str, keys: &str) {
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

    fn end(mut self) -> (u32, String) {
        let status = self.child.wait().unwrap().exit_code();
        while let Ok(bytes) = self.shown.recv_timeout(PATIENCE) {
            self.text += &String::from_utf8_lossy(&bytes);
        }
        (status, self.text)
    }
}

#[test]
fn questions_can_be_cancelled_and_nothing_is_written() {
    let rig = Rig::new();
    let mut terminal = Terminal::start(&rig, &["init", "c.toml"]);
    terminal.answer("Is this machine one of the nodes?", "y\r");
    terminal.answer("Node 2: where does ssh find it?", "me@b\r");
    terminal.answer("What shall it be called?", "\r");
    terminal.answer("Node 3: where does ssh find it?", "\r");
    terminal.answer("The model's folder", "models\r");
    terminal.answer("an absolute path, please", "\x1b");
    let (status, text) = terminal.end();
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("error[HALO-E0754]: the questions were not answered: cancelled"), "{text}");
    assert!(!rig.path("c.toml").exists());
}
