//! Messages of every size and in every order.

use super::Setting;
use crate::link::{Buffer, Link, complete};
use crate::pattern::{self, Sequence};
use crate::{Outcome, until};

/// The largest message tried.
const MOST: usize = 64 << 20;

/// Sizes at the edges and at random, from nothing to 64 MiB.
pub(super) fn sizes(setting: &Setting<'_>) -> Outcome {
    let link = Link::new(setting.plugin, setting.context, 0)?;
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
    let link = Link::new(setting.plugin, setting.context, 0)?;
    let mut chance = Sequence::new(5);
    let small: Vec<_> = (0..600).map(|_| chance.size(9000)).collect();
    link.stream(&small, 32, 0, 1)?;
    let large: Vec<_> = (0..64).map(|_| 100_000 + chance.size(200_000)).collect();
    link.stream(&large, 32, 0, 10_000)?;
    link.close()
}

/// Runs of small messages, in which a receiver need not announce, each ended by a large one, for which it must; at last
/// with tags that only an announced receive can have.
pub(super) fn spells(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, 0)?;
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
    let link = Link::new(plugin, setting.context, 0)?;
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
    let link = Link::new(plugin, setting.context, 0)?;
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

/// A send without a receive must come back as "not now", before anything runs over.
pub(super) fn back_pressure(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, 0)?;
    for bytes in [64usize, 4 << 20] {
        let mut source = Buffer::new(plugin, link.send, bytes)?;
        pattern::fill(&mut source.bytes()[..bytes], 1);
        let (data, memory) = (source.bytes().as_ptr(), source.memory);
        let mut requests = Vec::new();
        // A plugin that took everything would fail the size of this list, or the machine.
        let refused = until("a refusal", || {
            match plugin.send(link.send, data, bytes, 3, memory)? {
                None => return Ok(Some(true)),
                Some(request) => requests.push(request),
            }
            Ok((requests.len() > 1000).then_some(false))
        })?;
        if !refused {
            return Err(
                format!("{} sends of {bytes} bytes were taken without a receive", requests.len()).into()
            );
        }
        let taken = requests.len();
        println!("{bytes} bytes: {taken} sends were taken before a receive was posted");
        // What was taken must still arrive, and what was refused may go now.
        let mut target = Buffer::new(plugin, link.receive, bytes)?;
        for round in 0..=taken {
            let part = target.part(bytes, 3);
            let receive = until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?;
            if round == taken {
                requests
                    .push(until("the refused send", || Ok(plugin.send(link.send, data, bytes, 3, memory)?))?);
            }
            until("a message", || {
                if let Some(request) = requests.first()
                    && plugin.test_without_sizes(*request)?
                {
                    requests.remove(0);
                }
                Ok(plugin.test(receive)?)
            })?;
            pattern::check(&target.bytes()[..bytes], 1)?;
            target.bytes().fill(0);
        }
        complete(plugin, &requests)?;
    }
    link.close()
}

/// Four ranks in a ring, each handing on what it got, as a ring all-gather does.
pub(super) fn ring(setting: &Setting<'_>) -> Outcome {
    const RANKS: usize = 4;
    const BYTES: usize = 300_000;
    let plugin = setting.plugin;
    let links = (0..RANKS).map(|_| Link::new(plugin, setting.context, 0)).collect::<Outcome<Vec<_>>>()?;
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
