//! What a link of several rails does beside writing messages: it chooses a rail for each, and when a rail is lost it says
//! so and writes what was on its way again, over the others. See `journal` for why that is safe.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::journal::{Journal, Placed, RailClosed};
use super::link::RdmaLink;
use super::port_watch::PortsDown;
use super::rail::Rail;
use super::stripes::{STRIPED_BYTES, Stripes};
use crate::arena::Arena;
use crate::config::LostRail;
use crate::control::RailTalk;
use crate::layout::{LINE, Layout};
use crate::link::{Link, LinkFailure};
use crate::mesh::{RailBytes, arrived};

/// Why a rail is lost whose port is not up.
const PORT_DOWN: &str = "its port is down";

/// A rail that this rank has closed.
#[derive(Debug)]
struct Lost {
    cause: String,
    /// The peer has been told.
    said: bool,
    /// The peer has closed it too.
    closed_there: bool,
}

/// What a link of several rails keeps beside them.
#[derive(Debug)]
pub(super) struct Several {
    stripes: Stripes,
    pub(super) journal: Journal,
    talk: Arc<RailTalk>,
    down: PortsDown,
    on_loss: LostRail,
    /// The peer's host, for messages.
    host: String,
    pub(super) bytes: Vec<Arc<RailBytes>>,
    lost: Vec<Option<Lost>>,
    /// Numbers of messages to be written again.
    again: VecDeque<u64>,
    clock: Instant,
}

impl Several {
    pub(super) fn new(
        names: Vec<String>,
        layout: Layout,
        talk: Arc<RailTalk>,
        down: PortsDown,
        on_loss: LostRail,
        host: String,
    ) -> Self {
        let rail = |name| Arc::new(RailBytes { name, ..RailBytes::default() });
        Self {
            stripes: Stripes::new(names.len(), 2 * layout.slots),
            journal: Journal::new(layout.slots),
            talk,
            down,
            on_loss,
            host,
            lost: names.iter().map(|_| None).collect(),
            bytes: names.into_iter().map(rail).collect(),
            again: VecDeque::with_capacity(layout.slots),
            clock: Instant::now(),
        }
    }

    /// The rail of whatever is small.
    #[inline]
    pub(super) fn first(&self) -> usize {
        self.stripes.first()
    }

    /// The rail for a message of so many bytes.
    pub(super) fn choose(&mut self, number: u64, bytes: usize, placed: Option<Placed>) -> usize {
        let rail = if bytes < STRIPED_BYTES { self.first() } else { self.stripes.choose(bytes) };
        self.journal.note(number, rail, placed);
        let sent = &self.bytes[rail].sent;
        // Only this rank's thread counts.
        sent.store(sent.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
        rail
    }

    /// A message of which the completion is told, to measure the rail by.
    pub(super) fn posted(&mut self, rail: usize, id: u64, bytes: usize) {
        self.stripes.posted(rail, id, bytes, self.clock.elapsed().as_nanos() as u64);
    }

    /// The rail's completions up to this number have been seen.
    pub(super) fn completed(&mut self, rail: usize, id: u64) {
        if self.stripes.awaits(rail, id) {
            self.stripes.completed(rail, id, self.clock.elapsed().as_nanos() as u64);
        }
    }

    /// Whether nothing of a lost rail is left to be done.
    pub(super) fn is_settled(&self) -> bool {
        self.again.is_empty() && self.lost.iter().flatten().all(|lost| lost.said && lost.closed_there)
    }
}

impl RdmaLink {
    /// Leaves a rail out, unless it was the last one, or the user wants that to be an error.
    #[cold]
    pub(super) fn lose(&mut self, rail: usize, cause: LinkFailure) -> Result<(), LinkFailure> {
        let others = self.rails.iter().enumerate().filter(|(index, other)| *index != rail && other.is_some());
        let others = others.count();
        // A write may fail before the device's word that the port is down has been heard, and a link of one rail hears none.
        let is_down = self.rails[rail].as_ref().is_some_and(Rail::port_is_down);
        let cause = if is_down && cause != PORT_DOWN { format!("{PORT_DOWN}: {cause}") } else { cause };
        let Some(several) = &mut self.several else { return Err(cause) };
        let name = several.bytes[rail].name.clone();
        // A peer that has said good-bye takes all of its rails along; what that means is known above.
        if others == 0 || several.talk.peer_has_left() {
            return Err(cause);
        }
        if several.on_loss == LostRail::Error {
            return Err(format!("rail {rail} of it ({name}) was lost, which is to be an error: {cause}"));
        }
        tracing::warn!(
            rank = self.rank,
            peer = self.peer,
            host = several.host,
            rail,
            device = name,
            cause,
            others,
            "a rail is lost and left out; the others carry on"
        );
        // Without its queue pair nothing arrives here by this rail any more.
        self.rails[rail] = None;
        several.stripes.leave_out(rail);
        let _ = several.bytes[rail].lost.set(cause.clone());
        several.lost[rail] = Some(Lost { cause, said: false, closed_there: false });
        Ok(())
    }

