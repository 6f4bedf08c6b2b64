//! What happens when the other side is not as it should be: two processes over TCP on loopback.

use halo_tuner::{HANDSHAKE_US, Link, LinkCost};

use crate::common::{assert_lost, host, peers, peers_with, printed, told};

#[test]
fn two_processes_exchange_messages_of_all_sizes() {
    for sockets in ["1", "3"] {
        let outputs = peers("exchange", &[("HALO_PLUGIN_SOCKETS", sockets), ("HALO_KEY", "a key")], &[]);
        for output in &outputs {
            assert!(output.status.success(), "{}", printed(output));
            assert!(printed(output).contains("every byte in its place"), "{}", printed(output));
        }
    }
}

#[test]
fn a_killed_process_is_told_to_both_directions_in_one_line_each() {
    // A deadline, ten times what a host may be silent: nothing is measured.
    let [survivor, killed] = peers_with("killed", &["--within", "20"], &[("HALO_PEER_TIMEOUT", "2")], &[]);
    let text = printed(&survivor);
    assert!(survivor.status.success() && !killed.status.success(), "{text}{}", printed(&killed));
    assert!(text.contains("codes 6 6"), "ncclRemoteError both ways: {text}");
    let peer = text.split_once("sends to ").unwrap().1.split_once(',').unwrap().0.to_owned();
    assert!(peer.contains(" (process "), "{peer}");
    assert_lost(&text, &peer, "lo (tcp)", &["it closed the connection", "its process has ended"]);
}

#[test]
fn a_listener_that_dies_before_it_accepts_is_an_error_and_not_a_wait() {
    let [caller, _] = peers("deaf", &[], &[]);
    let text = printed(&caller);
    assert!(caller.status.success() && text.contains("code 6"), "{text}");
    assert!(text.contains("told: NET/halo: HALO-E0806") && text.contains("cannot be reached"), "{text}");
    assert_eq!(told(&text).len(), 1, "{text}");
}

#[test]
fn a_listener_that_never_accepts_is_given_up_at_the_deadline() {
    let outputs = peers("silent", &[("HALO_PLUGIN_TIMEOUT", "0.5")], &[]);
    let text = printed(&outputs[0]);
    assert!(outputs.iter().all(|output| output.status.success()), "{text}");
    assert!(
        text.contains("code 6") && text.contains("HALO-E0807") && text.contains("HALO_PLUGIN_TIMEOUT"),
        "{text}"
    );
    assert_eq!(told(&text).len(), 1, "{text}");
}

#[test]
fn another_key_is_refused_by_name_on_both_sides() {
    let outputs = peers("refused", &[("HALO_KEY", "one")], &[("HALO_KEY", "another")]);
    for output in &outputs {
        let text = printed(output);
        assert!(output.status.success() && text.contains("refused with code 6"), "{text}");
        assert!(text.contains("HALO-E0809") && text.contains("does not have the same key"), "{text}");
    }
}

#[test]
fn settings_that_make_no_sense_are_named_with_what_they_take() {
    let try_with = |name: &str, value: &str| {
        let output = host("v12").env(name, value).args(["case", "properties"]).output().unwrap();
        assert!(!output.status.success(), "{name}={value}: {}", printed(&output));
        printed(&output)
    };
    for (name, value) in [
        ("HALO_TRANSPORT", "pigeon"),
        ("HALO_PLUGIN_SOCKETS", "9"),
        ("HALO_PLUGIN_TIMEOUT", "soon"),
        ("NCCL_IB_SL", "16"),
        ("NCCL_IB_ROCE_VERSION_NUM", "1"),
        ("NCCL_IB_ADDR_RANGE", "here"),
        ("NCCL_IB_TIMEOUT", "32"),
        ("NCCL_IB_MERGE_NICS", "2"),
    ] {
        let text = try_with(name, value);
        assert!(text.contains("HALO-E0801") && text.contains(name) && text.contains(value), "{text}");
    }
    let text = try_with("NCCL_SOCKET_IFNAME", "=nosuch0");
    assert!(
        text.contains("HALO-E0802") && text.contains("lo (127.0.0.1)"),
        "every interface is told: {text}"
    );
    let text = try_with("HALO_TRANSPORT", "rdma");
    assert!(text.contains("HALO-E0802"), "rdma where there is none is no silent fall-back: {text}");
}

