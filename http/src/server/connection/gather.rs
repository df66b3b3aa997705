//! Where answers are gathered, and up to which length.
use super::ANSWER_BYTES_MAX;
use crate::server::Shared;
use crate::service::{SMALL_BYTES_MAX, Sink};

/// Answers go into the stream's send buffer.
pub(in crate::server) struct Gather<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// Bytes that wait to leave beside those in `out`.
    beside: usize,
    /// `None` for what is written in any case.
    memory: Option<Memory<'a>>,
}

/// Whose memory is to suffice for what waits for its client.
#[derive(Clone, Copy)]
pub(super) struct Memory<'a> {
    pub(super) shared: &'a Shared,
    /// Whether files pass through none of it.
    pub(super) sends_files: bool,
}

impl Memory<'_> {
    fn is_left(self) -> bool {
        self.shared.admission.held() < self.shared.limits.memory_bytes
    }
}

impl<'a> Gather<'a> {
    /// For one answer, which is written in any case.
    pub(in crate::server) fn all(out: &'a mut Vec<u8>) -> Gather<'a> {
        Gather { out, beside: 0, memory: None }
    }

    /// For as many as there is room for. One of few bytes is made whatever memory there is.
    #[inline]
    pub(super) fn some(out: &'a mut Vec<u8>, beside: usize, memory: Memory<'a>) -> Gather<'a> {
        Gather { out, beside, memory: Some(memory) }
    }
}

impl Sink for Gather<'_> {
    #[inline]
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.out);
    }

    #[inline]
    fn is_full(&self) -> bool {
        let bytes = self.out.len() + self.beside;
        bytes >= SMALL_BYTES_MAX
            && self.memory.is_some_and(|memory| bytes >= ANSWER_BYTES_MAX || !memory.is_left())
    }

    fn has_room(&self, is_file: bool) -> bool {
        self.memory.is_none_or(|memory| memory.sends_files && is_file || memory.is_left())
    }
}

/// As `Gather`, full behind the first answer.
pub(super) struct OneAnswer<'a> {
    pub(super) gather: Gather<'a>,
    pub(super) before: usize,
}

impl Sink for OneAnswer<'_> {
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.gather.append(write);
    }

    fn is_full(&self) -> bool {
        self.gather.out.len() > self.before || self.gather.is_full()
    }

    fn has_room(&self, is_file: bool) -> bool {
        self.gather.has_room(is_file)
    }
}
