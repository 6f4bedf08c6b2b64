//! doctor on this machine and on nodes that cannot be asked; machines of other kinds are judged in the unit tests.

use crate::support::Rig;

fn rows(rig: &Rig, arguments: &[&str]) -> (i32, Vec<serde_json::Value>) {
    let (status, output, errors) = rig.run(&[&["doctor", "--json"], arguments].concat());
    let answer: serde_json::Value =
        serde_json::from_str(&output).unwrap_or_else(|_| panic!("{output}{errors}"));
    assert_eq!(answer["ok"], status == 0);
    (status, answer["rows"].as_array().unwrap().clone())
}

#[test]
fn help() {
    shows!("help_doctor", Rig::new().run(&["doctor", "--help"]).1);
}

#[test]
fn this_machine_is_judged_and_only_chooses_rows() {
    let rig = Rig::new();
    let config = rig.config("");
    let config = config.to_str().unwrap();
    let (_, all) = rows(&rig, &[config]);
    let checks: Vec<_> = all.iter().map(|row| row["check"].as_str().unwrap()).collect();
    for check in ["ssh", "sudo", "os", "kernel", "memlock", "versions", "model", "port"] {
        assert!(checks.contains(&check), "{check} is not in {checks:?}");
    }
    let (status, some) = rows(&rig, &[config, "--only", "ssh,model"]);
    assert_eq!(status, 0);
    assert_eq!(some.iter().map(|row| &row["check"]).collect::<Vec<_>>(), ["ssh", "model"]);
    assert!(some[1]["found"].as_str().unwrap().contains("/model"), "{some:?}");
}

#[test]
fn a_failure_has_its_code_its_remedy_and_the_exit_status() {
    let rig = Rig::new();
    std::fs::remove_file(rig.path("model/config.json")).unwrap();
    let config = rig.config("");
    let (status, rows) = rows(&rig, &[config.to_str().unwrap(), "--only", "model"]);
    assert_eq!((status, rows.len()), (1, 1));
    assert_eq!(rows[0]["code"], "HALO-E0737");
    assert!(rows[0]["remedy"].as_str().unwrap().contains("download"), "{rows:?}");
    let unknown = rig.run(&["doctor", "--only", "modle"]);
    assert_eq!(unknown.0, 2);
    assert!(unknown.2.contains("a similar value exists: 'model'"), "{}", unknown.2);
}

#[test]
fn nodes_that_cannot_be_asked_are_said_and_the_others_judged() {
    let rig = Rig::new();
    let node = |name: &str, number: u8| {
        format!("[[nodes]]\nname = \"{name}\"\nssh = \"me@{name}\"\naddress = \"10.0.0.{number}\"\n")
    };
    let config = rig.config(&(node("b", 2) + &node("c", 3) + &node("d", 4)));
    let text = std::fs::read_to_string(&config)
        .unwrap()
        .replace("address = \"127.0.0.1\"", "address = \"10.0.0.1\"");
    let config = rig.write("c.toml", &text);
    // What OpenSSH says in each case.
    let script = "case \"$*\" in\n\
                  *me@b*) echo 'ssh: connect to host b port 22: No route to host' >&2 ;;\n\
                  *me@c*) echo 'me@c: Permission denied (publickey).' >&2 ;;\n\
                  *) echo 'bash: line 1: python3: command not found' >&2 ;;\nesac\nexit 255\n";
    let output = rig.command_with_ssh(script, &["doctor", config.to_str().unwrap(), "--only", "ssh"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let text = text.lines().filter(|line| !line.contains(" a     ")).collect::<Vec<_>>().join("\n");
    shows!("doctor_unreachable", text);
}
