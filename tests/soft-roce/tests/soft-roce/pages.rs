//! What arenas really lie in: huge pages where a system allows them, and the memory of a rank's own node.

use std::time::Duration;

use halo_soft_roce::Rig;

const CHECK: &str = env!("CARGO_BIN_EXE_pages-check");

/// What one check has printed.
struct Pages<'a> {
    said: &'a str,
    transparent_kib: u64,
    from_the_pool: u64,
    on_nodes: Vec<u64>,
}

fn checks(printed: &str) -> Vec<Pages<'_>> {
    let lines: Vec<&str> = printed.lines().collect();
    let number =
        |line: &str| line.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u64>>();
    let last = |line: &str| number(line.rsplit_once(':').expect("what a check prints").1);
    lines
        .chunks_exact(4)
        .map(|lines| Pages {
            said: lines[0],
            transparent_kib: last(lines[1])[0],
            from_the_pool: last(lines[2])[0],
            on_nodes: last(lines[3]),
        })
        .collect()
}

#[test]
#[ignore = "boots a virtual machine: `make test-soft-roce`"]
fn arenas_lie_in_huge_pages_where_allowed_and_on_their_ranks_node() {
    let setting = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let command = format!(
        "set -e; echo advise >{setting}; {CHECK} shm; HALO_ADDRESS=$ADDRESS {CHECK} rdma; \
         echo never >{setting}; {CHECK} shm; taskset -c 1 {CHECK} shm; \
         echo 8 >/proc/sys/vm/nr_hugepages; {CHECK} shm; taskset -c 1 {CHECK} shm"
    );
    let rig = Rig::new().two_nodes().timeout(Duration::from_secs(120)).env("HALO_KEY", "a key for this test");
    let outcome = rig.echo(true).run(&[command]).unwrap();
    assert!(outcome.succeeded(), "{outcome:#?}");
    let checks = checks(&outcome.vms[0].output);
    let [shm, rdma, first, second, pool, pool_of_second] = checks.as_slice() else {
        panic!("six checks: {outcome:#?}")
    };
    // Each arena is one such page and a little.
    for transparent in [shm, rdma] {
        assert!(transparent.said.contains("transparent huge pages"), "{}", transparent.said);
        assert_eq!(
            (transparent.transparent_kib, transparent.from_the_pool),
            (4096, 0),
            "{}",
            transparent.said
        );
    }
    assert!(
        first.said.contains("ordinary pages (transparent_hugepage/shmem_enabled is never"),
        "{}",
        first.said
    );
    assert_eq!((first.transparent_kib, first.from_the_pool), (0, 0));
    assert!(second.said.ends_with("on node 1"), "{}", second.said);
    assert!(second.on_nodes[0] == 0 && second.on_nodes[1] > 0, "{:?}", second.on_nodes);
    for pool in [pool, pool_of_second] {
        assert!(pool.said.contains("huge pages of 2048 KiB"), "{}", pool.said);
        assert_eq!((pool.transparent_kib, pool.from_the_pool), (0, 4));
    }
    assert_eq!(pool_of_second.on_nodes[0], 0, "{:?}", pool_of_second.on_nodes);
}
