//! The receiving half of a TCP connection.

use std::io::Read;
use std::net::TcpStream;

use super::header::{EAGER, HEADER_BYTES, Header};
use super::{PIECE_BYTES, broken};
use crate::plugin::comm::control::Control;
use crate::plugin::comm::{Arrival, Failure, Incoming};
use crate::plugin::connection::stream::not_now;
use crate::plugin::protocol::{
    Announcement, EAGER_SLOTS, Entry, KIND_ANNOUNCE, MAX_POSTED, Posted, TagCounters, VERSION,
};

/// One read takes in several small messages; of a payload that is larger than half of this, the rest is read straight
/// into its receive.
const INPUT_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Receiver {
    control: Control,
    lanes: Vec<Lane>,
    inbox: Inbox,
    eager_told: u64,
}

/// Receives, and messages that came before theirs.
#[derive(Debug)]
pub(super) struct Inbox {
    eager_bytes: usize,
    counted: TagCounters,
    posted: Posted<()>,
    /// Bytes that have arrived for each place.
    filled: Vec<u64>,
    early: Vec<Early>,
    eager_consumed: u64,
}

/// A message that came before its receive.
#[derive(Debug)]
struct Early {
    tag: i32,
    index: u64,
    data: Vec<u8>,
    whole: bool,
}

#[derive(Debug)]
pub(super) struct Lane<S = TcpStream> {
    socket: S,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    body: Option<Body>,
    ended: bool,
}

/// A payload that is arriving.
#[derive(Debug, Clone, Copy)]
struct Body {
    header: Header,
    /// The place of its receive; `None` for a message that came before.
    place: Option<(usize, u32)>,
    filled: u64,
}

impl Receiver {
    pub(crate) fn new(control: Control, lanes: Vec<TcpStream>, eager_bytes: usize) -> Self {
        let inbox = Inbox::new(eager_bytes);
        Self { control, lanes: lanes.into_iter().map(Lane::new).collect(), inbox, eager_told: 0 }
    }

    /// Receives that can still be posted.
    pub(crate) fn room(&self) -> usize {
        self.inbox.posted.room()
    }

    /// Posts the parts of a receive and announces them.
    pub(crate) fn post(&mut self, request: usize, parts: &[Incoming<'_>]) {
        for (part, incoming) in parts.iter().enumerate() {
            let announcement = self.inbox.post(request, part, incoming);
            self.eager_told = announcement.eager_consumed;
            self.control.stream.output.extend_from_slice(bytemuck::bytes_of(&announcement));
        }
        self.control.flush();
    }

    /// Takes in what has come; `arrived` is told every part that is complete.
    pub(crate) fn progress(&mut self, mut arrived: impl FnMut(Arrival)) -> Result<(), Failure> {
        self.inbox.take_early(&mut arrived)?;
        for lane in &mut self.lanes {
            lane.receive(&mut self.inbox, &mut arrived)?;
        }
        if self.inbox.eager_consumed - self.eager_told >= EAGER_SLOTS as u64 / 2 {
            self.eager_told = self.inbox.eager_consumed;
            let credit = Announcement::credit(self.eager_told);
            self.control.stream.output.extend_from_slice(bytemuck::bytes_of(&credit));
            self.control.flush();
        }
        self.control.now_and_then();
        if self.inbox.posted.is_empty() {
            return Ok(());
        }
        // What comes by another lane may be later than the end of this one.
        if self.lanes.iter().all(|lane| lane.ended) {
            return Err(Failure::Lost("it closed the connection while receives were waiting".to_owned()));
        }
        self.control.lost().map_or(Ok(()), |cause| Err(Failure::Lost(cause.to_owned())))
    }
}

#[cfg(test)]
impl Receiver {
    pub(super) fn lanes_ended(&self) -> Vec<bool> {
        self.lanes.iter().map(|lane| lane.ended).collect()
    }
}

impl Inbox {
    pub(super) fn new(eager_bytes: usize) -> Self {
        Self {
            eager_bytes,
            counted: TagCounters::default(),
            posted: Posted::default(),
            filled: vec![0; MAX_POSTED],
            early: Vec::new(),
            eager_consumed: 0,
        }
    }

