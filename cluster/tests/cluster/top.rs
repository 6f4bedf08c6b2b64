//! `top`: the picture on a terminal, as text and as JSON.

use crate::support::Rig;
use crate::support::terminal::Terminal;

#[test]
fn a_launch_is_seen_as_text_as_json_and_live_on_a_terminal() {
    let rig = Rig::new();
    let served = rig.serve(&rig.config(""));

    let (status, output, errors) = rig.run(&["top", "--once", "--json"]);
    assert_eq!(status, 0, "{errors}");
    let seen: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(seen["launch"]["phase"], "ready");
    let node = &seen["nodes"][0];
    assert_eq!((&node["name"], &node["error"]), (&"a".into(), &serde_json::Value::Null));
    assert!(node["now"]["memory_total"].as_u64().unwrap() > 0);
    assert_eq!(node["now"]["links"][0]["interface"], "lo");
    assert_eq!((&seen["vllm"]["waiting"], &seen["vllm"]["cache_percent"]), (&2.0.into(), &50.0.into()));
    assert_eq!(
        (&seen["collectives"][0]["group"], &seen["collectives"][0]["count"]),
        (&"tp:0".into(), &9.into())
    );
    assert_eq!(seen["histogram"], serde_json::json!([[32.0, 7], [64.0, 2]]));

    let (status, output, _) = rig.run(&["top", "--once"]);
    assert_eq!(status, 0);
    assert!(output.contains("halo-cluster: ready") && output.contains("all_reduce"), "{output}");

    let mut terminal = Terminal::start(&rig.command(&["top"]), 110, 30);
    let screen = terminal.until(|text| text.contains("1 running, 2 waiting") && text.contains("of "));
    for part in ["halo-cluster: ready", "nodes", "links", "lo", "tp:0", "all_reduce", "32us", "q quits"] {
        assert!(screen.contains(part), "{part} is missing:\n{screen}");
    }
    // vLLM dies with the launch; the dashboard goes on and says so.
    served.signal("INT");
    assert_eq!(served.end().0, Some(0));
    terminal.until(|text| text.contains("does not answer") && text.contains("halo-cluster: stopped"));
    terminal.press("q");
    assert_eq!(terminal.end().0, 0);
}

#[test]
fn a_node_that_cannot_be_asked_is_shown_as_such() {
    let rig = Rig::new();
    let config = rig.config("").display().to_string();
    let text =
        std::fs::read_to_string(&config).unwrap().replace("local = true", "ssh = \"me@nowhere.invalid\"");
    let config = rig.write("lost.toml", &text);
    let (status, output, errors) = rig.run(&["top", config.to_str().unwrap(), "--once", "--json"]);
    assert_eq!(status, 0, "{errors}");
    let seen: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert!(seen["nodes"][0]["error"].as_str().unwrap().contains("me@nowhere.invalid"), "{output}");
}

#[test]
fn without_a_launch_a_configuration_is_needed() {
    let rig = Rig::new();
    shows!("help_top", rig.run(&["top", "--help"]).1);
    let (status, _, errors) = rig.run(&["top", "--once"]);
    assert_eq!(status, 1);
    shows!("top_nothing", errors);
    let (status, output, errors) = rig.run(&["top", "--once", rig.config("").to_str().unwrap()]);
    assert_eq!(status, 0, "{errors}");
    assert!(output.contains("nothing was launched") && output.contains("does not answer"), "{output}");
}
