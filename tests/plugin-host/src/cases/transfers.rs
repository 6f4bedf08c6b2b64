//! Messages of every size and in every order.

use halo::plugin::abi::PTR_CUDA;

use super::Setting;
use crate::link::{Buffer, Link, complete};
use crate::pattern::{self, Sequence};
use crate::{Outcome, until};

/// The largest message tried.
const MOST: usize = 64 << 20;
/// Requests that the core may have at one time on one connection: `NCCL_NET_MAX_REQUESTS`.
const REQUESTS: usize = 32;
/// Messages that may lie with their receiver before it has posted a receive, as docs/plugin.md says.
const SLOTS: usize = 16;

/// Sizes at the edges and at random, from nothing to 64 MiB.
pub(super) fn sizes(setting: &Setting<'_>) -> Outcome {
    let link = Link::new(setting.plugin, setting.context, setting.device)?;
    let edges =
        [0, 1, 7, 8, 4095, 4096, 4097, 16383, 16384, 16385, 65536, 262_143, 262_144, 262_145, 1 << 20];
    link.stream(&edges, 4, 0, 1)?;
    link.stream(&edges, 2, 100, 100)?;
    let mut chance = Sequence::new(u64::from(std::process::id()));
    let random: Vec<_> = (0..100).map(|_| chance.size(1 << 20)).collect();
    link.stream(&random, 8, 13, 1000)?;
    link.stream(&[MOST, 0, 5, MOST - 1], 2, 1, 2000)?;
    link.close()
}

/// As many requests at one time as the core may have.
pub(super) fn depth(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let most = plugin.properties(setting.device)?.max_recvs as usize;
    // On connections that know nothing of what is to come.
    for bytes in [100, 20_000, 300_000] {
        let link = Link::new(plugin, setting.context, setting.device)?;
        all_at_once(&link, 1, bytes)?;
        link.close()?;
    }
    for bytes in [0, 100, 20_000] {
        let link = Link::new(plugin, setting.context, setting.device)?;
        all_at_once(&link, most, bytes)?;
        link.close()?;
    }
    let link = Link::new(plugin, setting.context, setting.device)?;
    let mut chance = Sequence::new(5);
    let small: Vec<_> = (0..600).map(|_| chance.size(9000)).collect();
    link.stream(&small, REQUESTS, 0, 1)?;
    let large: Vec<_> = (0..64).map(|_| 100_000 + chance.size(200_000)).collect();
    link.stream(&large, REQUESTS, 0, 10_000)?;
    link.close()
}

/// As many receives as there can be, in groups of `parts`, and a send for each part are all accepted before any of them is
/// asked for; then all complete, every byte in its place.
fn all_at_once(link: &Link<'_>, parts: usize, bytes: usize) -> Outcome {
    let plugin = link.plugin;
    let make =
        |comm| (0..REQUESTS * parts).map(|_| Buffer::new(plugin, comm, bytes)).collect::<Outcome<Vec<_>>>();
    let (mut sources, mut targets) = (make(link.send)?, make(link.receive)?);
    let tag = |part: usize| 10 + part as i32;
    let mut requests = Vec::new();
    for group in targets.chunks_mut(parts) {
        let group: Vec<_> =
            group.iter_mut().enumerate().map(|(part, target)| target.part(bytes, tag(part))).collect();
        let request = plugin.receive(link.receive, &group)?;
        requests.push(request.ok_or_else(|| format!("receive {} of {REQUESTS} is refused", requests.len()))?);
    }
    for (number, source) in sources.iter_mut().enumerate() {
        pattern::fill(&mut source.bytes()[..bytes], number as u64);
        let (data, memory) = (source.bytes().as_ptr(), source.memory);
        // An announcement may still be on the wire; what must not be needed is the completion of another request.
        let request =
            until("a send", || Ok(plugin.send(link.send, data, bytes, tag(number % parts), memory)?))?;
        requests.push(request);
    }
    let sizes = complete(plugin, &requests)?;
    if sizes[..REQUESTS].iter().any(|sizes| sizes[..parts].iter().any(|size| *size as usize != bytes)) {
        return Err(
            format!("{bytes} bytes in groups of {parts} are reported with {:?}", &sizes[..REQUESTS]).into()
        );
    }
    println!("{REQUESTS} receives of {parts} x {bytes} bytes, and their sends, at once");
    targets.iter_mut().enumerate().try_for_each(|(number, target)| {
        pattern::check(&target.bytes()[..bytes], number as u64).map_err(Into::into)
    })
}