    /// Hears and says which rails are closed, and writes again what went by them.
    pub(super) fn tend(&mut self, arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        let Some(several) = &self.several else { return Ok(()) };
        if several.down.any() {
            self.lose_ports_that_are_down()?;
        }
        let Some(several) = &self.several else { return Ok(()) };
        if several.talk.has_news() {
            for closed in several.talk.hear() {
                self.closed_there(&closed, consumed)?;
            }
        }
        let Some(several) = &self.several else { return Ok(()) };
        if !several.is_settled() {
            self.say_what_is_closed(arena, consumed);
            self.write_again(arena)?;
        }
        Ok(())
    }

    fn lose_ports_that_are_down(&mut self) -> Result<(), LinkFailure> {
        for index in 0..self.rails.len() {
            let port = self.rails[index].as_ref().map(Rail::port);
            let is_down = port.is_some_and(|port| self.several.as_ref().is_some_and(|s| s.down.is(port)));
            // The last rail is not given up before its writes fail: the port may come back.
            if is_down && self.rails.iter().flatten().count() > 1 {
                self.lose(index, PORT_DOWN.to_owned())?;
            }
        }
        Ok(())
    }

    /// The peer has closed a rail.
    fn closed_there(&mut self, closed: &RailClosed, consumed: u64) -> Result<(), LinkFailure> {
        let rail = closed.rail as usize;
        if rail >= self.rails.len() {
            return Err(format!("the peer closed rail {rail}, which does not exist"));
        }
        if self.rails[rail].is_some() {
            self.lose(rail, format!("the peer has closed it: {}", closed.cause))?;
        }
        let Some(several) = &mut self.several else { return Ok(()) };
        let first = several.first();
        match &mut several.lost[rail] {
            // It is said over every control connection, and heard as often.
            Some(lost) if !lost.closed_there => lost.closed_there = true,
            _ => return Ok(()),
        }
        let missing = several.journal.missing(rail, closed);
        for unread in self.unread.iter_mut().filter(|unread| unread.rail == rail) {
            if !missing.contains(&unread.number) {
                // It has been read, and has arrived.
                (unread.rail, unread.posted) = (first, 0);
            }
        }
        several.again.extend(missing);
        // Credit may have been lost on the way, too.
        self.write_credit_line(consumed)
    }

    fn say_what_is_closed(&mut self, arena: &Arena, consumed: u64) {
        let Some(several) = &mut self.several else { return };
        for (rail, lost) in several.lost.iter_mut().enumerate() {
            let Some(lost) = lost.as_mut().filter(|lost| !lost.said) else { continue };
            let has_arrived = |number: &u64| {
                let trailer = self.layout.slot(self.rank, self.peer, *number) + self.layout.slot_bytes;
                arrived(arena, trailer, *number).is_some()
            };
            let waiting = consumed + 1..=consumed + self.layout.slots as u64;
            let (rail, arrived) = (rail as u32, waiting.filter(has_arrived).collect());
            several.talk.say(RailClosed { rail, cause: lost.cause.clone(), consumed, arrived });
            lost.said = true;
        }
    }

