//! The loop: wait, drain all completions, then queue one send per connection that owes answers.
//!
//! Sends are queued after the drain, not within it, so that whatever a connection received in one round leaves in one
//! send, and so that a silent send (see [`SendMode::Skip`]) has reported its failure before the connection sends again:
//! its failure is posted while it is submitted, ahead of anything received later.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::squeue::Flags;
use io_uring::{IoUring, cqueue, opcode, types};

use crate::answer::{self, ANSWER};
use crate::buffers::Buffers;
use crate::connection::{Connection, Next};
use crate::options::{Options, SendMode};
use crate::ring::{Ring, WaitPolicy};

/// The upper half of user_data; the lower one is the descriptor.
const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const CLOSE: u64 = 4 << 32;

/// The server, all of it.
pub(crate) struct Server<'a> {
    ring: Ring<'a>,
    buffers: Buffers,
    listener: RawFd,
    accepting: bool,
    /// By descriptor number.
    connections: Vec<Connection>,
    /// Descriptors to look at after the drain, each once.
    listed: Vec<RawFd>,
    answers: &'static [u8],
    send: SendMode,
    wait: WaitPolicy,
}

impl<'a> Server<'a> {
    pub(crate) fn new(
        uring: &'a mut IoUring,
        listener: &TcpListener,
        options: &Options,
    ) -> io::Result<Server<'a>> {
        let ring = Ring::new(uring)?;
        let buffers = Buffers::register(ring.submitter())?;
        Ok(Server {
            ring,
            buffers,
            listener: listener.as_raw_fd(),
            accepting: false,
            connections: Vec::new(),
            listed: Vec::new(),
            answers: answer::block(),
            send: options.send,
            wait: WaitPolicy {
                spin: options.spin,
                min_wait_us: options.min_wait_us,
                min_wait_count: options.min_wait_count,
            },
        })
    }

    /// Serves until a signal ends the process, or the ring fails.
    pub(crate) fn run(mut self) -> io::Result<()> {
        self.arm_accept()?;
        loop {
            self.ring.wait(&self.wait)?;
            while let Some(completion) = self.ring.next_completion() {
                self.handle(&completion)?;
            }
            self.buffers.publish();
            self.advance_listed()?;
        }
    }

    #[inline]
    fn handle(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let descriptor = completion.user_data() as u32 as RawFd;
        let more = cqueue::more(completion.flags());
        let result = completion.result();
        match completion.user_data() & !0xffff_ffff {
            RECEIVE => self.handle_receive(descriptor, result, completion.flags()),
            SEND => self.handle_send(descriptor, result),
            ACCEPT => self.handle_accept(result, more),
            // Only a failed close reports (CQE_SKIP_SUCCESS), and even then Linux has let go of the descriptor.
            CLOSE => Ok(()),
            _ => unreachable!("no other kind is ever submitted"),
        }
    }

    fn handle_accept(&mut self, result: i32, more: bool) -> io::Result<()> {
        self.accepting = more;
        if result >= 0 {
            let index = result as usize;
            if index >= self.connections.len() {
                self.connections.resize(index + 1, Connection::default());
            }
            self.connections[index] = Connection::default();
            self.arm_receive(result)?;
        } else if matches!(-result, libc::EMFILE | libc::ENFILE) {
            // The table is full: the next close arms it again.
            return Ok(());
        }
        if more { Ok(()) } else { self.arm_accept() }
    }

    #[inline]
    fn handle_receive(&mut self, descriptor: RawFd, result: i32, flags: u32) -> io::Result<()> {
        let connection = &mut self.connections[descriptor as usize];
        if let Some(id) = cqueue::buffer_select(flags) {
            connection.handle_received(self.buffers.received(id, result.max(0) as usize));
            self.buffers.give_back(id);
        }
        if !cqueue::more(flags) {
            if result > 0 || result == -libc::ENOBUFS {
                // Ended without an end of stream (no buffer, no room for completions): the drain gives buffers back.
                self.arm_receive(descriptor)?;
            } else {
                connection.receive_ended = true;
            }
        }
        self.list(descriptor);
        Ok(())
    }

    #[inline]
    fn handle_send(&mut self, descriptor: RawFd, result: i32) -> io::Result<()> {
        let connection = &mut self.connections[descriptor as usize];
        if result >= 0 {
            connection.handle_sent(result as u32);
        } else if !connection.sending && result == -libc::EAGAIN {
            // A silent send found the socket full: nothing has gone out.
            connection.handle_sent(0);
        } else {
            connection.handle_send_failed();
            if !connection.receive_ended {
                // SAFETY: no memory is involved. The receive ends, and then the descriptor is closed.
                unsafe { libc::shutdown(descriptor, libc::SHUT_RDWR) };
            }
        }
        self.list(descriptor);
        Ok(())
    }

    #[inline]
    fn list(&mut self, descriptor: RawFd) {
        let connection = &mut self.connections[descriptor as usize];
        if !connection.listed {
            connection.listed = true;
            self.listed.push(descriptor);
        }
    }

    /// Lets every listed connection take its next step.
    #[inline]
    fn advance_listed(&mut self) -> io::Result<()> {
        for index in 0..self.listed.len() {
            self.advance(self.listed[index])?;
        }
        self.listed.clear();
        Ok(())
    }

    #[inline]
    fn advance(&mut self, descriptor: RawFd) -> io::Result<()> {
        let connection = &mut self.connections[descriptor as usize];
        connection.listed = false;
        let is_rest = connection.has_rest();
        match connection.next(ANSWER.len() as u32) {
            Next::Wait => Ok(()),
            Next::Close => self.close(descriptor),
            Next::Send { bytes, answers } => {
                // Where something hangs on the completion, it is asked for: the rest of a short send, answers behind
                // this block, a close.
                let silent = self.send == SendMode::Skip
                    && !(is_rest || connection.has_more() || connection.receive_ended);
                connection.sending = !silent;
                // The last `bytes` of so many answers: a rest may begin in the middle of one.
                let end = answers as usize * ANSWER.len();
                let slice = &self.answers[end - bytes as usize..end];
                // WAITALL: a short send is carried on by the kernel. A silent one needs it to count as a failure, since
                // otherwise it would fall short in silence.
                let (wait, on_success) =
                    if silent { (libc::MSG_DONTWAIT, Flags::SKIP_SUCCESS) } else { (0, Flags::empty()) };
                let entry = opcode::Send::new(types::Fd(descriptor), slice.as_ptr(), bytes)
                    .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL | wait)
                    .build()
                    .flags(on_success)
                    .user_data(SEND | descriptor as u64);
                // SAFETY: `answers` is never freed and never written.
                unsafe { self.ring.push(&entry) }
            }
        }
    }

    fn arm_accept(&mut self) -> io::Result<()> {
        self.accepting = true;
        let entry = opcode::AcceptMulti::new(types::Fd(self.listener))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(ACCEPT | self.listener as u64);
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(&entry) }
    }

    fn arm_receive(&mut self, descriptor: RawFd) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(types::Fd(descriptor), Buffers::GROUP)
            .build()
            .user_data(RECEIVE | descriptor as u64);
        // SAFETY: the buffers of the group are never freed.
        unsafe { self.ring.push(&entry) }
    }

    fn close(&mut self, descriptor: RawFd) -> io::Result<()> {
        let entry = opcode::Close::new(types::Fd(descriptor))
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(CLOSE | descriptor as u64);
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(&entry)? };
        if self.accepting { Ok(()) } else { self.arm_accept() }
    }
}