/// Runs of small messages, in which a receiver need not announce, each ended by a large one, for which it must; at last
/// with tags that only an announced receive can have.
pub(super) fn spells(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, setting.device)?;
    let sizes: Vec<_> =
        (0..10).flat_map(|spell| [vec![100; 10 * spell], vec![200_000; 2]].concat()).collect();
    for depth in [1, 5, 32] {
        link.stream(&sizes, depth, 8, 1)?;
    }
    for tag in [65_535, 65_536, i32::MAX, -1] {
        const BYTES: usize = 40;
        let mut source = Buffer::new(plugin, link.send, BYTES)?;
        let mut target = Buffer::new(plugin, link.receive, BYTES)?;
        pattern::fill(source.bytes(), 5);
        let (data, memory, part) = (source.bytes().as_ptr(), source.memory, target.part(BYTES, tag));
        let receive = until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?;
        let mut send = None;
        // Announcements go out while the receiving side is asked for progress, too.
        let sizes = until("a message", || {
            if send.is_none() {
                send = plugin.send(link.send, data, BYTES, tag, memory)?;
            }
            Ok(plugin.test(receive)?)
        })?;
        if sizes[0] as usize != BYTES {
            return Err(format!("{} bytes with tag {tag}", sizes[0]).into());
        }
        complete(plugin, &[send.ok_or("received and not sent")?])?;
        pattern::check(&target.bytes()[..BYTES], 5)?;
    }
    link.close()
}

/// Up to eight receives in one request, each with its tag; sends in another order.
pub(super) fn groups(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, setting.device)?;
    let most = plugin.properties(0)?.max_recvs as usize;
    let mut chance = Sequence::new(11);
    for round in 0..40u64 {
        let count = 1 + chance.below(most as u64) as usize;
        let sizes: Vec<_> = (0..count).map(|_| chance.size(300_000)).collect();
        let make = |comm| {
            sizes.iter().map(move |size| Buffer::new(plugin, comm, *size)).collect::<Outcome<Vec<_>>>()
        };
        let (mut sources, mut targets) = (make(link.send)?, make(link.receive)?);
        let tag = |index: usize| 100 + index as i32;
        let parts: Vec<_> = targets
            .iter_mut()
            .zip(&sizes)
            .enumerate()
            .map(|(i, (target, size))| target.part(*size, tag(i)))
            .collect();
        let receive = until("a grouped receive", || Ok(plugin.receive(link.receive, &parts)?))?;
        // Backwards: within a group, sends come as they are ready.
        let mut sends = Vec::new();
        for index in (0..count).rev() {
            let (source, size) = (&mut sources[index], sizes[index]);
            pattern::fill(&mut source.bytes()[..size], round * 100 + index as u64);
            let (data, memory) = (source.bytes().as_ptr(), source.memory);
            sends.push(until("a send of a group", || {
                Ok(plugin.send(link.send, data, size, tag(index), memory)?)
            })?);
        }
        sends.push(receive);
        let reported = complete(plugin, &sends)?[count];
        for (index, size) in sizes.iter().enumerate() {
            if reported[index] as usize != *size {
                return Err(
                    format!("part {index} of {size} bytes is reported with {}", reported[index]).into()
                );
            }
            pattern::check(&targets[index].bytes()[..*size], round * 100 + index as u64)?;
        }
    }
    link.close()
}

/// Many messages with one tag go out before the first with another, whose receives wait in the same groups: nothing
/// may get stuck behind what nobody has asked for.
pub(super) fn overtaking(setting: &Setting<'_>) -> Outcome {
    const GROUPS: usize = 24;
    const BYTES: usize = 5000;
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, setting.device)?;
    let mut targets =
        (0..2 * GROUPS).map(|_| Buffer::new(plugin, link.receive, BYTES)).collect::<Outcome<Vec<_>>>()?;
    let mut source = Buffer::new(plugin, link.send, BYTES)?;
    pattern::fill(&mut source.bytes()[..BYTES], 9);
    let (data, memory) = (source.bytes().as_ptr(), source.memory);
    let (mut sends, mut receives) = (Vec::new(), Vec::new());
    let (mut sent, mut turns) = (0, 0);
    // All of tag 1 first, as far as they go; tag 2 behind. Receives come in pairs of both, late.
    until("everything is on its way", || {
        turns += 1;
        if sent < 2 * GROUPS {
            let tag = if sent < GROUPS { 1 } else { 2 };
            if let Some(request) = plugin.send(link.send, data, BYTES, tag, memory)? {
                sends.push(request);
                sent += 1;
            }
        }
        let posted = receives.len();
        if posted < GROUPS && (sent > 8 || turns > 1000) {
            let (first, second) = targets[2 * posted..2 * posted + 2].split_at_mut(1);
            let parts = [first[0].part(BYTES, 1), second[0].part(BYTES, 2)];
            if let Some(request) = plugin.receive(link.receive, &parts)? {
                receives.push(request);
            }
        }
        Ok((sent == 2 * GROUPS && receives.len() == GROUPS).then_some(()))
    })?;
    receives.extend(sends);
    for sizes in &complete(plugin, &receives)?[..GROUPS] {
        if sizes[..2] != [BYTES as i32; 2] {
            return Err(format!("sizes {sizes:?}").into());
        }
    }
    targets.iter_mut().try_for_each(|target| pattern::check(&target.bytes()[..BYTES], 9))?;
    link.close()
}

