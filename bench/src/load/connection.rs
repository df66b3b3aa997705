//! What one connection has under way: the requests in flight in their order, in a ring of fixed size. No I/O and no clock.

/// One request that was sent and not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// When it was to be sent. In closed loop, when it was.
    pub(crate) planned_ns: u64,
    /// When it was sent.
    pub(crate) sent_ns: u64,
    /// Whether it is a HEAD request, whose answer has no body.
    pub(crate) is_head: bool,
}

/// Requests in flight, oldest first. Answers come in the order of requests (RFC 9112 section 9.3.2).
#[derive(Debug)]
pub(crate) struct InFlight {
    ring: Box<[Sent]>,
    first: usize,
    len: usize,
}

impl InFlight {
    /// Room for so many.
    pub(crate) fn new(depth: usize) -> InFlight {
        InFlight { ring: vec![Sent::default(); depth.max(1)].into_boxed_slice(), first: 0, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many more there is room for.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.ring.len() - self.len
    }

    /// Adds the newest. There must be room.
    #[inline]
    pub(crate) fn push(&mut self, sent: Sent) {
        debug_assert!(self.room() > 0);
        let at = self.wrap(self.first + self.len);
        self.ring[at] = sent;
        self.len += 1;
    }

    /// The oldest.
    #[inline]
    pub(crate) fn oldest(&self) -> Option<Sent> {
        (self.len > 0).then(|| self.ring[self.first])
    }

    /// Takes the oldest.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Sent> {
        let oldest = self.oldest()?;
        self.first = self.wrap(self.first + 1);
        self.len -= 1;
        Some(oldest)
    }

    /// Forgets all, and says how many there were.
    pub(crate) fn clear(&mut self) -> usize {
        self.first = 0;
        std::mem::take(&mut self.len)
    }

    #[inline]
    fn wrap(&self, at: usize) -> usize {
        if at < self.ring.len() { at } else { at - self.ring.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(planned_ns: u64) -> Sent {
        Sent { planned_ns, ..Sent::default() }
    }

    #[test]
    fn first_in_first_out_round_and_round() {
        for depth in 1..5 {
            let mut flight = InFlight::new(depth);
            let (mut next, mut expected) = (0, 0);
            for turn in 0..20 {
                while flight.room() > turn % depth {
                    flight.push(sent(next));
                    next += 1;
                }
                for _ in 0..=turn % 3 {
                    if let Some(oldest) = flight.pop() {
                        assert_eq!(oldest, sent(expected), "depth {depth}");
                        expected += 1;
                    }
                }
                assert_eq!(flight.len() as u64, next - expected);
            }
        }
    }

    #[test]
    fn forgetting() {
        let mut flight = InFlight::new(2);
        flight.push(sent(1));
        flight.pop();
        flight.push(sent(2));
        flight.push(sent(3));
        assert_eq!((flight.room(), flight.clear(), flight.room()), (0, 2, 2));
        assert_eq!((flight.pop(), flight.oldest(), flight.is_empty()), (None, None, true));
    }
}