#[test]
fn variables_of_nccl_are_honoured_or_named() {
    let case = |environment: &[(&str, &str)]| {
        let output =
            host("v12").envs(environment.iter().copied()).args(["case", "listener-again"]).output().unwrap();
        assert!(output.status.success(), "{}", printed(&output));
        printed(&output)
    };
    let text = case(&[("NCCL_IB_PKEY", "1"), ("NCCL_IB_MERGE_VFS", "0"), ("NCCL_IB_TC", "106")]);
    let told: Vec<_> = text.lines().filter(|line| line.contains("no effect")).collect();
    assert_eq!(told, ["WARN NET/halo: NCCL_IB_MERGE_VFS, NCCL_IB_PKEY are set and have no effect with halo"]);
    let text = case(&[("NCCL_SOCKET_NTHREADS", "2"), ("NCCL_NSOCKS_PERTHREAD", "3")]);
    assert!(text.contains("over 6 lane(s)") && !text.contains("no effect"), "{text}");
    let text = case(&[("NCCL_NSOCKS_PERTHREAD", "4"), ("HALO_PLUGIN_SOCKETS", "2")]);
    assert!(text.contains("over 2 lane(s)"), "{text}");
}

#[test]
fn tcp_interfaces_are_not_joined_and_the_core_is_told_why() {
    // Every interface of this host; where there is only one, it stands for itself.
    let output = host("v12").env_remove("NCCL_SOCKET_IFNAME").args(["case", "joined"]).output().unwrap();
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("INFO NET/halo: HALO-E0821: devices [0, 0] cannot be used as one"), "{text}");
    if text.contains("device 1: ") {
        assert!(text.contains("speaks TCP"), "{text}");
    }
}

#[test]
fn the_tuner_can_be_off_and_names_a_table_that_it_cannot_use() {
    let with =
        |file: &str| host("v12").env("HALO_TUNER_FILE", file).args(["case", "tuner"]).output().unwrap();
    let off = with("off");
    assert!(off.status.success() && printed(&off).matches("good").count() == 10, "{}", printed(&off));
    let missing = with("/nonexistent/table.toml");
    let text = printed(&missing);
    assert!(
        !missing.status.success() && text.contains("HALO-E0819") && text.contains("/nonexistent"),
        "{text}"
    );
}

#[test]
fn the_tuner_does_what_its_file_says() {
    let folder = tempfile::tempdir().unwrap();
    // As `halo-perf tune-plugin` writes it, of a link that the built-in table does not have in mind; and by hand.
    let slow = LinkCost { link: Link::Tcp, latency_us: 30.0, bandwidth: 1000.0, handshake_us: HANDSHAKE_US };
    let measured = slow.to_text("a link that nobody has measured");
    let by_hand = "[[rule]]\ncollective = \"broadcast\"\nmax_bytes = 20000\nalgorithm = \"tree\"\nprotocol = \"LL128\"\n\
        channels = 3\n[[rule]]\ncollective = \"all_reduce\"\nlink = \"rdma\"\nalgorithm = \"ring\"\nprotocol = \"LL\"\n\
        [[rule]]\ncollective = \"all_reduce\"\nmin_ranks = 2\nmax_ranks = 2\nalgorithm = \"tree\"\nprotocol = \"Simple\"\n\
        channels = 7\n[[rule]]\ncollective = \"all_gather\"\nmin_ranks = 3\nalgorithm = \"ring\"\nprotocol = \"LL\"\n";
    for (name, text) in [("measured", measured.as_str()), ("by-hand", by_hand)] {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let output = host("v12").env("HALO_TUNER_FILE", &file).args(["case", "tuner"]).output().unwrap();
        let text = printed(&output);
        assert!(output.status.success() && text.matches("good").count() == 10, "{name}: {text}");
        assert!(text.contains(&format!("over Tcp: {}", file.display())), "the file is named: {text}");
    }
}

#[test]
fn the_statistics_count_what_went_through() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("{pid}.json");
    let output = host("v12").env("HALO_PLUGIN_STATS_FILE", &file).args(["case", "ring"]).output().unwrap();
    assert!(output.status.success(), "{}", printed(&output));
    let written = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
    let text = std::fs::read_to_string(written.path()).unwrap();
    // Three steps of four ranks, 300000 bytes each.
    assert!(text.contains("\"sent_bytes\":3600000,\"sent_messages\":12"), "{text}");
    assert!(text.contains("\"received_bytes\":3600000,\"received_messages\":12"), "{text}");
}
