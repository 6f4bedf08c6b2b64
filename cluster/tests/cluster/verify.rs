//! `verify` refuses what it cannot measure; the measuring itself is tried between hosts, in tests/e2e.

use crate::support::Rig;

#[test]
fn what_cannot_be_measured_is_refused_before_anything_is() {
    let rig = Rig::new();
    shows!("help_verify", rig.run(&["verify", "--help"]).1);
    let config = rig.config("");
    let config = config.to_str().unwrap();
    let (status, _, errors) = rig.run(&["verify", config]);
    assert_eq!(status, 1);
    shows!("verify_one_node", errors);

    let two = rig.config("[[nodes]]\nname = \"b\"\nssh = \"b\"\naddress = \"10.0.0.2\"\n");
    let text = std::fs::read_to_string(&two).unwrap().replace("\"127.0.0.1\"\nranks", "\"10.0.0.1\"\nranks");
    let two = rig.write("two.toml", &text);
    let two = two.to_str().unwrap();
    let wrong = rig.write("wrong.json", "{}");
    let errors = rig.run(&["verify", two, "--compare", wrong.to_str().unwrap()]).2;
    assert!(errors.starts_with("error[HALO-E0764]: the measurement [DIR]/wrong.json cannot"), "{errors}");
    assert!(rig.run(&["verify", two, "--compare"]).2.starts_with("error[HALO-E0765]"));

    let served = rig.serve(&rig.config(""));
    let errors = rig.run(&["verify", two]).2;
    assert!(errors.starts_with("error[HALO-E0760]: a launch is running"), "{errors}");
    served.signal("TERM");
    assert_eq!(served.end().0, Some(0));
}
