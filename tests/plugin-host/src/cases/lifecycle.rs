//! Beginnings and ends, threads and processes.

use std::ffi::c_void;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Setting;
use crate::Outcome;
use crate::link::{Buffer, Link, complete};
use crate::plugin::{Opaque, Plugin, Version};

/// Connections are closed with requests on their way, in either order; the next ones know nothing of it.
pub(super) fn close_in_flight(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    for round in 0..12 {
        let link = Link::new(plugin, setting.context, 0)?;
        let bytes = if round % 2 == 0 { 8 << 20 } else { 4000 };
        let (mut source, mut target) =
            (Buffer::new(plugin, link.send, bytes)?, Buffer::new(plugin, link.receive, bytes)?);
        let part = target.part(bytes, 0);
        for _ in 0..4 {
            plugin.receive(link.receive, &[part])?;
            let (data, memory) = (source.bytes().as_ptr(), source.memory);
            if let Some(request) = plugin.send(link.send, data, bytes, 0, memory)? {
                // It may or may not be complete; it is not asked for again.
                plugin.test(request)?;
            }
        }
        // Registrations go first, as the core has it; the memory itself must outlive what is on its way.
        let kept = (source.keep(), target.keep());
        if round % 3 == 0 {
            plugin.close_send(link.send)?;
            plugin.close_receive(link.receive)?;
        } else {
            plugin.close_receive(link.receive)?;
            plugin.close_send(link.send)?;
        }
        drop(kept);
    }
    let link = Link::new(plugin, setting.context, 0)?;
    link.exchange(100_000, 1)?;
    link.close()
}

/// Two connections on two pairs of threads: one thread moves messages, the other registers memory and sets further
/// connections up, all at the same time.
pub(super) fn two_thread_pairs(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let links = [Link::new(plugin, setting.context, 0)?, Link::new(plugin, setting.context, 0)?];
    let stop = AtomicBool::new(false);
    let results: Vec<Result<usize, String>> = std::thread::scope(|scope| {
        let progress: Vec<_> = links
            .iter()
            .map(|link| {
                scope.spawn(move || {
                    let sizes: Vec<_> = (0..200).map(|index| (index * 977) % 70_000).collect();
                    link.stream(&sizes, 8, 0, 1).map(|()| 0).map_err(|error| error.to_string())
                })
            })
            .collect();
        let service: Vec<_> = links
            .iter()
            .map(|link| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut rounds = 0;
                    while !stop.load(Ordering::Acquire) || rounds == 0 {
                        let mut bytes = vec![0u8; 100_000];
                        let registered = plugin.register(link.send, bytes.as_mut_ptr(), bytes.len());
                        registered
                            .and_then(|memory| plugin.deregister(link.send, memory))
                            .map_err(|e| e.to_string())?;
                        let other =
                            Link::new(plugin, setting.context, 0).map_err(|error| error.to_string())?;
                        other.close().map_err(|error| error.to_string())?;
                        rounds += 1;
                    }
                    Ok(rounds)
                })
            })
            .collect();
        let joined = |thread: std::thread::ScopedJoinHandle<'_, Result<usize, String>>| {
            thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned()))
        };
        let mut results: Vec<_> = progress.into_iter().map(joined).collect();
        stop.store(true, Ordering::Release);
        results.extend(service.into_iter().map(joined));
        results
    });
    for result in results {
        result?;
    }
    links.into_iter().try_for_each(Link::close)
}

/// Every communicator initialises and finalises for itself; ending one leaves the others alone.
pub(super) fn contexts(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let first = plugin.init()?;
    let second = plugin.init()?;
    let link = Link::new(plugin, first, 0)?;
    plugin.finalize(second)?;
    link.exchange(5000, 1)?;
    link.close()?;
    plugin.finalize(first)?;
    for _ in 0..50 {
        let context = plugin.init()?;
        plugin.finalize(context)?;
    }
    let link = Link::new(plugin, setting.context, 0)?;
    link.exchange(5000, 2)?;
    link.close()
}

/// The library is closed and opened again, as cores do from one communicator to the next.
pub(super) fn reload(setting: &Setting<'_>) -> Outcome {
    for round in 0..5 {
        let plugin = Plugin::load(setting.library, setting.plugin.version())?;
        let context = plugin.init()?;
        let link = Link::new(&plugin, context, 0)?;
        link.exchange(20_000, round)?;
        link.close()?;
        plugin.finalize(context)?;
        // dlclose
        drop(plugin);
    }
    Ok(())
}

/// A fork of the process in the middle of everything disturbs nothing: the child makes a connection of its own, and what it
/// closes of its parent's stays open for the parent.
pub(super) fn fork(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, 0)?;
    link.exchange(100_000, 1)?;
    for round in 0..3 {
        let mut source = Buffer::new(plugin, link.send, 200_000)?;
        let mut target = Buffer::new(plugin, link.receive, 200_000)?;
        crate::pattern::fill(source.bytes(), round);
        let part = target.part(200_000, 3);
        let receive = crate::until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?;
        let child = fork_a_child(setting, [link.send, link.receive])?;
        let (data, memory) = (source.bytes().as_ptr(), source.memory);
        let send = crate::until("a send", || Ok(plugin.send(link.send, data, 200_000, 3, memory)?))?;
        complete(plugin, &[send, receive])?;
        crate::pattern::check(target.bytes(), round)?;
        child.wait()?;
    }
    link.exchange(100_000, 9)?;
    link.close()
}

struct Child(std::process::Child);

impl Child {
    fn wait(mut self) -> Outcome {
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the child ended with {status}").into()) }
    }
}

/// A real fork: `pre_exec` runs in the child between fork and exec, with everything of the parent's still there.
fn fork_a_child(setting: &Setting<'_>, parents: [Opaque; 2]) -> Outcome<Child> {
    use std::os::unix::process::CommandExt;
    let (library, version) = (setting.library.to_owned(), setting.plugin.version());
    let parents = parents.map(|comm| comm.0 as usize);
    let mut command = std::process::Command::new("true");
    // SAFETY: this process has one thread, so the child has everything that it had, locks and memory included.
    unsafe {
        command.pre_exec(move || {
            in_the_child(&library, version, parents).map_err(|error| {
                eprintln!("the child: {error}");
                std::io::ErrorKind::Other.into()
            })
        })
    };
    Ok(Child(command.spawn()?))
}

fn in_the_child(library: &Path, version: Version, [send, receive]: [usize; 2]) -> Outcome {
    // The parent's copy is loaded already; this counts one more user of it.
    let plugin = Plugin::load(library, version)?;
    let context = plugin.init()?;
    let link = Link::new(&plugin, context, 0)?;
    link.exchange(100_000, 5)?;
    plugin.close_send(Opaque(send as *mut c_void))?;
    plugin.close_receive(Opaque(receive as *mut c_void))?;
    link.exchange(10, 6)?;
    link.close()?;
    plugin.finalize(context)?;
    Ok(())
}
