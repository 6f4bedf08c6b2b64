//! The menu of a call without arguments: every command and every flag, from the definition of the command line itself. It
//! does nothing that flags cannot: it shows the command it has put together, runs that, and returns.

mod draw;
mod form;

use std::io::IsTerminal;
use std::process::Command;

use clap::CommandFactory;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use self::form::{Entry, Menu};
use crate::cli::Cli;
use crate::error::ClusterError;

/// Whether a call with these arguments is one for the menu: there are none, and a person looks on.
pub fn is_wanted() -> bool {
    std::env::args_os().len() == 1 && std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
}

/// Shows the menu until it is left.
pub fn run() -> Result<(), ClusterError> {
    let mut menu = Menu::new(&Cli::command());
    loop {
        let mut terminal = ratatui::try_init().map_err(|source| ClusterError::Menu { source })?;
        let chosen = choose(&mut terminal, &mut menu);
        ratatui::restore();
        match chosen.map_err(|source| ClusterError::Menu { source })? {
            Some(words) => execute(&words)?,
            None => return Ok(()),
        }
    }
}

enum Pressed {
    Run(Vec<String>),
    Leave,
    Nothing,
}

/// Keys, until there is a command to run (its words) or the menu is left (none).
fn choose(terminal: &mut ratatui::DefaultTerminal, menu: &mut Menu) -> std::io::Result<Option<Vec<String>>> {
    loop {
        terminal.draw(|frame| draw::picture(frame, menu))?;
        let Event::Key(key) = event::read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Ok(None);
        }
        match press(menu, key) {
            Pressed::Run(words) => return Ok(Some(words)),
            Pressed::Leave => return Ok(None),
            Pressed::Nothing => {}
        }
    }
}

fn press(menu: &mut Menu, key: KeyEvent) -> Pressed {
    match key.code {
        KeyCode::Up => menu.step(-1),
        KeyCode::Down | KeyCode::Tab => menu.step(1),
        KeyCode::Esc if !menu.back() => return Pressed::Leave,
        KeyCode::Enter if menu.form.is_none() => menu.open(),
        KeyCode::Enter => {
            if let Some(words) = menu.words() {
                return Pressed::Run(words);
            }
        }
        KeyCode::Char('q') if menu.form.is_none() => return Pressed::Leave,
        KeyCode::Char(letter) => menu.edit(|entry| entry.letter(letter)),
        KeyCode::Backspace => menu.edit(Entry::erase),
        KeyCode::Left => menu.edit(|entry| entry.turn(-1)),
        KeyCode::Right => menu.edit(|entry| entry.turn(1)),
        _ => {}
    }
    Pressed::Nothing
}

/// Runs this program with `words`, on this terminal, and waits for a key.
fn execute(words: &[String]) -> Result<(), ClusterError> {
    let start = |source| ClusterError::Start { program: "halo-cluster".to_owned(), source };
    let program = std::env::current_exe().map_err(start)?;
    println!("$ halo-cluster {}\n", shlex::try_join(words.iter().map(String::as_str)).unwrap_or_default());
    // Ctrl-C is for the command, which stops what it started; the menu comes back after it.
    let _interrupts = crate::interrupts()?;
    let status = Command::new(program).args(words).status().map_err(start)?;
    println!("\n{status}; Enter for the menu");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map(|_| ()).map_err(start)
}
