//! A host that lets in by a password: its fingerprint is shown, the password is asked for by ssh itself, the key comes
//! there, and what was changed on either side is taken back. sshd, ssh and the terminal are real.

#[path = "../../../../cluster/tests/cluster/support/terminal.rs"]
mod terminal;

use std::path::{Path, PathBuf};
use std::time::Duration;

use halo_system::Site;
use terminal::Terminal;

/// Hang guard of every wait.
const PATIENCE: Duration = Duration::from_secs(60);
const QUESTION: &str = "Copy this machine's public key to n1, so that it lets you in? [y/N]";
const PASSWORD: &str = "correct horse";

/// A user `me` with a password and somebody's key, and an sshd that takes both.
const SSHD: &str = r#"
set -eu
mkdir -p /run/home
useradd --create-home --home-dir /run/home/me --shell /bin/sh me
echo "me:$1" | chpasswd
install -d -m 700 -o me -g me /run/home/me/.ssh
printf 'ssh-ed25519 AAAA somebody' >/run/home/me/.ssh/authorized_keys
chown me:me /run/home/me/.ssh/authorized_keys
cat >/run/sshd_config <<CONFIG
Port 2222
HostKey $2/host_key
AuthorizedKeysFile .ssh/authorized_keys
PasswordAuthentication yes
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
CONFIG
/usr/sbin/sshd -f /run/sshd_config
"#;

/// The site, its configuration pointing at that sshd, and the folder of this user's keys.
fn site() -> (Site, PathBuf) {
    let site = Site::new(1, "rdma0");
    let hosts = site.hosts.folder().display().to_string();
    let output = site.hosts.exec(1, ["sh", "-c", SSHD, "sshd", PASSWORD, &hosts]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let own = site.config().with_file_name("ssh");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("known_hosts"), "elsewhere ssh-ed25519 AAAA\n").unwrap();
    let (name, folder) = (&site.hosts.host(1).name, own.display());
    let text = format!(
        "Host {name}\n  HostName {}\n  Port 2222\n  User me\n  IdentityFile {folder}/id_ed25519\n  IdentitiesOnly yes\n  \
         UserKnownHostsFile {folder}/known_hosts\n  HashKnownHosts no\n",
        site.hosts.host(1).management
    );
    std::fs::write(own.join("config"), text).unwrap();
    let config = std::fs::read_to_string(site.config()).unwrap();
    let theirs = site.hosts.ssh_config().display().to_string();
    let config = config.replace(&theirs, &own.join("config").display().to_string());
    std::fs::write(site.config(), config).unwrap();
    (site, own)
}

fn known(own: &Path) -> String {
    std::fs::read_to_string(own.join("known_hosts")).unwrap()
}

fn allowed(site: &Site) -> String {
    site.shell(1, "cat /run/home/me/.ssh/authorized_keys")
}

fn terminal(site: &Site, arguments: &[&str]) -> Terminal {
    Terminal::start(&site.command(arguments), 200, 60)
}