    fn write_again(&mut self, arena: &Arena) -> Result<(), LinkFailure> {
        while self.ready() {
            let Some(number) = self.several.as_mut().and_then(|several| several.again.pop_front()) else {
                break;
            };
            self.write_one_again(arena, number)?;
        }
        Ok(())
    }

    /// Everything of the message lies in its staging slot but a payload that was read where the caller has it.
    fn write_one_again(&mut self, arena: &Arena, number: u64) -> Result<(), LinkFailure> {
        let staging = self.layout.staging(self.rank, self.peer, number);
        let header = arena.read_header(staging + self.layout.slot_bytes);
        let bytes = header.bytes() as usize;
        let placed = self.several.as_ref().and_then(|several| several.journal.placed(number));
        let rail = self.choose(number, bytes, placed);
        let slot = self.layout.slot(self.peer, self.rank, number);
        let trailer = staging + self.layout.slot_bytes;
        let trailer = self.write_from(rail, trailer, LINE, slot + self.layout.slot_bytes)?.inlined();
        if header.bytes_in_slot() == 0 {
            return self.post(rail, [trailer], 0, true);
        }
        let to = match placed {
            Some(placed) => placed.on(rail),
            None => self.on(rail)?.at(slot, bytes)?,
        };
        let lies = self.unread.iter().find(|unread| unread.number == number);
        let payload = match lies {
            Some(unread) => self.on(rail)?.write(&unread.memory, unread.offset, bytes, to)?,
            None => self.on(rail)?.write(&self.memory, staging, bytes, to)?,
        };
        self.post(rail, [payload, trailer], bytes, true)?;
        let posted = self.rails[rail].as_ref().map(Rail::posted);
        if let Some(unread) = self.unread.iter_mut().find(|unread| unread.number == number) {
            (unread.rail, unread.posted) = (rail, posted.unwrap_or(u64::MAX));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_two_rails() -> Several {
        let names = vec!["rxe0:1".to_owned(), "rxe1:1".to_owned()];
        let layout = Layout { world: 2, slot_bytes: 2 * STRIPED_BYTES, slots: 8 };
        let (talk, down) = (Arc::default(), PortsDown::new(2));
        Several::new(names, layout, talk, down, LostRail::Continue, "host1".to_owned())
    }

    #[test]
    fn small_messages_stay_on_one_rail_however_busy_it_is_and_large_ones_take_the_other() {
        let mut several = of_two_rails();
        assert_eq!(several.choose(1, STRIPED_BYTES, None), 0);
        several.posted(0, 1, STRIPED_BYTES);
        let small = [0, 64, STRIPED_BYTES - 1];
        for (number, bytes) in (2..).zip(small.into_iter().cycle().take(300)) {
            assert_eq!(several.choose(number, bytes, None), 0, "message {number} of {bytes} bytes");
        }
        assert_eq!(several.choose(302, STRIPED_BYTES, None), 1);
        let small_bytes = 100 * small.iter().sum::<usize>() as u64;
        let sent = several.bytes.iter().map(|rail| rail.sent.load(Ordering::Relaxed)).collect::<Vec<_>>();
        assert_eq!(sent, [STRIPED_BYTES as u64 + small_bytes, STRIPED_BYTES as u64]);
    }

    #[test]
    fn small_messages_move_to_the_next_rail_when_the_first_is_lost() {
        let mut several = of_two_rails();
        several.stripes.leave_out(0);
        assert_eq!(several.choose(1, 64, None), 1);
        assert_eq!(several.choose(2, STRIPED_BYTES, None), 1);
    }
}
