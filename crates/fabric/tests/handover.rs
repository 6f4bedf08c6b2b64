//! The hand-over of slots between two ranks under a model checker, which tries every interleaving and every value that
//! the memory model lets a load return. The code is the fabric's own, compiled against the checker's atomics.

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}
#[path = "../src/flag.rs"]
mod flag;
#[allow(dead_code, reason = "what only the mesh asks a window is not used here")]
#[path = "../src/window.rs"]
mod window;

use atomic::AtomicU64;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use window::Window;

/// One mailbox: payloads, their flags, and the line where the receiver tells its credit.
struct Mailbox<const SLOTS: usize> {
    /// A payload, and the credit for the other way in its header.
    payloads: [UnsafeCell<(u64, u64)>; SLOTS],
    flags: [AtomicU64; SLOTS],
    credit: AtomicU64,
}

impl<const SLOTS: usize> Mailbox<SLOTS> {
    fn new() -> Arc<Self> {
        let payloads = std::array::from_fn(|_| UnsafeCell::default());
        let flags = std::array::from_fn(|_| AtomicU64::default());
        Arc::new(Self { payloads, flags, credit: AtomicU64::default() })
    }

    fn send(&self, window: &mut Window) {
        let (number, credit) = window.send();
        let slot = (number as usize - 1) % SLOTS;
        // SAFETY: the window had room, so the slot is this side's; the checker fails where that is not so.
        self.payloads[slot].with_mut(|payload| unsafe { *payload = (number * 100, credit) });
        flag::raise(&self.flags[slot], number);
    }

    /// Until the receiver has told of room by its credit line.
    fn await_room(&self, window: &mut Window) {
        while !window.has_room() {
            window.learn(flag::look(&self.credit));
            thread::yield_now();
        }
    }

    fn receive(&self, window: &mut Window) {
        let number = window.next();
        let slot = (number as usize - 1) % SLOTS;
        while flag::look(&self.flags[slot]) != number {
            thread::yield_now();
        }
        // SAFETY: the flag was seen, so the slot is this side's; the checker fails where that is not so.
        let (payload, credit) = self.payloads[slot].with(|payload| unsafe { *payload });
        assert_eq!(payload, number * 100);
        window.learn(credit);
        if let Some(credit) = window.release() {
            flag::raise(&self.credit, credit);
        }
    }
}

#[test]
fn no_slot_is_read_before_it_is_written_nor_written_before_it_is_consumed() {
    const SLOTS: usize = 2;
    const MESSAGES: usize = 3;
    loom::model(|| {
        let mailbox = Mailbox::<SLOTS>::new();
        let sender = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || {
                let mut window = Window::new(SLOTS);
                for _ in 0..MESSAGES {
                    mailbox.await_room(&mut window);
                    mailbox.send(&mut window);
                }
            }
        });
        let mut window = Window::new(SLOTS);
        (0..MESSAGES).for_each(|_| mailbox.receive(&mut window));
        sender.join().unwrap();
    });
}

/// One rank sends as far ahead as it may, the other answers every message: all credit for the first one's messages travels
/// in the headers of the answers.
#[test]
fn credit_in_headers_gives_a_slot_back_and_not_too_early() {
    // With three slots, one message that is not yet told of is no reason to tell of it by the credit line.
    const SLOTS: usize = 3;
    const MESSAGES: usize = 5;
    // Of so many steps not every order can be tried; most mistakes need few switches between threads.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let (there, back) = (Mailbox::<SLOTS>::new(), Mailbox::<SLOTS>::new());
        let answering = thread::spawn({
            let (there, back) = (Arc::clone(&there), Arc::clone(&back));
            move || {
                let mut window = Window::new(SLOTS);
                for _ in 0..MESSAGES {
                    there.receive(&mut window);
                    back.await_room(&mut window);
                    back.send(&mut window);
                }
            }
        });
        let mut window = Window::new(SLOTS);
        let mut answers = 0;
        for _ in 0..MESSAGES {
            while !window.has_room() {
                back.receive(&mut window);
                answers += 1;
            }
            there.send(&mut window);
        }
        (answers..MESSAGES).for_each(|_| back.receive(&mut window));
        answering.join().unwrap();
    });
}
