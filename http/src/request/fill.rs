//! How a request comes about: its head is parsed to where it stays, then it is told what its route and its connection know.
use std::rc::Rc;

use http::Method;
use percent_encoding::percent_decode;

use super::Request;
use crate::around::Around;
use crate::body::Body;
use crate::h1::Refusal;
use crate::h1::head::{Parse, Parser};
use crate::proxy::Peer;
use crate::router::escaped;

impl Request {
    /// Takes over the head at the beginning of `input`, parsed to where it stays.
    #[inline]
    pub(crate) fn parse(&mut self, parser: &mut Parser, input: &[u8]) -> Parse<()> {
        let block = self.block_mut();
        let was_get = block.head.is_get;
        let parsed = parser.parse(input, &mut block.head, &mut block.fields);
        if let Parse::Complete(()) = parsed {
            let bytes = block.head.bytes(input);
            block.bytes.clear();
            block.bytes.extend_from_slice(bytes);
            // Most requests are GET, and so was the one before in this block.
            if !(block.head.is_get && was_get) {
                block.method = Method::from_bytes(&bytes[block.head.method.range()])
                    .expect("the parsers let tokens pass only, and a token is a method");
            }
        }
        parsed
    }

    /// Whether it is the first since its connection waited for bytes, and has been through nobody's hands.
    pub(crate) fn is_first(&self) -> bool {
        self.block().is_first
    }

    #[inline]
    pub(crate) fn set_first(&mut self) {
        self.block_mut().is_first = true;
    }

    /// Somebody may do anything before it is answered.
    #[inline]
    pub(crate) fn unset_first(&mut self) {
        self.block_mut().is_first = false;
    }

    /// Gives a path with escapes its normal form, see [`path`](Request::path). What was behind it in the head stays where it is.
    pub(crate) fn normalise_path(&mut self) {
        let block = self.block_mut();
        block.head.path.len = escaped::normalise(&mut block.bytes[block.head.path.range()]) as u16;
    }

    /// Memory for the form in which the path is matched, until it is [kept](Request::keep_matched).
    pub(crate) fn take_matched(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.block_mut().matched)
    }

    pub(crate) fn keep_matched(&mut self, matched: Vec<u8>) {
        self.block_mut().matched = matched;
    }

    /// Adds the next parameter, a piece of the path.
    ///
    /// # Errors
    ///
    /// [`Refusal::Escape`] when its decoded form is not UTF-8.
    #[inline]
    pub(crate) fn push_param(&mut self, value: &str) -> Result<(), Refusal> {
        let block = self.block_mut();
        if block.head.path_is_escaped && value.contains('%') {
            block.scratch.clear();
            block.scratch.extend(percent_decode(value.as_bytes()));
            block.values.push_str(str::from_utf8(&block.scratch).map_err(|_| Refusal::Escape)?);
        } else {
            block.values.push_str(value);
        }
        // Decoding only shortens, and a head is at most 64 KiB.
        block.param_ends.push(block.values.len() as u16);
        Ok(())
    }

    /// Names the parameters.
    #[inline]
    pub(crate) fn set_param_names(&mut self, names: &Rc<[Box<str>]>) {
        self.block_mut().param_names = Some(names.clone());
    }

    pub(crate) fn set_around(&mut self, around: &Rc<Around>) {
        let block = self.block_mut();
        (block.has_rare, block.around) = (true, Some(around.clone()));
    }

    /// Says who sent it.
    pub(crate) fn set_peer(&mut self, peer: &Rc<Peer>) {
        let block = self.block_mut();
        (block.has_rare, block.peer) = (true, Some(peer.clone()));
    }

    /// Gives the request its content.
    pub(crate) fn set_body(&mut self, body: Body) {
        let block = self.block_mut();
        (block.has_rare, block.body) = (true, Some(body));
    }
}
