//! What the user sees while a launch comes up: a line per phase, with a spinner where there is a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A line on standard error. A launch in the background must not end because its log is on a full disk.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A phase under way. Dropped without [`Phase::done`], it has failed.
#[derive(Debug)]
pub struct Phase {
    text: String,
    started: Instant,
    spinner: Option<ProgressBar>,
}

impl Phase {
    pub fn start(text: impl Into<String>) -> Self {
        let text = text.into();
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            let spinner = ProgressBar::new_spinner().with_message(text.clone());
            spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            spinner.enable_steady_tick(Duration::from_millis(120));
            spinner
        });
        Self { text, started: Instant::now(), spinner }
    }

    /// So many bytes of so many are done.
    pub fn bytes(&mut self, done: u64, total: u64) {
        self.bar(done, total, "{spinner} {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} ({elapsed})");
    }

    /// So much of so much is done; `detail` says of what.
    pub fn part(&mut self, done: u64, total: u64, detail: &str) {
        self.bar(done, total, "{spinner} {msg} {bar:30} ({elapsed})");
        if let Some(spinner) = &self.spinner {
            spinner.set_message(format!("{} ({detail})", self.text));
        }
    }

    fn bar(&mut self, done: u64, total: u64, template: &str) {
        let Some(spinner) = &self.spinner else { return };
        if spinner.length() != Some(total) {
            spinner.set_length(total);
            spinner.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
        }
        spinner.set_position(done);
    }

    /// The phase is over; `detail` says what came of it.
    pub fn done(mut self, detail: &str) {
        self.clear();
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        say(&format!("ok      {}{detail} ({:.1} s)", self.text, self.started.elapsed().as_secs_f64()));
        self.text.clear();
    }

    fn clear(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        self.clear();
        if !self.text.is_empty() {
            say(&format!("failed  {}", self.text));
        }
    }
}
