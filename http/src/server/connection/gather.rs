//! Where answers are gathered, and up to which length.
use crate::service::Sink;

/// Answers go into the stream's send buffer.
pub(in crate::server) struct Gather<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) bytes_max: usize,
    pub(super) room: Room,
}

/// What there is memory for beside answers that leave at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Any,
    Files,
    Nothing,
}

impl Room {
    fn has(self, is_file: bool) -> bool {
        match self {
            Room::Any => true,
            Room::Files => is_file,
            Room::Nothing => false,
        }
    }
}

impl<'a> Gather<'a> {
    /// For one answer, which is written in any case.
    pub(in crate::server) fn all(out: &'a mut Vec<u8>) -> Gather<'a> {
        Gather { out, bytes_max: usize::MAX, room: Room::Any }
    }
}

impl Sink for Gather<'_> {
    #[inline]
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.out);
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.out.len() >= self.bytes_max
    }

    fn has_room(&self, is_file: bool) -> bool {
        self.room.has(is_file)
    }
}

/// As `Gather`, full behind the first answer.
pub(super) struct OneAnswer<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) before: usize,
    pub(super) bytes_max: usize,
    pub(super) room: Room,
}

impl Sink for OneAnswer<'_> {
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.out);
    }

    fn is_full(&self) -> bool {
        self.out.len() > self.before || self.out.len() >= self.bytes_max
    }

    fn has_room(&self, is_file: bool) -> bool {
        self.room.has(is_file)
    }
}