    /// Posts one part of a receive; what its sender must be told.
    pub(super) fn post(&mut self, request: usize, part: usize, incoming: &Incoming<'_>) -> Announcement {
        let Incoming { tag, data, room, .. } = *incoming;
        let index = self.counted.next(tag);
        self.counted.advance(tag);
        let entry = Entry { tag, index, data, room, request, part, memory: () };
        let (place, generation) = self.posted.insert(entry);
        self.filled[place] = 0;
        Announcement {
            kind: KIND_ANNOUNCE,
            version: VERSION,
            tag,
            slot: place as u32,
            generation,
            index,
            room,
            ..Announcement::credit(self.eager_consumed)
        }
    }

    /// Where a payload goes.
    fn open(&mut self, header: Header) -> Result<Body, Failure> {
        let Header { tag, index, total, .. } = header;
        let known = self.posted.find(tag, index);
        if header.slot != EAGER {
            let place = header.slot as usize;
            if known != Some(place) || self.posted.generation(place) != header.generation {
                return Err(Failure::Protocol(format!(
                    "a frame for a receive that does not wait: {header:?}"
                )));
            }
        } else if total > self.eager_bytes as u64 {
            return Err(Failure::Protocol(format!("{total} bytes without having been asked for")));
        }
        if let Some(place) = known {
            let room = self.posted.get(place).map_or(0, |entry| entry.room);
            if total > room {
                return Err(Failure::Truncation { tag, bytes: total, room });
            }
            return Ok(Body { header, place: Some((place, self.posted.generation(place))), filled: 0 });
        }
        let twice = index < self.counted.next(tag)
            || self.early.iter().any(|early| (early.tag, early.index) == (tag, index));
        if twice || self.early.len() >= EAGER_SLOTS {
            return Err(Failure::Protocol(format!("a message twice, or too many: {header:?}")));
        }
        self.early.push(Early { tag, index, data: vec![0; total as usize], whole: false });
        Ok(Body { header, place: None, filled: 0 })
    }

    /// The memory that the rest of a payload goes to.
    fn rest_of(&mut self, body: &Body) -> Result<&mut [u8], Failure> {
        let Header { tag, index, offset, length, .. } = body.header;
        let (at, left) = ((offset + body.filled) as usize, (length - body.filled) as usize);
        let gone = || Failure::Protocol(format!("a frame for a receive that is complete: {:?}", body.header));
        let Some((place, generation)) = body.place else {
            let early = self.early.iter_mut().find(|early| (early.tag, early.index) == (tag, index));
            return Ok(&mut early.ok_or_else(gone)?.data[at..at + left]);
        };
        let entry = self.posted.get(place).filter(|_| self.posted.generation(place) == generation);
        let entry = entry.ok_or_else(gone)?;
        if left == 0 {
            return Ok(&mut []);
        }
        // SAFETY: the core lends the buffer until the request is complete, which is when the place is given back;
        // `open` and the header's own check keep the part within its room.
        Ok(unsafe { std::slice::from_raw_parts_mut(entry.data.add(at), left) })
    }

    /// Notes that a payload is complete.
    fn close(&mut self, body: &Body, arrived: &mut impl FnMut(Arrival)) -> Result<(), Failure> {
        let Header { tag, index, total, length, slot, .. } = body.header;
        let Some((place, _)) = body.place else {
            let early = self.early.iter_mut().find(|early| (early.tag, early.index) == (tag, index));
            early.expect("opened with the payload").whole = true;
            return self.take_early(arrived);
        };
        self.filled[place] += length;
        if self.filled[place] > total {
            return Err(Failure::Protocol(format!("more than the message has: {:?}", body.header)));
        }
        if self.filled[place] == total {
            self.eager_consumed += u64::from(slot == EAGER);
            self.complete(place, total, arrived);
        }
        Ok(())
    }

