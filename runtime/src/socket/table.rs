//! The slab of sockets.

use std::collections::VecDeque;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::task::Waker;

use super::receive::Receive;
use super::send::SendState;
use super::{ArmedTimer, Context};
use crate::driver::{Event, Key, Kind};
use crate::op::NO_BUFFER;

/// Which socket: slot and generation. A stale id finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl SocketId {
    /// The id as a number.
    pub(crate) fn word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The id of [`word`](Self::word).
    pub(crate) fn from_word(word: u64) -> Self {
        SocketId { slot: word as u32, generation: (word >> 32) as u32 }
    }

    pub(super) fn key(self, kind: Kind) -> Key {
        Key::new(kind, self.slot, self.generation)
    }
}

/// One connected socket.
#[derive(Debug)]
pub(super) struct Socket {
    /// Counts the uses of this slot.
    pub(super) generation: u32,
    /// Whether it is of the table of datagram sockets; its events have a kind of their own.
    pub(super) datagram: bool,
    /// Somebody receives by hand: nothing is asked of the kernel until the next wait for bytes.
    pub(super) by_hand: bool,
    /// The descriptor, owned by the slot; -1 once its close was handed to the kernel.
    pub(super) fd: RawFd,
    /// Whether the kernel receives for us.
    pub(super) receive: Receive,
    /// Whether the kernel holds `flying`.
    pub(super) send: SendState,
    /// In `Sockets::dirty`: gathered bytes are to leave at the end of this turn.
    pub(super) dirty: bool,
    /// The owner is gone.
    pub(super) closing: bool,
    /// The peer did not take the last bytes in time: the next event of the send is its last.
    pub(super) abandoned: bool,
    /// Closing drops what has not left.
    pub(super) abrupt: bool,
    /// `flying` came from the user and goes back to them.
    pub(super) lent: Option<Box<Lent>>,
    /// The receive deadline passed.
    pub(super) timed_out: bool,
    /// Received and not yet taken: first and last buffer of the list in the pool, and how many.
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) queued: u16,
    /// Bytes that were announced and have not come; much of it is received into large buffers.
    pub(super) expected: u64,
    /// Whether the receive in flight is one for a large buffer.
    pub(super) bulk: bool,
    /// So many arrivals of which nothing was announced are still received by one request each, behind a large body.
    pub(super) one_by_one: u8,
    /// The buffer of a `ReceiveInto` in flight.
    pub(super) reading: u16,
    /// errno that ended receiving, 0 for none (or the end of the stream).
    pub(super) receive_error: i32,
    /// errno that ended sending.
    pub(super) send_error: i32,
    /// Who waits for bytes.
    pub(super) reader: Option<Waker>,
    /// Who waits for room or for the flush.
    pub(super) writer: Option<Waker>,
    /// Bytes that are not yet with the kernel.
    pub(super) gather: Vec<u8>,
    /// How many buffers for more of them are out to be written to: one, or more if writing is nested.
    pub(super) buffers_out: u16,
    /// Bytes that the kernel is reading.
    /// INVARIANT: neither moved in memory, changed nor freed while `send` is not `Idle`.
    pub(super) flying: Vec<u8>,
    /// Bytes that are not copied.
    pub(super) owned: Option<Box<super::owned::Owned>>,
    /// Bytes of owners that the kernel reads where they are: `zero_copy`.
    pub(super) pinned: usize,
    /// How many of `flying`, and of owned bytes behind them, the kernel has taken.
    pub(super) sent: usize,
    /// Its part of [`Sockets::late_bytes`].
    pub(super) late: usize,
    /// When waiting for bytes fails, in nanoseconds of the shard's clock; `u64::MAX` for never.
    pub(super) deadline: u64,
    /// The entry in the wheel; it may be earlier than `deadline` and is then set anew when it fires.
    pub(super) timer: ArmedTimer,
    /// When that entry fires.
    pub(super) timer_at: u64,
}

/// Bytes of the user's in `flying`, until they are taken back.
#[derive(Debug, Default)]
pub(super) struct Lent {
    /// The lender, who waits apart from other writers.
    pub(super) lender: Option<Waker>,
}

/// All sockets of a core.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(super) slots: Vec<Socket>,
    free: Vec<u32>,
    /// Sockets with gathered bytes and nothing in flight.
    pub(super) dirty: Vec<SocketId>,
    /// Sockets whose send was handed over this turn and will be known to be done when the driver is settled.
    pub(super) trying: Vec<SocketId>,
    /// The driver's ticket behind the last of them.
    pub(super) tried: u64,
    /// Sockets that found the buffer ring empty, in the order in which they did.
    pub(super) starved: VecDeque<SocketId>,
    /// What the kernel reads of owners' memory, of sockets that are gone too.
    pub(super) pinned: super::zero_copy::Pinned,
    /// Emptied send buffers for the next answer.
    pub(super) spare: Vec<Vec<u8>>,
    /// Bytes that stream sockets received, ever.
    pub(crate) received_bytes: u64,
    /// Bytes of stream sockets that the kernel took, ever.
    pub(crate) sent_bytes: u64,
    /// Bytes in send buffers whose peers did not take all that was sent at once: what slow readers cost in memory. Bytes that
    /// leave with the turn are not among them.
    pub(crate) late_bytes: usize,
    /// Descriptors given to the kernel to be closed, ever.
    pub(crate) closes: u64,
    /// Receives that found no buffer, ever.
    pub(crate) starvations: u64,
}

