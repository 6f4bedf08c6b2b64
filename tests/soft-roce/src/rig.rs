//! A run: one or two machines, a command each, their output and status.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::image::{Kernel, build};
use crate::machine::{Line, Machine};

/// How often the machines are looked at between lines of output.
const LOOK: Duration = Duration::from_millis(50);

/// How machines are to be made.
#[derive(Debug, Clone)]
pub struct Rig {
    pub(crate) kernel: Kernel,
    pub(crate) vcpus: u32,
    pub(crate) memory: String,
    pub(crate) mtu: u32,
    pub(crate) cables: u32,
    pub(crate) two_nodes: bool,
    pub(crate) environment: Vec<(String, String)>,
    timeout: Duration,
    echo: bool,
}

impl Default for Rig {
    fn default() -> Self {
        Self {
            kernel: Kernel::default(),
            vcpus: 1,
            memory: "1G".to_owned(),
            mtu: 9000,
            cables: 1,
            two_nodes: false,
            environment: Vec::new(),
            timeout: Duration::from_secs(120),
            echo: false,
        }
    }
}

impl Rig {
    /// One processor, 1 GiB, one cable of MTU 9000, two minutes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which kernel boots.
    #[must_use]
    pub fn kernel(self, kernel: Kernel) -> Self {
        Self { kernel, ..self }
    }

    /// Processors per machine.
    #[must_use]
    pub fn vcpus(self, vcpus: u32) -> Self {
        Self { vcpus, ..self }
    }

    /// Memory per machine, as QEMU takes it.
    #[must_use]
    pub fn memory(self, memory: impl Into<String>) -> Self {
        Self { memory: memory.into(), ..self }
    }

    /// Two NUMA nodes per machine, each with one processor and 512 MiB.
    #[must_use]
    pub fn two_nodes(self) -> Self {
        Self { two_nodes: true, vcpus: 2, memory: "1G".to_owned(), ..self }
    }

    /// The cable's MTU.
    #[must_use]
    pub fn mtu(self, mtu: u32) -> Self {
        Self { mtu, ..self }
    }

    /// Cables between the machines: `rxe1` sits on `eth1`, 192.168.101.1 and .2, and so on.
    #[must_use]
    pub fn cables(self, cables: u32) -> Self {
        Self { cables, ..self }
    }

    /// After this, the machines are ended.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sets a variable for the commands.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Also prints every line as it comes, with its machine's number.
    #[must_use]
    pub fn echo(self, echo: bool) -> Self {
        Self { echo, ..self }
    }

    /// Boots one machine per command (a line of bash; RANK, WORLD, ADDRESS and PEER are set) and waits for all.
    ///
    /// # Errors
    /// The machines could not be made; what the commands do is in the [`Outcome`].
    pub fn run<C: AsRef<str>>(&self, commands: &[C]) -> Result<Outcome, Error> {
        assert!((1..=2).contains(&commands.len()), "a rig has one or two machines");
        let outcome = self.boot(commands)?;
        let Some(vm) = outcome.vms.iter().find(|vm| vm.stack_ran_out()) else { return Ok(outcome) };
        // No program in a machine can do that: the emulation failed, or its kernel did. It was seen three times in some
        // hundred boots.
        eprintln!("the rig boots again, once: a machine's kernel ran out of its stack\n{}", vm.console);
        self.boot(commands)
    }

    fn boot<C: AsRef<str>>(&self, commands: &[C]) -> Result<Outcome, Error> {
        let image = build(self.kernel)?;
        let shared = tempfile::tempdir().map_err(Error::system("making a temporary folder"))?;
        let (lines, arrivals) = mpsc::channel();
        let mut machines = Vec::new();
        for (index, command) in commands.iter().enumerate() {
            let count = commands.len();
            machines.push(Machine::start(
                self,
                &image,
                shared.path(),
                index,
                count,
                command.as_ref(),
                &lines,
            )?);
        }
        drop(lines);
        let mut heard = Heard { outputs: vec![String::new(); machines.len()], timeline: Vec::new() };
        let timed_out = !self.watch(&mut machines, &arrivals, &mut heard);
        machines.iter_mut().for_each(Machine::stop);
        // The readers have ended; what they still had to say is here.
        for line in arrivals.try_iter() {
            self.take(line, &mut heard);
        }
        let Heard { outputs, timeline } = heard;
        let vms = machines.iter().zip(outputs).map(|(machine, output)| VmOutcome {
            status: machine.status(),
            output,
            console: machine.console(),
            kernel_complaints: machine.kernel_complaints(),
        });
        Ok(Outcome { vms: vms.collect(), timed_out, timeline })
    }

    /// Takes in lines until all machines have ended, or a kernel has; false when the time is up first.
    fn watch(&self, machines: &mut [Machine], arrivals: &mpsc::Receiver<Line>, heard: &mut Heard) -> bool {
        let deadline = Instant::now() + self.timeout;
        while Instant::now() < deadline {
            if let Ok(line) = arrivals.recv_timeout(LOOK) {
                self.take(line, heard);
            } else if machines.iter_mut().all(Machine::ended) || machines.iter().any(Machine::panicked) {
                return true;
            } else {
                // A disconnected channel answers at once: both machines are about to end.
                std::thread::yield_now();
            }
        }
        false
    }

    fn take(&self, line: Line, heard: &mut Heard) {
        if self.echo {
            println!("[{}] {}", line.machine, line.text);
        }
        let output = &mut heard.outputs[line.machine];
        output.push_str(&line.text);
        output.push('\n');
        heard.timeline.push((Instant::now(), line.machine, line.text));
    }
}

/// What has been heard of the machines so far.
struct Heard {
    outputs: Vec<String>,
    timeline: Vec<(Instant, usize, String)>,
}

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The machines, in order.
    pub vms: Vec<VmOutcome>,
    /// Whether the time was up before all had ended.
    pub timed_out: bool,
    /// Every line as it came: when, from which machine.
    pub timeline: Vec<(Instant, usize, String)>,
}

/// What became of one machine.
#[derive(Debug)]
pub struct VmOutcome {
    /// The command's exit status; `None` if the machine ended, or was ended, before the command did.
    pub status: Option<i32>,
    /// Standard output and standard error, in the order they came.
    pub output: String,
    /// The last lines of the console.
    pub console: String,
    /// Signs of a kernel that is not well.
    pub kernel_complaints: Vec<String>,
}

impl VmOutcome {
    /// Whether its kernel ended on an exception that found no stack, or met the page that guards it.
    fn stack_ran_out(&self) -> bool {
        let signs = ["double fault", "stack guard page was hit"];
        let told = |line: &String| signs.iter().any(|sign| line.contains(sign));
        self.status.is_none() && self.kernel_complaints.iter().any(told)
    }
}

impl Outcome {
    /// When a machine first printed a line with these words.
    pub fn when(&self, machine: usize, words: &str) -> Option<Instant> {
        let found = self.timeline.iter().find(|(_, from, text)| *from == machine && text.contains(words));
        found.map(|(when, ..)| *when)
    }

    /// Whether every command ended with status 0 on a kernel that is well.
    pub fn succeeded(&self) -> bool {
        !self.timed_out && self.vms.iter().all(|vm| vm.status == Some(0) && vm.kernel_complaints.is_empty())
    }
}
