//! The examples of `configure --help`, run as they stand there; those of the other commands are run in cluster/tests.

use halo_system::Site;

#[test]
#[ignore = "needs root: makes network namespaces and mounts"]
fn the_examples_of_configure_show_change_and_take_back() {
    let site = Site::new(2, "rdma0");
    let help = site.line("halo-cluster configure --help").output;
    let examples = help.split("Examples:\n").nth(1).unwrap_or_else(|| panic!("no examples: {help}"));
    let mut said = Vec::new();
    for line in examples.lines().map(str::trim) {
        let ran = site.line(line);
        assert_eq!(ran.status, 0, "{line}\n{}{}", ran.output, ran.errors);
        said.push((ran.output, site.changes(1)));
    }
    let [(shown, nothing), (_, applied), (_, undone)] = &said[..] else { panic!("{said:?}") };
    assert!(shown.contains("limits.d/90-halo.conf") && nothing.is_empty(), "{said:?}");
    assert!(applied.contains("limits.d/90-halo.conf") && applied.contains("halo.nmconnection"), "{applied}");
    assert_eq!(undone, "");
}