#[test]
#[ignore = "needs root: makes network namespaces and mounts"]
fn a_host_with_a_password_gets_the_key_and_gives_it_back() {
    let (site, own) = site();
    let before = (allowed(&site), known(&own));

    // What would be done is shown, and nothing is: no host is accepted unseen.
    let ran = site.run(&["configure"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let making = format!("    $ ssh-keygen -q -t ed25519 -N '' -f {}/id_ed25519\n", own.display());
    assert!(
        ran.output.contains("n1:\n  login: let this machine in by its key\n") && ran.output.contains(&making)
    );
    assert!(ran.output.contains("\nNothing was changed: "), "{}", ran.output);
    assert_eq!(
        (allowed(&site), known(&own), own.join("id_ed25519").exists()),
        (before.0.clone(), before.1.clone(), false)
    );

    // A wrong password: said, and the key is not there. The host was accepted by the person, its fingerprint seen.
    let apply = ["configure", "--apply", "--only", "container"];
    let mut wrong = terminal(&site, &apply);
    wrong.answer(QUESTION, "y\r");
    let fingerprint =
        site.shell(1, &format!("ssh-keygen -lf {}/host_key.pub", site.hosts.folder().display()));
    let fingerprint = fingerprint.split_whitespace().nth(1).unwrap();
    wrong.until(|text| text.contains(fingerprint));
    wrong.answer("(yes/no/[fingerprint])?", "yes\r");
    for attempt in 1..=3 {
        wrong.until(|text| text.matches("password:").count() == attempt);
        wrong.press("wrong\r");
    }
    let (status, shown) = wrong.end();
    assert!(status == 1 && shown.contains("error[HALO-E0756]") && shown.contains("node n1"), "{shown}");
    assert!(!shown.contains("wrong\n"), "what is typed is not shown: {shown}");
    assert_eq!(allowed(&site), before.0);

    // The right one, this time for init, which looks before there is a configuration.
    let name = &site.hosts.host(1).name;
    let (node, ssh) = (format!("--node=n1={name}"), format!("--ssh-option={}/config", own.display()));
    let mut init =
        terminal(&site, &["init", "--force", &node, "--model", "/models/m", "--ssh-option=-F", &ssh]);
    init.answer(QUESTION, "y\r");
    init.answer("password:", &format!("{PASSWORD}\r"));
    let (status, shown) = init.end();
    assert!(status == 0 && !shown.contains(PASSWORD), "{shown}");
    let key = std::fs::read_to_string(own.join("id_ed25519.pub")).unwrap();
    assert_eq!(allowed(&site), format!("{}\n{}", before.0, key.trim()));
    assert_eq!(known(&own).lines().count(), 2, "{}", known(&own));
    let ran = site.run(&["doctor", "--only", "ssh"]);
    assert_eq!(ran.status, 0, "{ran:?}");

    // Exactly that is taken back; the password is written nowhere.
    let state = site.config().with_file_name("state");
    let found = std::process::Command::new("grep").args(["-rl", PASSWORD]).arg(state).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    let ran = site.run(&["configure", "--undo", "--yes"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    for line in ["n1: taken back: this machine's public key", "n1: taken back: its host key"] {
        assert!(ran.output.contains(line), "{}", ran.output);
    }
    assert_eq!((allowed(&site), known(&own)), before);
    let ran = site.run(&["configure", "--undo", "--yes"]);
    assert!(
        ran.status == 1 && ran.errors.starts_with("error[HALO-E0612]"),
        "it is a stranger again: {ran:?}"
    );
}

#[test]
#[ignore = "needs root: makes network namespaces and mounts"]
fn a_key_that_was_there_already_stays_there() {
    let (site, own) = site();
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "passphrase", "-f"])
        .arg(own.join("id_ed25519"))
        .status();
    assert!(made.unwrap().success());
    let key = std::fs::read_to_string(own.join("id_ed25519.pub")).unwrap();
    site.shell(1, &format!("printf '\\n%s\\n' '{}' >>/run/home/me/.ssh/authorized_keys", key.trim()));
    let before = allowed(&site);
    // Its passphrase is asked for by ssh, which lets the person in; without one, halo-cluster is still refused.
    let mut apply = terminal(&site, &["configure", "--apply", "--only", "container"]);
    apply.answer(QUESTION, "y\r");
    apply.answer("(yes/no/[fingerprint])?", "yes\r");
    apply.answer("Enter passphrase for key", "passphrase\r");
    let (status, shown) = apply.end();
    assert!(status == 1 && shown.contains("error[HALO-E0757]") && shown.contains("ssh-add"), "{shown}");
    // Nothing of the key was done, so nothing of it would be taken back.
    let state =
        std::fs::read_to_string(site.config().with_file_name("state").join("halo-cluster/logins.json"));
    let state: serde_json::Value = serde_json::from_str(&state.unwrap()).unwrap();
    assert_eq!((state.as_array().unwrap().len(), &state[0]["key"]), (1, &serde_json::Value::Null));
    assert_eq!(allowed(&site), before);
}
