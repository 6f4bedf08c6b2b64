//! What pages an arena is made of, and on which node's memory they lie: large ones where the system allows them, so that
//! fewer addresses must be looked up, near the NIC that writes them.

use std::fs;

use rustix::io::Errno;

use crate::arena::Arena;
use crate::memory::{Pool, room_for};

/// An arena, and in words what its pages are and why.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) arena: Arena,
    pub(crate) description: String,
}

/// Allocates an arena of `bytes` bytes for a rank whose NIC is `device`, if it has one; or says why there is none.
pub(crate) fn allocate(bytes: usize, device: Option<&str>) -> Result<Pages, String> {
    room_for(bytes)?;
    let Pages { arena, mut description } = in_large_pages(bytes).map_err(|error| error.to_string())?;
    if let Some(node) = node(device) {
        description += &match arena.prefer_node(node) {
            Ok(()) => format!(", on node {node}"),
            Err(error) => format!(", not on node {node}: {error}"),
        };
    }
    Ok(Pages { arena, description })
}

/// Transparent huge pages first: they are taken from nobody. Then those of the pool, which somebody has reserved, if
/// enough are free. Then ordinary ones.
fn in_large_pages(bytes: usize) -> Result<Pages, Errno> {
    let pool = Pool::read();
    if bytes < pool.page_bytes {
        let description = "ordinary pages (it is smaller than a huge one)".to_owned();
        return Ok(Pages { arena: Arena::allocate(bytes)?, description });
    }
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default();
    if allows_transparent(&setting) {
        let arena = Arena::allocate(bytes)?;
        let description = match arena.ask_for_huge_pages() {
            Ok(()) => "transparent huge pages".to_owned(),
            Err(error) => format!("ordinary pages (madvise was refused: {error})"),
        };
        return Ok(Pages { arena, description });
    }
    let why = match pool.has_room_for(bytes).then(|| Arena::allocate_from_pool(bytes, pool.page_bytes)) {
        Some(Ok(arena)) => {
            let description = format!("huge pages of {} KiB", pool.page_bytes >> 10);
            return Ok(Pages { arena, description });
        }
        Some(Err(error)) => format!("the pool refused huge ones: {error}"),
        None => format!("{} huge ones are free, see vm.nr_hugepages", pool.free),
    };
    let setting = chosen(&setting).unwrap_or("unknown");
    let description = format!("ordinary pages (transparent_hugepage/shmem_enabled is {setting}; {why})");
    Ok(Pages { arena: Arena::allocate(bytes)?, description })
}

/// The word in brackets, as sysfs marks the one that is chosen.
fn chosen(setting: &str) -> Option<&str> {
    setting.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

/// Whether shared memory may have transparent huge pages if it asks for them.
fn allows_transparent(setting: &str) -> bool {
    matches!(chosen(setting), Some("always" | "within_size" | "advise" | "force"))
}

/// The node on which the arena should lie: the NIC's, else the one on which this thread runs. Not the one of whoever
/// writes first, which would be a peer's. None on a machine with one node.
fn node(device: Option<&str>) -> Option<usize> {
    let online = fs::read_to_string("/sys/devices/system/node/online").ok()?;
    let nic = device.and_then(|device| {
        fs::read_to_string(format!("/sys/class/infiniband/{device}/device/numa_node")).ok()
    });
    choose_node(&online, nic.as_deref(), node_of_this_thread())
}

/// `online` as sysfs lists nodes, such as `0-1,4`; `nic` as sysfs has it, -1 for an unknown one.
fn choose_node(online: &str, nic: Option<&str>, own: Option<usize>) -> Option<usize> {
    if online.trim().parse::<usize>().is_ok() {
        return None;
    }
    nic.and_then(|node| node.trim().parse().ok()).or(own)
}

fn node_of_this_thread() -> Option<usize> {
    let cpu = rustix::thread::sched_getcpu();
    let entries = fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}")).ok()?;
    entries.flatten().find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_the_kernel_writes_them() {
        assert!(!allows_transparent("always within_size advise [never] deny force\n"));
        assert!(!allows_transparent("always within_size advise never [deny] force\n"));
        assert!(allows_transparent("always within_size [advise] never deny force\n"));
        assert!(!allows_transparent(""), "a kernel without them");
    }

    #[test]
    fn the_nic_chooses_the_node_and_one_node_needs_no_choice() {
        assert_eq!(choose_node("0\n", Some("0\n"), Some(0)), None);
        assert_eq!(choose_node("0-1\n", Some("1\n"), Some(0)), Some(1));
        assert_eq!(choose_node("0-1\n", Some("-1\n"), Some(0)), Some(0));
        assert_eq!(choose_node("0,2\n", None, Some(2)), Some(2));
        assert_eq!(choose_node("0-1\n", None, None), None);
        assert!(node_of_this_thread().is_some());
    }

    #[test]
    fn an_arena_says_what_it_is_made_of_and_works() {
        let small = allocate(4096, None).unwrap();
        assert!(small.description.starts_with("ordinary pages (it is smaller"), "{}", small.description);
        let large = allocate(3 << 20, None).unwrap();
        let known = ["ordinary pages (transparent_hugepage", "transparent huge pages", "huge pages of "];
        assert!(known.iter().any(|words| large.description.starts_with(words)), "{}", large.description);
        large.arena.write((3 << 20) - 5, b"hello");
        assert_eq!(large.arena.read((3 << 20) - 5, 5), b"hello");
    }
}
