//! A launcher whose disk is full: its state folder is a small tmpfs. Stand-ins for Ray and vLLM.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Instant;

use crate::support::{PATIENCE, Rig, kill, post};

/// A launcher whose state folder is a disk of 2 MiB.
struct SmallDisk {
    rig: Rig,
}

impl SmallDisk {
    fn new() -> Self {
        let rig = Rig::new();
        fs::create_dir(rig.path("state")).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(rig.path("state"));
        assert!(mount.status().unwrap().success(), "mount needs root");
        Self { rig }
    }

    fn filler(&self) -> PathBuf {
        self.rig.path("state/filler")
    }

    /// Not a byte is left.
    fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    fn config(&self, mode: &str) -> PathBuf {
        self.rig.config(&format!("[env]\nSTAND_IN = \"{mode}\"\n"))
    }

    /// Every file of the state folder, sorted.
    fn files(&self) -> Vec<String> {
        let find =
            Command::new("find").arg(self.rig.path("state")).args(["-type", "f", "-printf", "%P\n"]).output();
        let mut files: Vec<_> =
            String::from_utf8(find.unwrap().stdout).unwrap().lines().map(str::to_owned).collect();
        files.sort();
        files
    }

    fn log(&self) -> String {
        fs::read_to_string(self.rig.path("state/halo-cluster/logs/a-vllm.log")).unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.rig.path("state")).status();
    }
}

const FULL: &str = "error[HALO-E0685]: the disk of the state folder [DIR]/state/halo-cluster";

#[test]
#[ignore = "needs root: mounts a tmpfs"]
fn a_disk_that_is_full_is_said_before_anything_starts() {
    let disk = SmallDisk::new();
    disk.fill();
    let config = disk.config("");
    for detach in [&[][..], &["--detach"]] {
        let arguments = [&["launch", config.to_str().unwrap()], detach].concat();
        let (status, output, errors) = disk.rig.run(&arguments);
        assert_eq!((status, output.as_str()), (1, ""), "{errors}");
        assert!(errors.starts_with(FULL) && errors.contains("is full\n"), "{errors}");
        assert_eq!(errors.matches("error[").count(), 1, "{errors}");
        assert_eq!(disk.files(), ["filler", "halo-cluster/lock"], "nothing is written by halves");
    }
    assert_eq!(disk.rig.run(&["status"]).1, "nothing was launched\n");
    fs::remove_file(disk.filler()).unwrap();
    let (status, _, errors) = disk.rig.run(&["launch", config.to_str().unwrap(), "--detach"]);
    assert_eq!(status, 0, "with room, it is launched: {errors}");
    assert_eq!(disk.rig.run(&["stop"]).1, "stopped\n");
}

#[test]
#[ignore = "needs root: mounts a tmpfs"]
fn a_disk_that_fills_while_the_model_loads_ends_the_launch_with_one_error() {
    for detach in [&[][..], &["--detach"]] {
        let disk = SmallDisk::new();
        // The server says more than there is room for.
        let config = disk.config("talks");
        let (status, _, errors) = disk.rig.run(&[&["launch", config.to_str().unwrap()], detach].concat());
        assert_eq!(status, 1, "{errors}");
        assert!(errors.contains(FULL), "{errors}");
        assert_eq!(errors.lines().filter(|line| line.starts_with("error[")).count(), 1, "{errors}");
        assert_eq!(disk.rig.left(), Vec::<String>::new(), "everything is stopped");
        let log = disk.log();
        assert!(log.len() > 1 << 20 && log.ends_with(".\n"), "the log ends with a whole line");
        assert!(disk.files().iter().all(|file| !file.ends_with("halo-new")), "{:?}", disk.files());
        assert_eq!(disk.rig.status()["launch"]["phase"], "failed");
    }
}

/// Reads what a launch says on standard error until it says `words`.
fn until_it_says(child: &mut Child, words: &str) -> (String, BufReader<std::process::ChildStderr>) {
    let (mut errors, mut text) = (BufReader::new(child.stderr.take().unwrap()), String::new());
    while !text.contains(words) {
        assert_ne!(errors.read_line(&mut text).unwrap(), 0, "{text}");
    }
    (text, errors)
}

#[test]
#[ignore = "needs root: mounts a tmpfs"]
fn a_disk_that_fills_while_the_model_is_served_ends_nothing_and_the_log_says_what_it_lacks() {
    let disk = SmallDisk::new();
    let mut served = disk.rig.serve(&disk.config(""));
    disk.fill();
    // As many lines as there is no room for, whatever the log's last page still holds.
    let ask = |lines: u32| post(disk.rig.port, "/v1/completions", &format!("{{\"say\": {lines}}}"));
    assert!(ask(100).contains(" world"));
    let (errors, mut rest) = until_it_says(&mut served.child, "the model is served on");
    assert!(errors.contains("error[HALO-E0685]"), "{errors}");
    assert!(ask(100).contains(" world"), "it serves");
    fs::remove_file(disk.filler()).unwrap();
    assert!(ask(1).contains(" world"));
    let deadline = Instant::now() + PATIENCE;
    while !disk.log().contains(" line(s) are missing here: they could not be written)\nline ") {
        assert!(Instant::now() < deadline, "{}", disk.log());
        std::thread::yield_now();
    }
    kill(u64::from(served.child.id()), "INT");
    let mut text = String::new();
    while rest.read_line(&mut text).unwrap() > 0 {}
    assert_eq!(served.child.wait().unwrap().code(), Some(0), "{text}");
    assert!(!text.contains("error["), "it was said once: {text}");
    assert_eq!(disk.rig.status()["launch"]["phase"], "stopped");
    disk.rig.assert_nothing_is_left();
}
