//! Every wrong input has its own message. The snapshots are what a user sees.

use std::net::TcpListener;

use crate::support::Rig;

#[test]
fn help() {
    let rig = Rig::new();
    shows!("help", rig.run(&["--help"]).1);
    shows!("help_launch", rig.run(&["launch", "--help"]).1);
    let (status, _, errors) = rig.run(&["launch"]);
    assert_eq!(status, 2);
    shows!("usage", errors);
}

#[test]
fn dry_run_shows_the_commands_without_secrets() {
    let rig = Rig::new();
    let config = rig.config("[[nodes]]\nname = \"b\"\nssh = \"me@b\"\naddress = \"192.168.100.2\"\n");
    let text = std::fs::read_to_string(&config)
        .unwrap()
        .replace("address = \"127.0.0.1\"", "address = \"192.168.100.1\"");
    let config = rig.write("two.toml", &text);
    let mut command = rig.command(&["launch", "--dry-run", config.to_str().unwrap()]);
    let output = command.env_remove("HF_TOKEN").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let text =
        text.replace(rig.folder.path().to_str().unwrap(), "[DIR]").replace(&rig.port.to_string(), "[PORT]");
    shows!("dry_run", text);
}

#[test]
fn configurations() {
    let rig = Rig::new();
    shows!("no_file", rig.failure(&rig.path("absent.toml")));
    // Without an end, too.
    let endless = rig.failure(std::path::Path::new("/dev/zero"));
    assert!(
        endless.starts_with("error[HALO-E0604]: /dev/zero: more than 1024 KiB, which no config"),
        "{endless}"
    );
    shows!("malformed", rig.failure(&rig.write("c.toml", "model = \"/m\"\nport = = 1\n")));
    shows!("unknown_key", rig.failure(&rig.config("adress = \"10.0.0.1\"\n")));
    shows!("unknown_table", rig.failure(&rig.config("[timeout]\nray = 1\n")));
    shows!("wrong_type", rig.failure(&rig.write("c.toml", "model = \"/m\"\nport = \"http\"\nnodes = []\n")));
    shows!("wrong_port", rig.failure(&rig.write("c.toml", "model = \"/m\"\nport = 70000\nnodes = []\n")));
    shows!(
        "wrong_transport",
        rig.failure(&rig.write("c.toml", "model = \"/m\"\ntransport = \"roce\"\nnodes = []\n"))
    );
    shows!(
        "wrong_address",
        rig.failure(&rig.write(
            "c.toml",
            "model = \"/m\"\n[[nodes]]\nname = \"a\"\nlocal = true\naddress = \"192.168.100\"\n"
        ))
    );
    shows!("missing_key", rig.failure(&rig.write("c.toml", "nodes = []\n")));
    shows!("no_nodes", rig.failure(&rig.write("c.toml", "model = \"/m\"\nnodes = []\n")));
    shows!("relative_model", rig.failure(&rig.write("c.toml", "model = \"a/m\"\nnodes = []\n")));
    let unknown = rig.failure(&rig.write("c.toml", "model = \"gpt-oss-12b\"\nnodes = []\n"));
    let said = "error[HALO-E0604]: [DIR]/c.toml:1:9: there is no model `gpt-oss-12b` in the catalogue\n  \
                help: did you mean `gpt-oss-120b`?";
    assert!(unknown.starts_with(said), "{unknown}");
    let second = |node: &str| rig.failure(&rig.config(&format!("[[nodes]]\n{node}\n")));
    shows!("name_twice", second("name = \"a\"\nssh = \"b\"\naddress = \"10.0.0.2\""));
    shows!("ssh_and_local", second("name = \"b\"\nssh = \"b\"\nlocal = true\naddress = \"10.0.0.2\""));
    shows!("reserved_argument", rig.failure(&rig.config("[vllm]\nargs = [\"--port=1\"]\n")));
}

