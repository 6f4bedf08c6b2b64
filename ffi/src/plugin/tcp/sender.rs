//! The sending half of a TCP connection.

use std::net::TcpStream;

use super::broken;
use super::header::{EAGER, Header};
use super::lane::Lane;
use crate::plugin::comm::control::Control;
use crate::plugin::comm::{Failure, Outgoing};
use crate::plugin::protocol::{
    Announced, Announcement, EAGER_SLOTS, KIND_ANNOUNCE, MAX_POSTED, Striping, TagCounters,
};

#[derive(Debug)]
pub(crate) struct Sender {
    control: Control,
    lanes: Vec<Lane>,
    striping: Striping,
    eager_bytes: usize,
    sent: TagCounters,
    announced: Announced,
    eager_sent: u64,
    eager_consumed: u64,
    /// Frames of each request that have not left, and its size.
    outstanding: Vec<(usize, u64)>,
}

impl Sender {
    pub(crate) fn new(
        control: Control,
        lanes: Vec<TcpStream>,
        eager_bytes: usize,
        striping: Striping,
    ) -> Self {
        Self {
            control,
            lanes: lanes.into_iter().map(Lane::new).collect(),
            striping,
            eager_bytes,
            sent: TagCounters::default(),
            announced: Announced::default(),
            eager_sent: 0,
            eager_consumed: 0,
            outstanding: vec![(0, 0); MAX_POSTED],
        }
    }

    /// Puts a message on its way; false when its receive is not known yet and it cannot go without.
    pub(crate) fn post(&mut self, message: &Outgoing<'_>) -> Result<bool, Failure> {
        let index = self.sent.next(message.tag);
        if self.announced.find(message.tag, index).is_none() && !self.may_go_eagerly(message) {
            self.listen()?;
        }
        let frame = match self.announced.find(message.tag, index) {
            Some(told) if message.bytes > told.room => {
                let Outgoing { tag, bytes, .. } = *message;
                return Err(Failure::Truncation { tag, bytes, room: told.room });
            }
            Some(told) => (told.slot, told.generation),
            None if self.may_go_eagerly(message) => {
                self.eager_sent += 1;
                (EAGER, 0)
            }
            None => return Ok(false),
        };
        self.announced.remove(message.tag, index);
        self.sent.advance(message.tag);
        let mut count = 0;
        // An eager message is one part: it is below the threshold, or goes whole all the same.
        let whole = Striping { lanes: 1, ..self.striping };
        let striping = if frame.0 == EAGER { whole } else { self.striping };
        for (lane, part) in striping.parts(message.bytes).enumerate() {
            let header = Header::new(message.tag, frame.0, frame.1, index, message.bytes, part);
            self.lanes[lane].push(&header, message.data.wrapping_add(part.0 as usize), message.request);
            count += 1;
        }
        self.outstanding[message.request] = (count, message.bytes);
        Ok(true)
    }

    fn may_go_eagerly(&self, message: &Outgoing<'_>) -> bool {
        message.bytes <= self.eager_bytes as u64 && self.eager_sent - self.eager_consumed < EAGER_SLOTS as u64
    }

    /// Sends what the sockets take; `finished` is told every request that has left whole, and its size.
    pub(crate) fn progress(&mut self, mut finished: impl FnMut(usize, u64)) -> Result<(), Failure> {
        let outstanding = &mut self.outstanding;
        let mut sent = |request: usize| {
            outstanding[request].0 -= 1;
            if outstanding[request].0 == 0 {
                finished(request, outstanding[request].1);
            }
        };
        for lane in &mut self.lanes {
            lane.flush(&mut sent).map_err(|error| broken(&error))?;
        }
        if self.control.now_and_then() {
            self.take_announcements()?;
            if let Some(cause) = self.control.ended()
                && self.lanes.iter().any(|lane| !lane.is_empty())
            {
                return Err(Failure::Lost(cause.to_owned()));
            }
        }
        Ok(())
    }

    /// Looks for announcements; without them nothing can be sent, so the end of the peer is an error here.
    fn listen(&mut self) -> Result<(), Failure> {
        self.control.exchange();
        self.take_announcements()?;
        match self.control.ended() {
            Some(cause) => Err(Failure::Lost(cause.to_owned())),
            None => Ok(()),
        }
    }

    fn take_announcements(&mut self) -> Result<(), Failure> {
        while let Some(bytes) = self.control.stream.take() {
            let told = Announcement::decode(&bytes).map_err(Failure::Protocol)?;
            if told.eager_consumed < self.eager_consumed || told.eager_consumed > self.eager_sent {
                let consumed = told.eager_consumed;
                return Err(Failure::Protocol(format!(
                    "it has consumed {consumed} of {} messages",
                    self.eager_sent
                )));
            }
            self.eager_consumed = told.eager_consumed;
            if told.kind == KIND_ANNOUNCE {
                self.announced.add(told, &self.sent).map_err(Failure::Protocol)?;
            }
        }
        Ok(())
    }
}
