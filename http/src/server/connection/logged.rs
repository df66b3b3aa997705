//! Answers with a line of the access log for each.
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Context;
use std::time::Instant;

use super::Connection;
use super::gather::{Gather, OneAnswer};
use crate::access_log::{AccessLog, Entry};
use crate::service::{Sink, Stop};
use crate::transport::Transport;

impl<S: Transport> Connection<S> {
    /// As the service does it, one request at a time, with a line for each answer.
    #[cold]
    pub(super) fn serve_logged(
        &self,
        log: &Rc<AccessLog>,
        input: &[u8],
        now: Instant,
        cx: &mut Context<'_>,
    ) -> (usize, Stop) {
        let mut course = self.course();
        let mut used = 0;
        loop {
            let mut entry = Entry::new(&input[used..], self.peer.get(), now);
            let beside = self.stream.unsent_beside();
            let left_before = course.requests_left;
            let (count, stop, has_answer, is_full) = self.stream.with_send_buffer(|out| {
                let before = out.len();
                let mut sink = OneAnswer { gather: Gather::some(out, beside, self.memory()), before };
                let (count, stop) = self.shared.service.serve(
                    &input[used..],
                    now,
                    &mut course,
                    self.peer.get(),
                    cx,
                    &mut sink,
                );
                let (is_full, out) = (sink.gather.is_full(), sink.gather.out);
                entry.note(&out[before..]);
                (count, stop, out.len() > before, is_full)
            });
            if course.requests_left == left_before {
                entry.believe_no_field(self.peer.get());
            }
            used += count;
            self.note_course(course);
            match stop {
                Stop::Wait(..) | Stop::Body(_) | Stop::Leave(_) => {
                    // The socket of a client that resets does not tell any more who it was.
                    entry.client = self.client_of(&entry);
                    self.entry.replace(Some(Box::new(entry)));
                }
                _ if has_answer => self.log(log, &entry),
                _ => {}
            }
            match stop {
                Stop::Full if !is_full && used < input.len() => {}
                stop => return (used, stop),
            }
        }
    }

    /// Adds to what is known of the answer at work, if that is kept.
    #[inline]
    pub(super) fn note(&self, add: impl FnOnce(&mut Entry)) {
        if let Some(mut entry) = self.entry.take() {
            add(&mut entry);
            self.entry.set(Some(entry));
        }
    }

    /// Writes the line of the answer that is out now, if it has one.
    pub(super) fn log_answer(&self) {
        let entry = self.entry.take();
        if let (Some(log), Some(entry)) = (&self.shared.log, entry) {
            self.log(log, &entry);
        }
    }

    pub(super) fn log(&self, log: &Rc<AccessLog>, entry: &Entry) {
        log.push(entry, self.client_of(entry), annulet::time::now());
    }

    fn client_of(&self, entry: &Entry) -> Option<IpAddr> {
        entry.client.or_else(|| self.stream.peer_addr().ok().map(|address| address.ip()))
    }
}