#[test]
fn nodes_that_lack_something() {
    let rig = Rig::new();
    rig.python(&["vllm", "halo"]);
    shows!("no_ray", named(rig.failure(&rig.config(""))));
    rig.python(&["ray", "halo"]);
    shows!("no_vllm", named(rig.failure(&rig.config(""))));
    rig.python(&["ray", "vllm"]);
    shows!("no_halo", named(rig.failure(&rig.config(""))));

    let rig = Rig::new();
    std::fs::remove_file(rig.path("model/config.json")).unwrap();
    let error = rig.failure(&rig.config(""));
    let (before, after) = error.split_once(" on any node; ").unwrap();
    let free = after.split(" GiB free").next().unwrap();
    assert!(free.parse::<f64>().is_ok(), "{error}");
    shows!("no_model", format!("{before} on any node; {}", after.replacen(free, "[FREE]", 1)));

    let rig = Rig::new();
    let _holder = TcpListener::bind(("127.0.0.1", rig.port)).unwrap();
    shows!("port_taken", rig.failure(&rig.config("")));

    let rig = Rig::new();
    let text = std::fs::read_to_string(rig.config(""))
        .unwrap()
        .replace("address = \"127.0.0.1\"", "address = \"203.0.113.9\"");
    let error = rig.failure(&rig.write("c.toml", &text));
    assert!(
        error.starts_with(
            "error[HALO-E0627]: node a does not have the address 203.0.113.9; it has 127.0.0.1 (lo)"
        ),
        "{error}"
    );

    shows!("wrong_interface", Rig::new().with_node("interface = \"enp9s0\""));
    shows!("no_python", Rig::new().with_node("python = \"/nowhere/python\""));
}

#[test]
fn nodes_that_cannot_be_reached() {
    let rig = Rig::new();
    let node = "[[nodes]]\nname = \"b\"\nssh = \"me@b\"\naddress = \"192.168.100.2\"\n";
    let one = std::fs::read_to_string(rig.config(node))
        .unwrap()
        .replace("address = \"127.0.0.1\"", "address = \"10.0.0.1\"");
    let config = rig.write("c.toml", &one);
    // What OpenSSH says in each case.
    shows!("unreachable", rig.failure_with_ssh("ssh: connect to host b port 22: No route to host", &config));
    shows!("login_refused", rig.failure_with_ssh("me@b: Permission denied (publickey).", &config));
    shows!("unknown_host_key", rig.failure_with_ssh("Host key verification failed.", &config));
    shows!("no_remote_python", rig.failure_with_ssh("bash: line 1: python3: command not found", &config));
}

#[test]
fn starts_that_fail() {
    let with = |mode: &str, more: &str| {
        let rig = Rig::new();
        rig.failure(&rig.config(&format!("{more}[env]\nSTAND_IN = \"{mode}\"\n")))
    };
    shows!("ray_fails", with("ray-fails", ""));
    shows!("ray_silent", with("ray-silent", "[timeouts]\nray = 1\n"));
    shows!("vllm_fails", with("vllm-fails", ""));
    shows!("never_ready", with("never-ready", "[timeouts]\nready = 1\n"));
    shows!("first_token_fails", with("first-token-fails", ""));
    shows!("stream_breaks_off", with("stream-breaks-off", ""));
    shows!("halo_unused", with("no-halo", ""));
}

/// The interpreter's own path differs from machine to machine.
fn named(error: String) -> String {
    let Some((before, rest)) = error.split_once("node a: /") else { return error };
    let (_, after) = rest.split_once(" has no ").unwrap_or((rest, ""));
    format!("{before}node a: [PYTHON] has no {after}")
}

trait WithNode {
    fn with_node(&self, line: &str) -> String;
}

impl WithNode for Rig {
    /// The failure when the only node has one more line.
    fn with_node(&self, line: &str) -> String {
        let text = std::fs::read_to_string(self.config(&format!("{line}\n"))).unwrap();
        self.failure(&self.write("c.toml", &text))
    }
}
