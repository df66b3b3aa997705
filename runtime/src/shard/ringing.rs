//! Ringing other loops: by a message from this loop's ring to theirs, which leaves with what the loop submits anyway.
//!
//! Whoever has won the right to ring a sleeper must see it through ([`Inbox`](crate::executor::inbox::Inbox)). So a message that
//! fails, or that the kernel did not take at once, is followed by a write to the sleeper's eventfd, and one that was not tried
//! because the kernel refuses entries just now is replaced by it. A sleeper that is rung twice looks once more and finds nothing.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::Remote;
use crate::driver::{Driver, Event, Key, Kind, Op};
use crate::executor::inbox::Doorbell as _;

/// Messages that the kernel may not have taken yet: those of one turn, unless it refuses entries.
#[derive(Debug, Default)]
pub(super) struct Ringing {
    under_way: VecDeque<Message>,
    /// The number of the next one; wraps.
    next: u32,
}

#[derive(Debug)]
struct Message {
    number: u32,
    /// See [`Driver::settled`].
    ticket: u64,
    remote: Arc<Remote>,
    /// The receiver's ring stays open, and its number its own, until the kernel has taken the message.
    _ring: Arc<OwnedFd>,
    /// Its receiver was rung by its eventfd.
    is_replaced: bool,
}

impl Ringing {
    /// Rings with the next entry into the kernel, or at once.
    pub(super) fn ring(&mut self, remote: &Arc<Remote>, driver: &mut Driver) {
        // The receiver's ring is none where messages are not to be had; a loop without a ring of its own is never prompt.
        let ring = if driver.is_prompt() { remote.ring() } else { None };
        let Some(ring) = ring else { return remote.inbox.doorbell().ring() };
        let number = self.next;
        self.next = number.wrapping_add(1);
        // SAFETY: a message points to no memory.
        unsafe { driver.push(Op::Ring { fd: ring.as_raw_fd() }, Key::new(Kind::Ring, number, 0)) };
        let remote = Arc::clone(remote);
        let message = Message { number, ticket: driver.ticket(), remote, _ring: ring, is_replaced: false };
        self.under_way.push_back(message);
    }

    /// A message has failed; or has not, where the kernel tells of both.
    pub(super) fn handle_event(&mut self, event: Event) {
        let place = self.under_way.iter().position(|message| message.number == event.key.slot());
        if let Some(message) = place.and_then(|place| self.under_way.get_mut(place))
            && event.result < 0
        {
            message.replace();
        }
    }

    /// Behind an entry into the kernel, when every event is taken: forgets what was taken, replaces what was not.
    #[inline]
    pub(super) fn settle(&mut self, driver: &Driver) {
        while let Some(message) = self.under_way.front()
            && driver.settled(message.ticket)
        {
            self.under_way.pop_front();
        }
        self.under_way.iter_mut().for_each(Message::replace);
    }
}

impl Message {
    fn replace(&mut self) {
        if !std::mem::replace(&mut self.is_replaced, true) {
            self.remote.inbox.doorbell().ring();
        }
    }
}