/// A send without a receive must come back as "not now", before anything runs over: small ones when all slots are taken, large
/// ones at once. What was taken arrives when receives are posted, and what was refused goes then.
pub(super) fn back_pressure(setting: &Setting<'_>) -> Outcome {
    const BEYOND: usize = 5;
    let plugin = setting.plugin;
    let small_go_ahead = eager_messages(setting)?;
    let link = Link::new(plugin, setting.context, setting.device)?;
    // Twice, so that slots are taken again that were free before.
    for (round, bytes) in [64usize, 4 << 20, 64, 4 << 20].into_iter().enumerate() {
        let least = match (bytes == 64 && small_go_ahead, round) {
            (false, _) => 0,
            (true, 0) => SLOTS,
            // The receiver tells that slots are free again when half of them are.
            (true, _) => SLOTS / 2 + 1,
        };
        let most = if least == 0 { 0 } else { SLOTS };
        let count = most + BEYOND;
        let make = |comm| (0..count).map(|_| Buffer::new(plugin, comm, bytes)).collect::<Outcome<Vec<_>>>();
        let (mut sources, mut targets) = (make(link.send)?, make(link.receive)?);
        let message = |number: usize| (round * 100 + number) as u64;
        for (number, source) in sources.iter_mut().enumerate() {
            pattern::fill(source.bytes(), message(number));
        }
        let mut send = |number: usize| {
            let source = &mut sources[number];
            plugin.send(link.send, source.bytes().as_ptr(), bytes, 3, source.memory)
        };
        let mut requests = Vec::new();
        let mut refused = 0;
        while refused < 2000 && requests.len() <= most {
            match send(requests.len())? {
                Some(request) => requests.push(request),
                None => refused += 1,
            }
        }
        let taken = requests.len();
        if !(least..=most).contains(&taken) {
            return Err(format!("{taken} sends of {bytes} bytes were taken without a receive").into());
        }
        for target in &mut targets {
            let part = target.part(bytes, 3);
            requests.push(until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?);
        }
        // The first receive that completes makes room for a send, and a large send needs looking after: all are asked.
        let mut pending = requests;
        let mut next = taken;
        until("all messages", || {
            if next < count
                && let Some(request) = send(next)?
            {
                pending.push(request);
                next += 1;
            }
            let mut left = Vec::new();
            for request in pending.drain(..) {
                if !plugin.test_without_sizes(request)? {
                    left.push(request);
                }
            }
            pending = left;
            Ok((next == count && pending.is_empty()).then_some(()))
        })?;
        for (number, target) in targets.iter_mut().enumerate() {
            pattern::check(target.bytes(), message(number))?;
        }
        println!("{bytes} bytes: {taken} sends were taken before a receive was posted, all {count} arrived");
    }
    link.close()
}

/// Whether small messages need not wait for their receive: a receiver that may be given GPU memory copies none.
fn eager_messages(setting: &Setting<'_>) -> Outcome<bool> {
    let off = std::env::var("HALO_PLUGIN_EAGER_BYTES").is_ok_and(|bytes| bytes == "0");
    let gpu_direct = setting.plugin.properties(0)?.ptr_support & PTR_CUDA != 0;
    Ok(!off && !gpu_direct)
}

/// Four ranks in a ring, each handing on what it got, as a ring all-gather does.
pub(super) fn ring(setting: &Setting<'_>) -> Outcome {
    const RANKS: usize = 4;
    const BYTES: usize = 300_000;
    let plugin = setting.plugin;
    let links = (0..RANKS)
        .map(|_| Link::new(plugin, setting.context, setting.device))
        .collect::<Outcome<Vec<_>>>()?;
    // Link r goes from rank r to rank r + 1. Every rank has a block of each.
    let mut own = Vec::new();
    for rank in 0..RANKS {
        let mut blocks = (0..RANKS).map(|_| vec![0u8; BYTES]).collect::<Vec<_>>();
        pattern::fill(&mut blocks[rank], rank as u64);
        own.push(blocks);
    }
    let mut memories = Vec::new();
    for (rank, blocks) in own.iter_mut().enumerate() {
        for block in blocks {
            // One registration serves both of the rank's connections: `regIsGlobal`.
            memories.push(plugin.register(links[rank].send, block.as_mut_ptr(), BYTES)?);
        }
    }
    for step in 0..RANKS - 1 {
        let mut requests = Vec::new();
        for (rank, link) in links.iter().enumerate() {
            let block = (rank + RANKS - step) % RANKS;
            let next = (rank + 1) % RANKS;
            let (data, memory) = (own[next][block].as_mut_ptr(), memories[next * RANKS + block]);
            let part = crate::plugin::Part { data, room: BYTES, tag: 0, memory };
            requests.push(until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?);
            let (data, memory) = (own[rank][block].as_ptr(), memories[rank * RANKS + block]);
            requests.push(until("a send", || Ok(plugin.send(link.send, data, BYTES, 0, memory)?))?);
        }
        complete(plugin, &requests)?;
    }
    for blocks in &own {
        for (block, bytes) in blocks.iter().enumerate() {
            pattern::check(bytes, block as u64)?;
        }
    }
    links.into_iter().try_for_each(Link::close)
}
