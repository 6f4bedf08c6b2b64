//! configure's command line; what it does to hosts is tried in tests/system.

use std::path::Path;

use crate::support::Rig;
use crate::support::terminal::Terminal;

#[test]
fn help() {
    shows!("help_configure", Rig::new().run(&["configure", "--help"]).1);
}

#[test]
fn a_local_node_without_another_interface_is_refused() {
    let rig = Rig::new();
    let config = rig.config("");
    let (status, _, errors) = rig.run(&["configure", config.to_str().unwrap(), "--only", "network"]);
    // Loopback has the address; nothing would ever be set up there.
    assert_eq!(status, 1);
    assert!(errors.starts_with("error[HALO-E0746]: the data interface of node a is unknown"), "{errors}");
}

#[test]
fn modes_exclude_each_other() {
    let rig = Rig::new();
    for pair in [["--apply", "--undo"], ["--dry-run", "--apply"], ["--dry-run", "--undo"]] {
        let (status, _, errors) = rig.run(&["configure", pair[0], pair[1]]);
        assert!(status == 2 && errors.contains("cannot be used with"), "{errors}");
    }
    let (status, _, errors) = rig.run(&["configure", "--only", "netwrk"]);
    assert!(status == 2 && errors.contains("a similar value exists: 'network'"), "{errors}");
}

#[test]
fn hostile_values_do_not_reach_a_shell() {
    let rig = Rig::new();
    let mark = rig.path("injected");
    let evil = format!("x; touch {0}; $(touch {0}) `touch {0}`", mark.display());
    // Values of a narrow shape are refused.
    for (key, line) in
        [("interface", format!("interface = \"{evil}\"\n")), ("network", "[network]\nmtu = 9\n".to_owned())]
    {
        let (status, _, errors) = rig.run(&["doctor", rig.config(&line).to_str().unwrap()]);
        assert!(status == 1 && errors.starts_with("error[HALO-E0602]"), "{key}: {errors}");
    }
    // Free text travels as data: the ssh that is called here is a shell that would run it.
    let script = "shift $(($# - 1))\nexec sh -c \"$1\"\n";
    let node =
        format!("[[nodes]]\nname = \"b\"\nssh = \"me@b\"\naddress = \"10.0.0.2\"\npython = \"{evil}\"\n");
    let text = std::fs::read_to_string(rig.config(&node)).unwrap();
    let model = format!("model = \"/{evil}\"");
    let text = text.replace("address = \"127.0.0.1\"", "address = \"10.0.0.1\"");
    let text = text.lines().map(|line| if line.starts_with("model") { model.as_str() } else { line });
    let config = rig.write("evil.toml", &(text.collect::<Vec<_>>().join("\n") + "\n"));
    let output = rig.command_with_ssh(script, &["doctor", "--json", config.to_str().unwrap()]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = answer["rows"].as_array().unwrap();
    let on_b = |check: &str| rows.iter().find(|row| row["node"] == "b" && row["check"] == check).unwrap();
    assert_eq!(on_b("ssh")["verdict"], "pass");
    assert_eq!(on_b("versions")["verdict"], "fail");
    assert!(!mark.exists());
}

/// An ssh whose host, in this folder, lets in by a password at a terminal, and by key whoever's key it has.
fn host_with_password(rig: &Rig) -> String {
    let script = format!(
        "export HOME={0}/remote\nmkdir -p $HOME/.ssh\nfor last; do :; done\n\
         case \"$*\" in *-G*) echo identityfile {0}/home/.ssh/id_ed25519; exit ;; esac\n\
         case \"$*\" in *BatchMode=yes*)\n  grep -qxF \"$(cat {0}/home/.ssh/id_ed25519.pub)\" $HOME/.ssh/authorized_keys || {{\n    \
         echo 'me@b: Permission denied (publickey,password).' >&2; exit 255; }} ;;\nesac\nexec sh -c \"$last\"\n",
        rig.folder.path().display()
    );
    // Makes the double, whatever it answers to this.
    rig.command_with_ssh(&script, &["--version"]);
    format!("{}:{}", rig.path("bin").display(), std::env::var("PATH").unwrap())
}

#[test]
fn a_key_is_copied_after_a_yes_and_taken_back() {
    let rig = Rig::new();
    let path = host_with_password(&rig);
    let home = rig.path("home").display().to_string();
    std::fs::create_dir(&home).unwrap();
    let node = "[[nodes]]\nname = \"b\"\nssh = \"me@b\"\naddress = \"10.0.0.2\"\n";
    let text = std::fs::read_to_string(rig.config(node)).unwrap();
    let config = rig.write("c.toml", &text.replace("address = \"127.0.0.1\"", "address = \"10.0.0.1\""));
    let keys = rig.path("remote/.ssh/authorized_keys");
    std::fs::create_dir_all(keys.parent().unwrap()).unwrap();
    std::fs::write(&keys, "ssh-ed25519 AAAA another\n").unwrap();
    // A container that is not configured: a step without anything to do on this machine.
    let apply = ["configure", config.to_str().unwrap(), "--apply", "--only", "container"];
    let environment = [("PATH", path.as_str()), ("HOME", home.as_str())];

    let refused =
        |keys: &Path| assert_eq!(std::fs::read_to_string(keys).unwrap(), "ssh-ed25519 AAAA another\n");
    let mut terminal = Terminal::start(rig.command(&apply).envs(environment), 150, 40);
    terminal.answer("Copy this machine's public key to b, so that it lets you in? [y/N]", "n\r");
    let (status, shown) = terminal.end();
    assert!(status == 1 && shown.contains("error[HALO-E0612]"), "{shown}");
    refused(&keys);

    let mut terminal = Terminal::start(rig.command(&apply).envs(environment), 150, 40);
    terminal.answer("Copy this machine's public key to b, so that it lets you in? [y/N]", "y\r");
    let (status, shown) = terminal.end();
    assert!(status == 0 && shown.contains("b: nothing to change"), "{status}: {shown}");
    let key = std::fs::read_to_string(rig.path("home/.ssh/id_ed25519.pub")).unwrap();
    assert_eq!(std::fs::read_to_string(&keys).unwrap(), format!("ssh-ed25519 AAAA another\n{key}"));

    let mut undo = rig.command(&["configure", config.to_str().unwrap(), "--undo", "--yes"]);
    let output = undo.envs(environment).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("b: taken back: this machine's public key"));
    refused(&keys);
}