/// A turn's dirty list is swapped with this, so that its memory is kept.
pub(super) type SocketList = Vec<SocketId>;

impl Sockets {
    /// Takes over the descriptor of a datagram socket. Such sockets have a table apart, with buffers of their own.
    pub(crate) fn insert_datagram(&mut self, fd: OwnedFd) -> SocketId {
        let id = self.insert(fd);
        self.socket(id).datagram = true;
        id
    }

    /// Takes over a connected descriptor.
    pub(crate) fn insert(&mut self, fd: OwnedFd) -> SocketId {
        let fd = fd.into_raw_fd();
        if let Some(slot) = self.free.pop() {
            let socket = &mut self.slots[slot as usize];
            debug_assert!(socket.fd == -1 && socket.queued == 0);
            socket.fd = fd;
            return SocketId { slot, generation: socket.generation };
        }
        let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 sockets, bounded by descriptors");
        self.slots.push(Socket::new(fd));
        SocketId { slot, generation: 0 }
    }

    /// The socket, if the id is not stale.
    #[inline]
    pub(super) fn find(&mut self, id: SocketId) -> Option<&mut Socket> {
        self.slots.get_mut(id.slot as usize).filter(|socket| socket.generation == id.generation)
    }

    /// The socket of an id whose owner is alive, which keeps it from going stale.
    #[inline]
    pub(super) fn socket(&mut self, id: SocketId) -> &mut Socket {
        let socket = &mut self.slots[id.slot as usize];
        debug_assert_eq!(socket.generation, id.generation);
        socket
    }

    /// The descriptor of a socket, -1 once it is closed.
    pub(crate) fn fd(&mut self, id: SocketId) -> RawFd {
        self.find(id).map_or(-1, |socket| socket.fd)
    }

    /// Sockets that are not free.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a completion of a socket in.
    #[inline]
    pub(crate) fn handle_event(&mut self, event: Event, cx: &mut Context<'_>) {
        let id = SocketId { slot: event.key.slot(), generation: event.key.generation() };
        if self.find(id).is_none() {
            return handle_stale(event, cx);
        }
        match event.key.kind() {
            Kind::Receive | Kind::Datagram => self.handle_receive(id, event, cx),
            _ => self.handle_send(id, event.result, cx),
        }
    }

    /// Every socket that is not free, for shutdown.
    pub(crate) fn ids(&self) -> Vec<SocketId> {
        let used = self.slots.iter().enumerate().filter(|(_, socket)| socket.is_used());
        used.map(|(slot, socket)| SocketId { slot: slot as u32, generation: socket.generation }).collect()
    }

    /// Frees the slot if the kernel holds nothing of it any more.
    pub(super) fn free_if_quiet(&mut self, id: SocketId, cx: &mut Context<'_>) {
        let socket = self.socket(id);
        if !socket.closing
            || socket.fd != -1
            || socket.receive.is_in_flight()
            || socket.send != SendState::Idle
        {
            return;
        }
        debug_assert_eq!((socket.queued, socket.late), (0, 0));
        if let Some(timer) = socket.timer.take() {
            cx.timers.remove(timer);
        }
        let generation = socket.generation.wrapping_add(1) & crate::driver::GENERATION_MASK;
        let mut fresh = Socket::new(-1);
        fresh.generation = generation;
        *socket = fresh;
        self.free.push(id.slot);
    }
}

/// A slot is reused only after its last completion, so there is no such event, unless a kernel is wrong. Then one
/// connection's bytes must not become another's.
#[cold]
fn handle_stale(event: Event, cx: &mut Context<'_>) {
    if let Some(buffer) = event.buffer {
        cx.pool.taken_by_kernel(buffer);
        cx.pool.give_back(buffer);
    }
}

impl Socket {
    fn new(fd: RawFd) -> Self {
        Socket {
            generation: 0,
            datagram: false,
            by_hand: false,
            fd,
            receive: Receive::Idle,
            send: SendState::Idle,
            dirty: false,
            closing: false,
            abandoned: false,
            abrupt: false,
            lent: None,
            timed_out: false,
            first: NO_BUFFER,
            last: NO_BUFFER,
            queued: 0,
            expected: 0,
            bulk: false,
            one_by_one: 0,
            reading: NO_BUFFER,
            receive_error: 0,
            send_error: 0,
            reader: None,
            writer: None,
            gather: Vec::new(),
            buffers_out: 0,
            flying: Vec::new(),
            owned: None,
            pinned: 0,
            sent: 0,
            late: 0,
            deadline: u64::MAX,
            timer: None,
            timer_at: u64::MAX,
        }
    }

    fn is_used(&self) -> bool {
        self.fd != -1 || self.closing
    }
}
