//! The name of an operation in flight: what kind of table it belongs to, its slot there, and the slot's generation.

#![deny(unsafe_code)]

/// Which table a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Nobody waits: cancellations and closes.
    Ignored = 0,
    /// A one-shot operation of the op table.
    Op = 1,
    /// The receiving side of a socket.
    Receive = 2,
    /// The sending side of a socket.
    Send = 3,
    /// A listener's accept.
    Accept = 4,
    /// The doorbell of the remote inbox.
    Doorbell = 5,
    /// The alarm for a far deadline.
    Alarm = 6,
    /// The receiving side of a datagram socket.
    Datagram = 7,
    /// A message to the ring of another loop.
    Ring = 8,
    /// A send out of an owner's memory.
    ZeroCopy = 9,
}

/// Kind, generation and slot in the 64 bits that io_uring carries as `user_data`: 4 + 28 + 32 bits.
///
/// A stale completion (its slot was reused meanwhile) is told by its generation. 28 bits wrap after 268 million reuses
/// of one slot; a slot is reused only after its last completion, so a stale key can exist at all only for
/// cancellations, which free nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

const GENERATION_BITS: u32 = 28;
/// Generations count modulo this mask.
pub(crate) const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

impl Key {
    /// The key of operations whose result nobody waits for.
    pub(crate) const IGNORED: Key = Key(0);
    /// The key of the doorbell's poll; there is one a shard.
    pub(crate) const DOORBELL: Key = Key((Kind::Doorbell as u64) << 60);

    /// The key of the alarm; there is at most one a shard.
    pub(crate) const ALARM: Key = Key((Kind::Alarm as u64) << 60);

    #[inline]
    pub(crate) fn new(kind: Kind, slot: u32, generation: u32) -> Self {
        debug_assert!(generation <= GENERATION_MASK);
        Key((kind as u64) << 60 | u64::from(generation) << 32 | u64::from(slot))
    }

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Key(bits)
    }

    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn kind(self) -> Kind {
        match self.0 >> 60 {
            1 => Kind::Op,
            2 => Kind::Receive,
            3 => Kind::Send,
            4 => Kind::Accept,
            5 => Kind::Doorbell,
            6 => Kind::Alarm,
            7 => Kind::Datagram,
            8 => Kind::Ring,
            9 => Kind::ZeroCopy,
            _ => Kind::Ignored,
        }
    }

    #[inline]
    pub(crate) fn slot(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & GENERATION_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_as_it_went_in() {
        use Kind::*;
        for kind in [Op, Receive, Send, Accept, Doorbell, Alarm, Datagram, Ring, ZeroCopy] {
            for (slot, generation) in [(0, 0), (7, 3), (u32::MAX, GENERATION_MASK)] {
                let key = Key::from_bits(Key::new(kind, slot, generation).bits());
                assert_eq!((key.kind(), key.slot(), key.generation()), (kind, slot, generation));
            }
        }
        assert_eq!(Key::IGNORED.kind(), Ignored);
    }
}
