//! Beginnings and ends, threads and processes.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Setting, expect};
use crate::link::{Buffer, Link, complete};
use crate::plugin::{Opaque, Plugin, Version};
use crate::{Outcome, pattern, until};

/// Connections are closed with requests on their way, in either order; the next ones know nothing of it.
pub(super) fn close_in_flight(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    for round in 0..12 {
        let link = Link::new(plugin, setting.context, setting.device)?;
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
    let link = Link::new(plugin, setting.context, setting.device)?;
    link.exchange(100_000, 1)?;
    link.close()
}

/// Two connections on two pairs of threads: one thread moves messages, the other registers memory and sets further
/// connections up, all at the same time.
pub(super) fn two_thread_pairs(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let links = [
        Link::new(plugin, setting.context, setting.device)?,
        Link::new(plugin, setting.context, setting.device)?,
    ];
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
                        let other = Link::new(plugin, setting.context, setting.device)
                            .map_err(|error| error.to_string())?;
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
    let link = Link::new(plugin, setting.context, setting.device)?;
    link.exchange(5000, 2)?;
    link.close()
}

/// The library is closed by its last user and opened again, as cores do from one communicator to the next. `-z nodelete`
/// keeps it where it is, with what it knows: the core's threads may still be on their way out of it.
pub(super) fn reload(library: &Path, version: Version) -> Outcome {
    let file = library.canonicalize()?;
    let mapped = || -> Outcome<Vec<String>> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let ours = maps.lines().filter(|line| line.ends_with(&*file.to_string_lossy()));
        Ok(ours.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    };
    expect("it is not loaded yet", mapped()?.is_empty())?;
    let mut first = None;
    for round in 0..5 {
        let plugin = Plugin::load(library, version)?;
        let context = plugin.init()?;
        let link = Link::new(&plugin, context, 0)?;
        link.exchange(20_000, round)?;
        link.close()?;
        plugin.finalize(context)?;
        // dlclose, with nobody else who has it open.
        drop(plugin);
        let now = mapped()?;
        expect("it stays mapped when its last user has closed it", !now.is_empty())?;
        let before = first.get_or_insert_with(|| now.clone());
        expect(&format!("it stays where it is: {before:?}, then {now:?}"), *before == now)?;
    }
    Ok(())
}

/// A connection with a service and a progress thread on each of its halves: messages go on while memory comes and goes.
pub(super) fn service_and_progress(setting: &Setting<'_>) -> Outcome {
    const ROUNDS: u64 = 400;
    const DEPTH: usize = 8;
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, 0)?;
    let size = |number: u64| (number as usize * 977) % 70_000;
    let moving = AtomicUsize::new(2);
    let words = |error: Box<dyn std::error::Error>| error.to_string();
    let progress = |comm, work: &dyn Fn(&mut Buffer<'_>, u64) -> Outcome<Option<Opaque>>| {
        let run = || -> Outcome {
            let mut buffers =
                (0..DEPTH).map(|_| Buffer::new(plugin, comm, 70_000)).collect::<Outcome<Vec<_>>>()?;
            let mut waiting = VecDeque::new();
            for number in 0..ROUNDS + DEPTH as u64 {
                let buffer = &mut buffers[number as usize % DEPTH];
                if let Some(request) = (number >= DEPTH as u64).then(|| waiting.pop_front()).flatten() {
                    let sizes = complete(plugin, &[request])?[0];
                    let before = number - DEPTH as u64;
                    if comm == link.receive {
                        expect("the size that was sent", sizes[0] as usize == size(before))?;
                        pattern::check(&buffer.bytes()[..size(before)], before)?;
                    }
                }
                if number < ROUNDS {
                    waiting.push_back(until("a request", || work(buffer, number))?);
                }
            }
            Ok(())
        };
        let result = run().map_err(words);
        moving.fetch_sub(1, Ordering::AcqRel);
        result
    };
    let service = |comm| -> Result<(), String> {
        // One range again and again beside others: what is shared is given back while it is used.
        let mut shared = vec![0u8; 100_000];
        let mut rounds = 0;
        while moving.load(Ordering::Acquire) > 0 || rounds == 0 {
            let mut own = vec![0u8; 50_000];
            let register = |bytes: &mut [u8]| plugin.register(comm, bytes.as_mut_ptr(), bytes.len());
            let (first, second) = (register(&mut shared), register(&mut own));
            let third = register(&mut shared[10_000..20_000]);
            for memory in [first, second, third] {
                let given = memory.and_then(|memory| plugin.deregister(comm, memory));
                given.map_err(|refused| refused.to_string())?;
            }
            rounds += 1;
        }
        println!("{rounds} rounds of three registrations");
        Ok(())
    };
    let results = std::thread::scope(|scope| {
        let (link, progress, service) = (&link, &progress, &service);
        let threads = [
            scope.spawn(move || {
                progress(link.send, &|buffer, number| {
                    let bytes = size(number);
                    pattern::fill(&mut buffer.bytes()[..bytes], number);
                    let (data, memory) = (buffer.bytes().as_ptr(), buffer.memory);
                    Ok(plugin.send(link.send, data, bytes, 3, memory)?)
                })
            }),
            scope.spawn(move || {
                progress(link.receive, &|buffer, _| {
                    Ok(plugin.receive(link.receive, &[buffer.part(70_000, 3)])?)
                })
            }),
            scope.spawn(move || service(link.send)),
            scope.spawn(move || service(link.receive)),
        ];
        threads.map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())))
    });
    for result in results {
        result?;
    }
    link.close()
}

/// A fork of the process in the middle of everything disturbs nothing: the child makes a connection of its own, and what it
/// closes of its parent's stays open for the parent.
pub(super) fn fork(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, setting.device)?;
    link.exchange(100_000, 1)?;
    for round in 0..3 {
        let mut source = Buffer::new(plugin, link.send, 200_000)?;
        let mut target = Buffer::new(plugin, link.receive, 200_000)?;
        pattern::fill(source.bytes(), round);
        let part = target.part(200_000, 3);
        let receive = until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?;
        let child = fork_a_child(setting, [link.send, link.receive])?;
        let (data, memory) = (source.bytes().as_ptr(), source.memory);
        let send = until("a send", || Ok(plugin.send(link.send, data, 200_000, 3, memory)?))?;
        complete(plugin, &[send, receive])?;
        pattern::check(target.bytes(), round)?;
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
