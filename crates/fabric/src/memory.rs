//! How much memory a process may have: what the system has left, in ordinary pages and in its pool of huge ones, and what
//! control groups allow. Shared memory is taken page by page, as it is touched; who is not refused before is killed then.

use std::fs;
use std::path::Path;

/// Whether `bytes` bytes more can be had, else why not.
pub(crate) fn room_for(bytes: usize) -> Result<(), String> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = |folder: &Path| fs::read_to_string(folder.join("memory.max")).ok();
    check(bytes, &meminfo, smallest_limit(&groups, limit))
}

fn check(bytes: usize, meminfo: &str, limit: Option<usize>) -> Result<(), String> {
    let mebibytes = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    if let Some(limit) = limit.filter(|limit| bytes > *limit) {
        return Err(format!("the control group of this process may have {} (memory.max)", mebibytes(limit)));
    }
    let left = entry(meminfo, "MemAvailable").map(|kibibytes| kibibytes << 10);
    match left.filter(|left| bytes > *left && !Pool::parse(meminfo).has_room_for(bytes)) {
        Some(left) => Err(format!("the system has {} left (MemAvailable)", mebibytes(left))),
        None => Ok(()),
    }
}

/// A number of /proc/meminfo.
fn entry(meminfo: &str, name: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The system's pool of huge pages of the default size.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) page_bytes: usize,
    pub(crate) free: usize,
}

impl Pool {
    pub(crate) fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
    }

    fn parse(meminfo: &str) -> Self {
        let page_bytes = entry(meminfo, "Hugepagesize").unwrap_or(2048) << 10;
        // Those that are promised to mappings are still free, but not to be had.
        let promised = entry(meminfo, "HugePages_Rsvd").unwrap_or(0);
        Self { page_bytes, free: entry(meminfo, "HugePages_Free").unwrap_or(0).saturating_sub(promised) }
    }

    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        bytes.div_ceil(self.page_bytes) <= self.free
    }
}

/// The smallest limit of the process's group and those around it. `groups` is /proc/self/cgroup; version 2 alone.
fn smallest_limit(groups: &str, limit: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(path);
    let around = own.ancestors().take_while(|folder| folder.starts_with(root));
    around.filter_map(|folder| limit(folder)?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       16 kB\nMemAvailable:   8 kB\nHugePages_Free:   3\nHugePages_Rsvd:   1\nHugepagesize:  2 kB\n";

    #[test]
    fn what_the_system_has_left_or_the_group_allows_is_the_limit() {
        assert_eq!(check(8192, MEMINFO, None), Ok(()));
        assert_eq!(check(8193, "", None), Ok(()), "a system that does not tell");
        let told = check(8193, MEMINFO, None).unwrap_err();
        assert!(told.contains("0.0 MiB left (MemAvailable)"), "{told}");
        assert_eq!(check(4096, MEMINFO, Some(4096)), Ok(()));
        let told = check(5 << 20, MEMINFO, Some(4 << 20)).unwrap_err();
        assert!(told.contains("4.0 MiB (memory.max)"), "{told}");
        let pool = MEMINFO.replace("  2 kB", "  8 kB");
        assert_eq!(
            check(16384, &pool, None),
            Ok(()),
            "huge pages that are reserved are no part of what is available"
        );
    }

    #[test]
    fn huge_pages_that_are_promised_are_not_free() {
        let meminfo = "HugePages_Total:       9\nHugePages_Free:        8\nHugePages_Rsvd:        3\nHugepagesize:       2048 kB\n";
        let pool = Pool::parse(meminfo);
        assert_eq!(pool, Pool { page_bytes: 2 << 20, free: 5 });
        assert!(pool.has_room_for(10 << 20) && !pool.has_room_for((10 << 20) + 1));
        assert_eq!(Pool::parse(""), Pool { page_bytes: 2 << 20, free: 0 });
    }

    #[test]
    fn every_group_around_the_process_limits_it() {
        let limits = |folder: &Path| match folder.strip_prefix("/sys/fs/cgroup").unwrap().to_str()? {
            "a/b" => Some("max\n".to_owned()),
            "a" => Some("500\n".to_owned()),
            "" => Some("900\n".to_owned()),
            other => panic!("asked for {other}"),
        };
        assert_eq!(smallest_limit("4:memory:/x\n0::/a/b\n", limits), Some(500));
        assert_eq!(smallest_limit("0::/\n", limits), Some(900));
        assert_eq!(smallest_limit("4:memory:/x\n", limits), None);
    }
}
