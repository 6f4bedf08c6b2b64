//! init's command line and its questions, on this machine; other machines are tried in tests/system.

use crate::support::Rig;
use crate::support::terminal::Terminal;

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
    let error = refused(&rig, &[&[file], &node[..2], &["--model", "a/m"]].concat());
    assert!(error.contains("`model` is `a/m`, which is no absolute path"), "{error}");
    let absent = ["--node", "a=local,10.0.0.1,nowhere0", "--model", "/models/m", "--link", "roce"];
    let error = refused(&rig, &[&[file], &absent[..]].concat());
    assert!(error.contains("error[HALO-E0752]: the nodes have no link in common of kind roce"), "{error}");
    assert!(!std::path::Path::new(file).exists());
    // USB4 comes with its module, which `configure` loads.
    let usb4 = [&[file], &["--node", "a=local"][..], &["--model", "gpt-oss-20b", "--link", "usb4"]].concat();
    let (status, output, errors) = rig.run(&[&["init"], &usb4[..]].concat());
    assert_eq!(status, 0, "{errors}");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("model = \"gpt-oss-20b\"") && text.contains("link = \"usb4\""), "{text}");
    assert!(text.contains("interface = \"thunderbolt"), "{output}{text}");
    std::fs::write(file, "mine").unwrap();
    shows!("init_exists", refused(&rig, &[&[file], &node[..]].concat()));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
    let (status, _, errors) = rig.run(&["init", "--node", "a"]);
    assert!(status == 2 && errors.contains("expected NAME=TARGET[,ADDRESS[,INTERFACE]]"), "{errors}");
}

#[test]
fn questions_can_be_cancelled_and_nothing_is_written() {
    let rig = Rig::new();
    let mut terminal =
        Terminal::start(&rig.command(&["init", rig.path("c.toml").to_str().unwrap()]), 100, 40);
    terminal.answer("Is this machine one of the nodes?", "y\r");
    terminal.answer("Node 2: where does ssh find it?", "me@b\r");
    terminal.answer("What shall it be called?", "\r");
    terminal.answer("Node 3: where does ssh find it?", "\r");
    terminal.answer("The model's folder", "models\r");
    terminal.answer("an absolute path or a name", "\x1b");
    let (status, text) = terminal.end();
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("error[HALO-E0754]: the questions were not answered: cancelled"), "{text}");
    assert!(!rig.path("c.toml").exists());
}