#[cfg(all(test, not(annulet_loom)))]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::driver::Feature;
    use crate::driver::uring::{Fault, inject};
    use crate::driver::{Settings, Wait};
    use crate::shard::{Shard, ShardSettings, registry};
    use crate::sys::monotonic_ns;

    fn shard() -> Rc<Shard> {
        let ring = Settings { rings_others: true, ..Settings::default() };
        Shard::new(&ShardSettings { ring, ..ShardSettings::default() }, None).unwrap()
    }

    /// None, and says so, where there are no messages.
    fn two_shards() -> Option<[Rc<Shard>; 2]> {
        let shards = [shard(), shard()];
        let has = shards[0].io.borrow().driver.capabilities().has(Feature::MsgRing);
        if !has {
            println!("skipped: no messages between rings here (the mask, or the kernel)");
        }
        has.then_some(shards)
    }

    /// Rings `to` from `from`, whose ring is then entered once.
    fn ring(from: &Shard, to: &Arc<Remote>) {
        let mut io = from.io.borrow_mut();
        io.ring(to);
        io.driver.wait(Wait::No).unwrap();
        io.drain(0);
    }

    fn under_way(shard: &Shard) -> usize {
        shard.io.borrow().ringing.under_way.len()
    }

    /// How often a shard hears something: events of its eventfd, and others, until nothing comes any more.
    fn heard(shard: &Shard) -> (usize, usize) {
        let mut io = shard.io.borrow_mut();
        let (mut bells, mut others) = (0, 0);
        for _ in 0..100 {
            io.driver.wait(Wait::No).unwrap();
            let before = (bells, others);
            while let Some(event) = io.driver.next_event() {
                match event.key.kind() {
                    Kind::Doorbell => bells += 1,
                    _ => others += 1,
                }
            }
            if before == (bells, others) {
                return before;
            }
        }
        panic!("it never ends");
    }

    #[test]
    fn a_message_ends_the_sleep_and_says_nothing_here() {
        let Some([here, there]) = two_shards() else { return };
        assert_eq!((heard(&here), heard(&there)), ((0, 0), (0, 0)));
        for _ in 0..1000 {
            ring(&here, &there.remote);
            let mut io = there.io.borrow_mut();
            let before = monotonic_ns();
            io.driver.wait(Wait::Until(Some(before + 60_000_000_000))).unwrap();
            assert!(monotonic_ns() < before + 30_000_000_000, "it slept until its deadline");
            assert_eq!(io.drain(0), (1, false));
        }
        assert_eq!((under_way(&here), heard(&here), heard(&there)), (0, (0, 0), (0, 0)));
    }

    #[test]
    fn who_cannot_be_sent_a_message_is_rung_by_its_eventfd() {
        let Some([here, there]) = two_shards() else { return };
        // A descriptor that is no ring; EBADFD.
        let (no_ring, _other) = UnixStream::pair().unwrap();
        *there.remote.ring.lock().unwrap() = Some(Arc::new(no_ring.into()));
        ring(&here, &there.remote);
        assert_eq!((under_way(&here), heard(&there)), (0, (1, 0)));
        // None at all.
        *there.remote.ring.lock().unwrap() = None;
        ring(&here, &there.remote);
        assert_eq!((under_way(&here), heard(&there)), (0, (1, 0)));
    }

    #[test]
    fn a_kernel_that_refuses_does_not_keep_a_sleeper_waiting() {
        let Some([here, there]) = two_shards() else { return };
        let refused = inject(Fault::Refused(libc::ENOMEM), u8::MAX, 1);
        ring(&here, &there.remote);
        drop(refused);
        // It is known by now that the message did not leave, and the next is not even tried.
        assert_eq!((under_way(&here), heard(&there)), (1, (1, 0)));
        ring(&here, &there.remote);
        // The first one left with this entry.
        assert_eq!((under_way(&here), heard(&there)), (0, (1, 1)));
    }

    #[test]
    fn a_ring_stays_open_while_a_message_to_it_is_under_way() {
        let Some([here, there]) = two_shards() else { return };
        let ring = Arc::downgrade(&there.remote.ring().unwrap());
        here.io.borrow_mut().ring(&there.remote);
        registry::unregister(there.key);
        assert!(
            ring.upgrade().is_some(),
            "its number may be another file's when the kernel takes the message"
        );
        here.io.borrow_mut().driver.wait(Wait::No).unwrap();
        here.io.borrow_mut().drain(0);
        assert!(ring.upgrade().is_none(), "and is closed then");
        // Whoever holds on to what was shared finds no ring any more.
        assert!(there.remote.ring().is_none());
    }

    #[test]
    fn loops_of_a_mesh_ring_by_messages() {
        /// Whether it sends one within half a minute; none if there are none here.
        async fn rings_by_one() -> Option<bool> {
            if !crate::capabilities().has(Feature::MsgRing) {
                return None;
            }
            let sent = || crate::shard::current().io.borrow().ringing.next;
            let until = monotonic_ns() + 30_000_000_000;
            while sent() == 0 && monotonic_ns() < until {
                // Long enough for it to fall asleep, most of the time.
                crate::time::sleep(Duration::from_millis(2)).await;
                crate::mesh::submit_to(1, || async {}).await.unwrap();
            }
            Some(sent() > 0)
        }
        let cores = crate::placement::available_cores().unwrap();
        let (done, rung) = mpsc::channel();
        let builder = crate::Builder::new().cores([cores[0], cores[1 % cores.len()]]);
        let loops = builder.start(move |core| {
            let done = (core.index() == 0).then(|| done.clone());
            async move {
                if let Some(done) = done {
                    done.send(rings_by_one().await).unwrap();
                }
                core.stopped().await;
            }
        });
        let loops = loops.unwrap();
        let rung = rung.recv_timeout(Duration::from_secs(120)).expect("the first loop ends well");
        loops.stop();
        loops.join().unwrap();
        match rung {
            Some(rung) => assert!(rung, "the other one is never asleep, or is rung otherwise"),
            None => println!("skipped: no messages between rings here (the mask, or the kernel)"),
        }
    }

    #[test]
    fn a_loop_without_others_lets_nobody_ring_and_rings_nobody() {
        let alone = Shard::new(&ShardSettings::default(), None).unwrap();
        assert!(alone.remote.ring().is_none());
        assert!(!alone.io.borrow().driver.capabilities().has(Feature::MsgRing));
    }
}
