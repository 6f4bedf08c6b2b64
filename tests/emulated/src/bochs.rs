//! Bochs: the emulator, and what comes from its machine.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::Error;

/// Bytes that the machine has.
pub(crate) const MEMORY: u32 = 256 << 20;
/// How fast the machine's clock has it that instructions pass; it has nothing to do with how fast they do.
pub(crate) const INSTRUCTIONS_PER_SECOND: u32 = 50_000_000;

const TIME_LIMIT: Duration = Duration::from_secs(20 * 60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a program ended that has ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: u8,
    /// How many tests have passed, as the program says.
    pub(crate) passed: u32,
    pub(crate) took: Duration,
}

/// Starts the machine whose `disk` and `rom` lie in a folder, prints what it prints and ends it.
pub(crate) fn run(folder: &Path) -> Result<Outcome, Error> {
    let started = Instant::now();
    let mut machine = Machine::start(folder)?;
    let mut console = Console::default();
    loop {
        let ended = machine.ended();
        console.read(folder)?;
        if let Some(feature) = console.lacking.take() {
            return Err(Error::Processor(feature));
        }
        if console.panicked {
            return Err(Error::Panic);
        }
        if let Some(status) = console.status {
            return Ok(Outcome { status, passed: console.passed, took: started.elapsed() });
        }
        if ended {
            return Err(Error::Ended(log(folder)));
        }
        if started.elapsed() > TIME_LIMIT {
            return Err(Error::Late(TIME_LIMIT.as_secs()));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The emulator's process, which ends with this value.
struct Machine(Child);

impl Machine {
    fn start(folder: &Path) -> Result<Self, Error> {
        let configuration = format!(
            "display_library: term\n\
             plugin_ctrl: speaker=0, gameport=0, parallel=0\n\
             sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy\n\
             cpu: model=corei7_skylake_x, ips={INSTRUCTIONS_PER_SECOND}, reset_on_triple_fault=0\n\
             clock: sync=none\n\
             megs: {}\n\
             romimage: file=rom\n\
             vgaromimage: file=/dev/null\n\
             ata0-master: type=disk, path=disk, mode=flat, cylinders=0\n\
             com1: enabled=1, mode=file, dev=console\n\
             log: log\n\
             panic: action=fatal\n\
             error: action=ignore\n",
            MEMORY >> 20
        );
        fs::write(folder.join("configuration"), configuration)
            .map_err(Error::step("writing the configuration"))?;
        let output = || File::create(folder.join("output")).map_err(Error::step("making a log"));
        // The kernel ends it with this process, however that ends.
        let mut bochs = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "bochs-bin", "-q", "-f", "configuration"])
            .env("TERM", "vt100")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(output()?)
            .stderr(output()?)
            .spawn()
            .map_err(Error::step("starting Bochs"))?;
        // Debian's has a debugger in it, which waits for being told to continue.
        let told = bochs.stdin.as_mut().map_or(Ok(()), |input| input.write_all(b"continue\n"));
        let machine = Self(bochs);
        told.map_err(Error::step("telling Bochs to begin"))?;
        Ok(machine)
    }

    fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What has come over the serial line.
#[derive(Default)]
struct Console {
    file: Option<File>,
    /// The line that is still to be ended.
    begun: Vec<u8>,
    lacking: Option<String>,
    panicked: bool,
    status: Option<u8>,
    passed: u32,
}

impl Console {
    /// Prints and understands what is new.
    fn read(&mut self, folder: &Path) -> Result<(), Error> {
        if self.file.is_none() {
            // Made with the first byte.
            self.file = File::open(folder.join("console")).ok();
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut new = Vec::new();
        file.read_to_end(&mut new).map_err(Error::step("reading what the machine prints"))?;
        for byte in new {
            match byte {
                b'\r' => (),
                b'\n' => {
                    let line = std::mem::take(&mut self.begun);
                    self.line(&String::from_utf8_lossy(&line));
                }
                byte => self.begun.push(byte),
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str) {
        if let Some(status) = line.strip_prefix("emulated: status ") {
            self.status = Some(status.parse().unwrap_or(u8::MAX));
            return;
        }
        println!("{line}");
        if let Some(feature) = line.strip_prefix("emulated: without ") {
            self.lacking = Some(feature.to_owned());
        }
        self.panicked |= line.contains("Kernel panic");
        if let Some(result) = line.strip_prefix("test result: ok. ") {
            let count = result.split_once(" passed").and_then(|(count, _)| count.parse::<u32>().ok());
            self.passed += count.unwrap_or(0);
        }
    }
}

fn log(folder: &Path) -> String {
    let read = |name: &str| fs::read(folder.join(name)).unwrap_or_default();
    let text = [read("output"), read("log")].concat();
    let text = String::from_utf8_lossy(&text);
    let panics: Vec<&str> = text.lines().filter(|line| line.contains("PANIC")).collect();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(20)..];
    [panics.as_slice(), last].concat().join("\n")
}
