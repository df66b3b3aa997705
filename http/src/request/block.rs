//! What a request owns, and the free list of it.
use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::rc::Rc;

use http::Method;

use crate::around::Around;
use crate::body::Body;
use crate::h1::head::{Field, Head, Span};
use crate::proxy::Peer;

/// Blocks kept per thread; one per request at work is needed. A thousand slow requests at a time leave so many behind.
const BLOCKS_FREE_MAX: usize = 256;
/// A block whose copy of a head grew beyond this gives that memory back, in bytes.
const HEAD_BYTES_KEPT_MAX: usize = 2 * 1024;

/// What a request owns.
#[derive(Default)]
pub(super) struct Block {
    /// The head as it arrived.
    pub(super) bytes: Vec<u8>,
    /// What was parsed of it.
    pub(super) head: Head,
    pub(super) fields: Vec<Field>,
    pub(super) method: Method,
    /// Where in `values` each parameter ends.
    pub(super) param_ends: Vec<u16>,
    /// The names of the parameters in their order, from the route.
    pub(super) param_names: Option<Rc<[Box<str>]>>,
    /// The values of the parameters, decoded, one after the other.
    pub(super) values: String,
    /// For decoding.
    pub(super) scratch: Vec<u8>,
    /// For the form in which an escaped path is matched.
    pub(super) matched: Vec<u8>,
    /// Whether one of the next four is there: one look instead of four for most.
    pub(super) has_rare: bool,
    /// See [`is_first`](super::Request::is_first).
    pub(super) is_first: bool,
    /// Who sent it, where the server keeps that in mind.
    pub(super) peer: Option<Rc<Peer>>,
    pub(super) body: Option<Body>,
    /// Where shared values are found, if the route has any.
    pub(super) around: Option<Rc<Around>>,
    /// What was left with it, one value of a type.
    pub(super) extensions: Vec<(TypeId, Rc<dyn Any>)>,
}

impl Block {
    /// An empty one, from the free list if there is one.
    #[inline]
    pub(super) fn take() -> Box<Block> {
        let block = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        block.unwrap_or_default()
    }

    /// Not inlined: what most do not have takes no register of theirs.
    #[inline(never)]
    fn forget_rare(&mut self) {
        self.has_rare = false;
        self.body = None;
        self.around = None;
        self.peer = None;
        self.extensions.clear();
    }

    /// Forgets what it holds, and goes back to the free list.
    #[inline]
    pub(super) fn give_back(mut self: Box<Self>) {
        if self.param_names.is_some() {
            self.param_names = None;
        }
        self.param_ends.clear();
        self.values.clear();
        self.is_first = false;
        if self.has_rare {
            self.forget_rare();
        }
        if self.bytes.capacity() > HEAD_BYTES_KEPT_MAX {
            self.bytes = Vec::new();
            self.values = String::new();
            self.scratch = Vec::new();
            self.matched = Vec::new();
        }
        // Fails only while the thread ends: then the allocator has it.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < BLOCKS_FREE_MAX {
                free.push(self);
            }
        });
    }

    #[inline]
    pub(super) fn text(&self, span: Span) -> &str {
        text(&self.bytes[span.range()])
    }
}

thread_local! {
    // Boxes are what is kept: the block must not move when its request does.
    #[expect(clippy::vec_box)]
    static FREE: RefCell<Vec<Box<Block>>> = const { RefCell::new(Vec::new()) };
}

/// Only called on bytes that were checked when they were put there.
#[inline]
pub(super) fn text(checked: &[u8]) -> &str {
    str::from_utf8(checked).unwrap_or_default()
}
