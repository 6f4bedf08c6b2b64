//! One question with yes or no for an answer.

use std::io::{IsTerminal, Write};

/// Whether there is somebody to ask.
pub fn can_be_asked() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether the answer is yes; anything else, and no answer, is a no.
pub fn yes(question: &str) -> bool {
    print!("\n{question} [y/N] ");
    let mut answer = String::new();
    let asked = std::io::stdout().flush().and_then(|()| std::io::stdin().read_line(&mut answer));
    asked.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}