    /// Hands out messages that came before their receives, whose receives have been posted since.
    fn take_early(&mut self, arrived: &mut impl FnMut(Arrival)) -> Result<(), Failure> {
        let mut index = 0;
        while index < self.early.len() {
            let early = &self.early[index];
            let Some(place) = self.posted.find(early.tag, early.index).filter(|_| early.whole) else {
                index += 1;
                continue;
            };
            let early = self.early.remove(index);
            let entry = self.posted.get(place).expect("found above");
            let (bytes, room) = (early.data.len() as u64, entry.room);
            if bytes > room {
                return Err(Failure::Truncation { tag: early.tag, bytes, room });
            }
            if bytes > 0 {
                // SAFETY: the core lends the buffer until the request is complete; it has room, and a vector of this
                // process's own cannot overlap it.
                unsafe { std::ptr::copy_nonoverlapping(early.data.as_ptr(), entry.data, early.data.len()) };
            }
            self.eager_consumed += 1;
            self.complete(place, bytes, arrived);
        }
        Ok(())
    }

    fn complete(&mut self, place: usize, bytes: u64, arrived: &mut impl FnMut(Arrival)) {
        if let Some(Entry { request, part, .. }) = self.posted.remove(place) {
            arrived(Arrival { request, part, bytes });
        }
    }
}

impl<S: Read> Lane<S> {
    pub(super) fn new(socket: S) -> Self {
        let input = vec![0; INPUT_BYTES].into_boxed_slice();
        Self { socket, input, start: 0, end: 0, body: None, ended: false }
    }

    /// Takes in everything the socket has.
    pub(super) fn receive(
        &mut self,
        inbox: &mut Inbox,
        arrived: &mut impl FnMut(Arrival),
    ) -> Result<(), Failure> {
        loop {
            self.deliver(inbox, arrived)?;
            if self.ended {
                return Ok(());
            }
            let (wanted, result) = match &mut self.body {
                Some(body) if (body.header.length - body.filled) as usize > INPUT_BYTES / 2 => {
                    let rest = inbox.rest_of(body)?;
                    let piece = rest.len().min(PIECE_BYTES);
                    let rest = &mut rest[..piece];
                    let result = self.socket.read(rest);
                    if let Ok(count) = result {
                        body.filled += count as u64;
                    }
                    (rest.len(), result)
                }
                _ => {
                    self.input.copy_within(self.start..self.end, 0);
                    (self.start, self.end) = (0, self.end - self.start);
                    let free = &mut self.input[self.end..];
                    let result = self.socket.read(free);
                    let wanted = free.len();
                    self.end += result.as_ref().map_or(0, |count| *count);
                    (wanted, result)
                }
            };
            match result {
                Ok(0) => self.ended = true,
                // A short read has emptied the socket: another would only say so.
                Ok(count) if count < wanted => return self.deliver(inbox, arrived),
                Ok(_) => {}
                Err(error) if not_now(&error) => return Ok(()),
                Err(error) => return Err(broken(&error)),
            }
        }
    }

    /// Moves what has been read to where it belongs.
    fn deliver(&mut self, inbox: &mut Inbox, arrived: &mut impl FnMut(Arrival)) -> Result<(), Failure> {
        loop {
            let Some(body) = &mut self.body else {
                let Some(header) = self.input[self.start..self.end].first_chunk::<HEADER_BYTES>() else {
                    return Ok(());
                };
                let header = Header::decode(header).map_err(Failure::Protocol)?;
                self.start += HEADER_BYTES;
                self.body = Some(inbox.open(header)?);
                continue;
            };
            let rest = inbox.rest_of(body)?;
            let here = rest.len().min(self.end - self.start);
            rest[..here].copy_from_slice(&self.input[self.start..self.start + here]);
            self.start += here;
            body.filled += here as u64;
            if body.filled < body.header.length {
                return Ok(());
            }
            let body = self.body.take().expect("matched above");
            inbox.close(&body, arrived)?;
        }
    }
}
