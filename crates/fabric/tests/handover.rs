//! The hand-over of slots between two ranks under a model checker, which tries every interleaving and every value that
//! the memory model lets a load return. The code is the fabric's own, compiled against the checker's atomics.

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}
#[path = "../src/flag.rs"]
mod flag;
#[allow(dead_code, reason = "the checker sends one way; what the other way needs is not used here")]
#[path = "../src/window.rs"]
mod window;

use atomic::AtomicU64;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use window::Window;

const SLOTS: usize = 2;
const MESSAGES: u64 = 3;

/// One mailbox: payloads, their flags, and the line where the receiver tells its credit.
#[derive(Default)]
struct Mailbox {
    payloads: [UnsafeCell<u64>; SLOTS],
    flags: [AtomicU64; SLOTS],
    credit: AtomicU64,
}

fn slot(number: u64) -> usize {
    (number as usize - 1) % SLOTS
}

fn send_all(mailbox: &Mailbox) {
    let mut window = Window::new(SLOTS);
    for _ in 0..MESSAGES {
        while !window.has_room() {
            window.learn(flag::look(&mailbox.credit));
            thread::yield_now();
        }
        let (number, _) = window.send();
        // SAFETY: the window had room, so the slot is this side's; the checker fails where that is not so.
        mailbox.payloads[slot(number)].with_mut(|payload| unsafe { *payload = number * 100 });
        flag::raise(&mailbox.flags[slot(number)], number);
    }
}

fn receive_all(mailbox: &Mailbox) {
    let mut window = Window::new(SLOTS);
    for _ in 0..MESSAGES {
        let number = window.next();
        while flag::look(&mailbox.flags[slot(number)]) != number {
            thread::yield_now();
        }
        // SAFETY: the flag was seen, so the slot is this side's; the checker fails where that is not so.
        let payload = mailbox.payloads[slot(number)].with(|payload| unsafe { *payload });
        assert_eq!(payload, number * 100);
        if let Some(credit) = window.release() {
            flag::raise(&mailbox.credit, credit);
        }
    }
}

#[test]
fn no_slot_is_read_before_it_is_written_nor_written_before_it_is_consumed() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::default());
        let sender = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || send_all(&mailbox)
        });
        receive_all(&mailbox);
        sender.join().unwrap();
    });
}
