//! A connection with both its ends in this process, and messages that are checked.

use std::collections::VecDeque;

use crate::pattern;
use crate::plugin::{Opaque, Part, Plugin};
use crate::{Outcome, until};

/// Memory that is registered with one connection, until it is dropped.
pub struct Buffer<'a> {
    plugin: &'a Plugin,
    comm: Opaque,
    bytes: Vec<u8>,
    /// Its handle.
    pub memory: Opaque,
}

impl<'a> Buffer<'a> {
    /// So many bytes, registered.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn new(plugin: &'a Plugin, comm: Opaque, bytes: usize) -> Outcome<Self> {
        let mut bytes = vec![0; bytes.max(1)];
        let memory = plugin.register(comm, bytes.as_mut_ptr(), bytes.len())?;
        Ok(Self { plugin, comm, bytes, memory })
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Gives the registration back and keeps the memory.
    pub fn keep(mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// As one part of a receive.
    pub fn part(&mut self, room: usize, tag: i32) -> Part {
        Part { data: self.bytes.as_mut_ptr(), room, tag, memory: self.memory }
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // Memory that is registered must not be freed: its pages would be another's, and the NIC would not know.
        if let Err(refused) = self.plugin.deregister(self.comm, self.memory) {
            eprintln!("{refused}");
        }
    }
}

/// Asks for requests in turn until all are complete; the sizes of each. A complete request is not asked for again.
///
/// # Errors
/// The plugin's answer, or it takes too long.
pub fn complete(plugin: &Plugin, requests: &[Opaque]) -> Outcome<Vec<[i32; 8]>> {
    let mut sizes = vec![None; requests.len()];
    until("a completion", || {
        for (size, request) in sizes.iter_mut().zip(requests).filter(|(size, _)| size.is_none()) {
            *size = plugin.test(*request)?;
        }
        Ok(sizes.iter().copied().collect())
    })
}

/// Both ends of a connection.
pub struct Link<'a> {
    /// The plugin.
    pub plugin: &'a Plugin,
    /// The sending end.
    pub send: Opaque,
    /// The receiving end.
    pub receive: Opaque,
}

impl<'a> Link<'a> {
    /// Connects this process with itself; the listener is closed behind it, as the core does.
    ///
    /// # Errors
    /// The plugin's answer, or it takes too long.
    pub fn new(plugin: &'a Plugin, context: Opaque, device: i32) -> Outcome<Self> {
        Self::between(plugin, context, device, device)
    }

    /// Connects one device of this process with another.
    ///
    /// # Errors
    /// As in [`Link::new`].
    pub fn between(plugin: &'a Plugin, context: Opaque, calling: i32, listening: i32) -> Outcome<Self> {
        let (listener, handle) = plugin.listen(context, listening)?;
        let link = Self::at(plugin, context, calling, listener, handle);
        plugin.close_listen(listener)?;
        link
    }

    /// Connects through a listener that is there.
    ///
    /// # Errors
    /// As in [`Link::new`].
    pub fn at(
        plugin: &'a Plugin,
        context: Opaque,
        device: i32,
        listener: Opaque,
        mut handle: [u8; 128],
    ) -> Outcome<Self> {
        let (mut send, mut receive) = (None, None);
        let ends = until("a connection", || {
            if send.is_none() {
                send = plugin.connect(context, device, &mut handle)?;
            }
            if receive.is_none() {
                receive = plugin.accept(listener)?;
            }
            Ok(send.zip(receive))
        })?;
        Ok(Self { plugin, send: ends.0, receive: ends.1 })
    }

    /// Moves one message and checks it.
    ///
    /// # Errors
    /// The plugin's answer, wrong contents, or it takes too long.
    pub fn exchange(&self, bytes: usize, number: u64) -> Outcome {
        self.stream(&[bytes], 1, 0, number)
    }

    /// Moves messages of these sizes, `depth` of them at one time, and checks each. The receives have `spare` bytes more
    /// room than the messages need.
    ///
    /// # Errors
    /// As in [`Link::exchange`].
    pub fn stream(&self, sizes: &[usize], depth: usize, spare: usize, first: u64) -> Outcome {
        let most = sizes.iter().copied().max().unwrap_or(0);
        let make = |comm, bytes| {
            (0..depth).map(|_| Buffer::new(self.plugin, comm, bytes)).collect::<Outcome<Vec<_>>>()
        };
        let (mut sources, mut targets) = (make(self.send, most)?, make(self.receive, most + spare)?);
        let (mut sent, mut received) = (0, 0);
        let (mut sending, mut receiving) = (VecDeque::new(), VecDeque::new());
        let (mut done, mut gone) = (0, 0);
        while done < sizes.len() || gone < sizes.len() {
            // Each step has its own deadline: a stream is as long as it is.
            until("a message of a stream", || {
                let before = (done, gone);
                // The core takes a NULL request for "not now" and asks again.
                if received < sizes.len() && received - done < depth {
                    let part = targets[received % depth].part(sizes[received] + spare, 3);
                    if let Some(request) = self.plugin.receive(self.receive, &[part])? {
                        receiving.push_back(request);
                        received += 1;
                    }
                }
                if sent < sizes.len() && sent - gone < depth {
                    let source = &mut sources[sent % depth];
                    let bytes = sizes[sent];
                    if sending.len() == sent - gone {
                        pattern::fill(&mut source.bytes[..bytes], first + sent as u64);
                    }
                    let data = source.bytes.as_ptr();
                    if let Some(request) = self.plugin.send(self.send, data, bytes, 3, source.memory)? {
                        sending.push_back(request);
                        sent += 1;
                    }
                }
                if let Some(request) = sending.front()
                    && self.plugin.test_without_sizes(*request)?
                {
                    sending.pop_front();
                    gone += 1;
                }
                if let Some(request) = receiving.front()
                    && let Some(reported) = self.plugin.test(*request)?
                {
                    receiving.pop_front();
                    if reported[0] as usize != sizes[done] {
                        return Err(
                            format!("{} bytes were sent, {} are reported", sizes[done], reported[0]).into()
                        );
                    }
                    pattern::check(&targets[done % depth].bytes[..sizes[done]], first + done as u64)?;
                    done += 1;
                }
                Ok(((done, gone) != before).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Closes both ends.
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn close(self) -> Outcome {
        self.plugin.close_send(self.send)?;
        self.plugin.close_receive(self.receive)?;
        Ok(())
    }
}
