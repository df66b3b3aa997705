//! Where things stand in a head: offsets into its bytes instead of copies of them.
use std::ops::Range;

/// One header field line: where its name and its value stand in the head. In bytes, from the head's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    pub(super) name_start: u16,
    name_len: u16,
    value_start: u16,
    value_len: u16,
}

impl Field {
    #[inline]
    pub(super) fn new(name: Span, value: Span) -> Field {
        Field { name_start: name.start, name_len: name.len, value_start: value.start, value_len: value.len }
    }

    #[inline]
    pub(super) fn value_span(self) -> Span {
        Span { start: self.value_start, len: self.value_len }
    }

    /// The field's name as it was sent.
    #[must_use]
    pub fn name(self, head: &[u8]) -> &[u8] {
        &head[usize::from(self.name_start)..][..usize::from(self.name_len)]
    }

    /// The field's value, without white space around it.
    #[must_use]
    pub fn value(self, head: &[u8]) -> &[u8] {
        &head[usize::from(self.value_start)..][..usize::from(self.value_len)]
    }
}

/// A range of the head, in bytes from its first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u16,
    /// Number of bytes.
    pub len: u16,
}

impl Span {
    /// As a range of indices.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.start) + usize::from(self.len)
    }

    /// Where `part` stands in `whole`, of which it is a piece no further in than 64 KiB.
    #[inline]
    pub(crate) fn of(part: &[u8], whole: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Span { start: start as u16, len: part.len() as u16 }
    }
}
