//! The menu on a terminal, the completions and the man pages: all from one definition.

use crate::support::Rig;
use crate::support::terminal::Terminal;

#[test]
fn the_menu_runs_the_command_that_it_shows_and_comes_back() {
    let rig = Rig::new();
    let mut terminal = Terminal::start(&rig.command(&[]), 100, 32);
    let screen = terminal.until(|text| text.contains("q leaves"));
    for name in ["doctor", "launch", "models list", "models fit", "verify", "top", "stop", "logs"] {
        assert!(screen.contains(name), "{name} is missing:\n{screen}");
    }
    // Down to `models show`, whose model is needed.
    while !terminal.text().contains("│halo-cluster models show") {
        let before = terminal.text();
        terminal.press("\x1b[B");
        terminal.until(|text| text != before);
    }
    terminal.press("\r");
    terminal.until(|text| text.contains("Enter runs"));
    terminal.press("\r");
    terminal.until(|text| text.contains("model is needed"));
    terminal.press("gpt-oss-20b");
    terminal.until(|text| text.contains("halo-cluster models show gpt-oss-20b"));
    terminal.press("\r");
    let screen = terminal.until(|text| text.contains("Enter for the menu"));
    assert!(screen.contains("openai/gpt-oss-20b"), "{screen}");
    terminal.press("\r");
    terminal.until(|text| text.contains("Enter runs"));
    terminal.press("\x1b");
    terminal.until(|text| text.contains("q leaves"));
    terminal.press("q");
    assert_eq!(terminal.end().0, 0);
}

#[test]
fn without_a_terminal_there_is_help_instead_of_a_menu() {
    let rig = Rig::new();
    let (status, _, errors) = rig.run(&[]);
    assert_eq!(status, 2);
    assert!(errors.contains("Usage: halo-cluster"), "{errors}");
}

#[test]
fn completions_and_man_pages_know_every_command() {
    let rig = Rig::new();
    for shell in ["bash", "zsh", "fish"] {
        let (status, script, _) = rig.run(&["completions", shell]);
        assert_eq!(status, 0);
        for word in ["launch", "print-environment", "download", "verify"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    let pages = rig.path("man");
    let (status, output, errors) = rig.run(&["man", "--into", pages.to_str().unwrap()]);
    assert_eq!(status, 0, "{errors}");
    assert!(output.ends_with("page(s) in [DIR]/man\n"), "{output}");
    let page = std::fs::read_to_string(pages.join("halo-cluster-launch.1")).unwrap();
    assert!(page.contains("\\-\\-without\\-ray") && page.contains("Examples:"), "{page}");
    assert!(pages.join("halo-cluster-models-fit.1").is_file());
    let (status, _, errors) = rig.run(&["man", "--into", "/proc/nowhere"]);
    assert_eq!(status, 1);
    assert!(
        errors.starts_with("error[HALO-E0683]: the man pages cannot be written to /proc/nowhere"),
        "{errors}"
    );
}
