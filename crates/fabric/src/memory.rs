//! How much memory a process may have: what the system has left, in ordinary pages and in its pool of huge ones, and what
//! control groups have left. Shared memory is taken page by page, as it is touched; who is not refused before is killed then.

use std::fs;
use std::path::{Path, PathBuf};

/// Whether `bytes` bytes more can be had, else why not.
pub(crate) fn room_for(bytes: usize) -> Result<(), String> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    check(bytes, &meminfo, Group::tightest(&groups, Path::new("/sys/fs/cgroup")).as_ref())
}

fn check(bytes: usize, meminfo: &str, group: Option<&Group>) -> Result<(), String> {
    let mebibytes = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    if let Some(Group { folder, limit, left }) = group.filter(|group| bytes > group.left) {
        let (folder, left, limit) = (folder.display(), mebibytes(*left), mebibytes(*limit));
        return Err(format!("the control group {folder} has {left} left of {limit} (memory.max)"));
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

/// A control group with a limit, and what it has left.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    limit: usize,
    left: usize,
}

impl Group {
    /// Of the process's group and those around it the one that has least left. `groups` is /proc/self/cgroup; version 2
    /// alone.
    fn tightest(groups: &str, root: &Path) -> Option<Self> {
        let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let own = root.join(path);
        let around = own.ancestors().take_while(|folder| folder.starts_with(root));
        around.filter_map(Self::read).min_by_key(|group| group.left)
    }

    /// None without a limit.
    fn read(folder: &Path) -> Option<Self> {
        let read = |file| fs::read_to_string(folder.join(file)).ok();
        let number = |file| read(file)?.trim().parse::<usize>().ok();
        let (limit, used) = (number("memory.max")?, number("memory.current").unwrap_or(0));
        // Pages of files are given back before anybody is killed: a model that was read a moment ago is no hindrance.
        let spare = read("memory.stat").map_or(0, |stat| of_files(&stat));
        let left = limit.saturating_sub(used.saturating_sub(spare));
        Some(Self { folder: folder.to_owned(), limit, left })
    }
}

/// Bytes of files in memory, of memory.stat. Shared memory is not among them.
fn of_files(stat: &str) -> usize {
    let entry = |line: &str| match line.split_once(' ') {
        Some(("active_file" | "inactive_file", bytes)) => bytes.trim().parse::<usize>().ok(),
        _ => None,
    };
    stat.lines().filter_map(entry).sum()
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
        let group = |left| Group { folder: "/sys/fs/cgroup/a".into(), limit: 64 << 20, left };
        assert_eq!(check(4096, MEMINFO, Some(&group(4096))), Ok(()));
        let told = check(5 << 20, MEMINFO, Some(&group(4 << 20))).unwrap_err();
        assert_eq!(told, "the control group /sys/fs/cgroup/a has 4.0 MiB left of 64.0 MiB (memory.max)");
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

    /// Invents a group's files.
    fn invent(folder: &Path, max: &str, current: &str, files: usize) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("memory.max"), format!("{max}\n")).unwrap();
        fs::write(folder.join("memory.current"), format!("{current}\n")).unwrap();
        let (half, rest) = (files / 2, files - files / 2);
        let stat = format!("anon 7\ninactive_anon 9\nactive_file {half}\ninactive_file {rest}\nslab 3\n");
        fs::write(folder.join("memory.stat"), stat).unwrap();
    }

    #[test]
    fn a_group_has_left_what_it_does_not_use_or_could_give_back() {
        let root = tempfile::tempdir().unwrap();
        let left = |max: &str, current: &str, files: usize| {
            invent(root.path(), max, current, files);
            Group::read(root.path()).map(|group| (group.left, group.limit))
        };
        assert_eq!(left("1000", "700", 0), Some((300, 1000)));
        assert_eq!(left("1000", "700", 200), Some((500, 1000)));
        assert_eq!(left("1000", "1100", 0), Some((0, 1000)), "a limit that was lowered");
        assert_eq!(left("1000", "100", 200), Some((1000, 1000)), "numbers of different moments");
        assert_eq!(left("max", "700", 0), None);
        fs::remove_file(root.path().join("memory.stat")).unwrap();
        fs::write(root.path().join("memory.max"), "1000\n").unwrap();
        assert_eq!(Group::read(root.path()).unwrap().left, 300, "a kernel that tells less");
    }

    #[test]
    fn every_group_around_the_process_limits_it() {
        let root = tempfile::tempdir().unwrap();
        let (outer, inner) = (root.path().join("a"), root.path().join("a/b"));
        let tightest = |groups| Group::tightest(groups, root.path()).map(|group| (group.folder, group.left));
        invent(&outer, "900", "600", 100);
        invent(&inner, "500", "50", 0);
        assert_eq!(tightest("4:memory:/x\n0::/a/b\n"), Some((outer.clone(), 400)));
        invent(&inner, "500", "150", 0);
        assert_eq!(tightest("0::/a/b\n"), Some((inner.clone(), 350)));
        invent(&inner, "max", "150", 0);
        assert_eq!(tightest("0::/a/b\n"), Some((outer, 400)));
        assert_eq!(tightest("0::/\n"), None, "the root has no limit");
        assert_eq!(tightest("4:memory:/x\n"), None);
    }
}
