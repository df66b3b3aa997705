//! A rustls connection as a machine that is fed leases and gives plaintext, and the other way round. It waits for nothing:
//! the streams' futures do. So a future that is dropped leaves it between two records.
//!
//! rustls holds incomplete records and decrypted bytes; it is given bytes only while it has nothing decrypted, so it holds
//! one record and a bit at the most. What it wants to send goes into the stream's send buffer in the same call that made
//! it, so it holds nothing of that.

use std::io::{self, BufRead, Read, Write};

use annulet::Lease;
use rustls::{Connection, InvalidMessage};

use crate::error::{TlsError, truncated};
use crate::plaintext::RECORD_MAX;
use crate::transport::Transport;
use crate::withheld::Withheld;

/// Of a client that has been told nothing yet, more is not taken: a ClientHello with keys for the time after quantum computers is three
/// KiB long. Refused without an alert: rustls sends those for its own reasons only. In bytes.
const HELLO_BYTES_MAX: usize = 32 * 1024;

/// What [`Session::progress`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There are decrypted bytes.
    Plaintext,
    /// The peer has said that it sends no more.
    End,
    /// More must be received first.
    NeedsBytes,
}

/// See the module.
pub(crate) struct Session {
    connection: Connection,
    /// Received, and not yet given to rustls: the rest of a lease whose beginning completed a record.
    pending: Option<Lease>,
    withheld: Withheld,
    /// Whether rustls has received into more memory than it begins with.
    has_grown: bool,
    /// Whether anything was sent.
    has_sent: bool,
    /// See [`take_plain`](Self::take_plain): then `pending` is all that was received.
    is_plain: bool,
    /// Why it is over.
    failure: Option<rustls::Error>,
    /// Whether close_notify was sent: nothing may follow it.
    is_write_closed: bool,
}

impl Session {
    pub(crate) fn new(mut connection: Connection) -> Session {
        // One record is made, copied into the send buffer and freed, then the next.
        connection.set_buffer_limit(Some(RECORD_MAX));
        let withheld = Withheld::new(matches!(connection, Connection::Server(_)));
        Session {
            connection,
            pending: None,
            withheld,
            has_grown: false,
            has_sent: false,
            is_plain: false,
            failure: None,
            is_write_closed: false,
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The first bytes of a client that has begun as no record does, but a request of HTTP or a PROXY header. This has failed then, and
    /// it was not sent an alert yet: [`send`](Self::send) does.
    pub(crate) fn take_plain(&mut self) -> Option<Lease> {
        self.pending.take_if(|_| self.is_plain)
    }

    /// How many received bytes lie here of which nothing has come yet.
    pub(crate) fn undecrypted(&self) -> usize {
        self.withheld.bytes()
    }

    /// Takes what was received; `None` is the end of the stream below.
    pub(crate) fn receive(&mut self, lease: Option<Lease>) -> io::Result<()> {
        debug_assert!(self.pending.is_none(), "asked for with NeedsBytes only");
        match lease {
            Some(lease) => self.pending = Some(lease),
            // This is how rustls is told.
            None => _ = self.connection.read_tls(&mut io::empty())?,
        }
        Ok(())
    }

    /// Decrypts until there is something to read or nothing left to decrypt. What it makes rustls answer (alerts, new
    /// keys) goes into `out`.
    ///
    /// # Errors
    ///
    /// What is wrong with what the peer sent; `UnexpectedEof` when it went away without a word. Bytes that were
    /// decrypted before come first.
    pub(crate) fn progress(&mut self, out: &impl Transport) -> io::Result<Progress> {
        loop {
            match self.connection.reader().fill_buf() {
                Ok([]) => {
                    // Nothing that follows close_notify counts (RFC 8446 section 6.1).
                    self.pending = None;
                    return Ok(Progress::End);
                }
                Ok(_) => return Ok(Progress::Plaintext),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(truncated()),
            }
            self.check()?;
            if !self.decrypt(out)? {
                return Ok(Progress::NeedsBytes);
            }
        }
    }

    /// Goes on with the handshake as far as the received bytes go. Gives whether it is done.
    pub(crate) fn handshake(&mut self, out: &impl Transport) -> io::Result<bool> {
        // The first flight of a client comes of nothing received.
        self.send(out);
        while self.connection.is_handshaking() {
            self.check()?;
            if !self.decrypt(out)? {
                return Ok(false);
            }
        }
        self.check()?;
        self.withheld.follow(&[], true);
        self.shrink();
        Ok(true)
    }

    /// Gives rustls received bytes, as many as it takes at once. Gives whether there were any.
    fn decrypt(&mut self, out: &impl Transport) -> io::Result<bool> {
        let Some(lease) = &mut self.pending else {
            self.shrink();
            return Ok(false);
        };
        // It makes room behind what it keeps. Where it keeps nothing, it goes back to 4 KiB.
        self.has_grown = self.withheld.bytes() > 0;
        let count = self.connection.read_tls(&mut &lease[..])?;
        let processed = self.connection.process_new_packets();
        if processed.is_err() && !self.has_sent && !self.has_grown {
            // The first bytes of all: a method, or the empty line that may stand before it and begins version 2 of the PROXY header.
            self.is_plain = lease.first().is_some_and(|first| first.is_ascii_uppercase() || *first == b'\r');
        }
        // An answer, or new keys, or plaintext: what they came of is gone.
        let has_come = self.connection.wants_write()
            || processed.as_ref().is_ok_and(|state| state.plaintext_bytes_to_read() > 0);
        self.withheld.follow(&lease[..count], has_come);
        if self.is_plain {
            // Neither with an alert, nor without what was received.
            self.failure = processed.err();
            self.withheld.clear();
            return Ok(true);
        }
        lease.advance(count);
        if lease.is_empty() {
            self.pending = None;
        }
        if let Err(error) = processed {
            self.fail(error);
        }
        // With the alert that tells the peer why.
        self.send(out);
        if !self.has_sent && self.withheld.bytes() > HELLO_BYTES_MAX {
            self.fail(InvalidMessage::HandshakePayloadTooLarge.into());
        }
        Ok(true)
    }

    /// Has rustls give back what a large record took: by itself it does so when it receives again, which may be hours away.
    fn shrink(&mut self) {
        if self.has_grown && self.withheld.bytes() == 0 {
            self.has_grown = false;
            // It sees to its memory first, and then hears that there is nothing to receive.
            let _ = self.connection.read_tls(&mut NothingYet);
        }
    }

    fn fail(&mut self, error: rustls::Error) {
        self.failure = Some(error);
        self.pending = None;
        self.withheld.clear();
    }

    /// Reads decrypted bytes, after [`progress`](Self::progress) has told of some.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.connection.reader().read(buffer)
    }

    /// Encrypts all of `bytes` into `out`.
    ///
    /// # Errors
    ///
    /// Why the session is over.
    pub(crate) fn write(&mut self, mut bytes: &[u8], out: &impl Transport) -> io::Result<()> {
        self.check_write()?;
        while !bytes.is_empty() {
            let count = self.connection.writer().write(bytes)?;
            if count == 0 {
                // Its send buffer was emptied before, so there is room.
                return Err(io::Error::new(io::ErrorKind::WriteZero, "rustls takes no more bytes"));
            }
            bytes = &bytes[count..];
            self.send(out);
        }
        Ok(())
    }

    /// Tells the peer that nothing more will be sent. Once.
    pub(crate) fn close_write(&mut self, out: &impl Transport) {
        if !self.is_write_closed {
            self.is_write_closed = true;
            self.connection.send_close_notify();
            self.send(out);
        }
    }

    /// Why the session is over, if it is.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.failure.as_ref().map_or(Ok(()), |failure| Err(TlsError::new(failure.clone()).into()))
    }

    /// As [`check`](Self::check), and for writing.
    pub(crate) fn check_write(&self) -> io::Result<()> {
        self.check()?;
        if self.is_write_closed {
            let why = "this side of the TLS stream is closed; write before `shutdown`";
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, why));
        }
        Ok(())
    }

    /// What rustls wants to send.
    pub(crate) fn send(&mut self, out: &impl Transport) {
        if self.connection.wants_write() {
            self.has_sent = true;
            out.with_send_buffer(|buffer| {
                while self.connection.wants_write() {
                    // Writing into a vector cannot fail.
                    let _ = self.connection.write_tls(buffer);
                }
            });
        }
    }
}

/// What a socket says that has nothing to read.
struct NothingYet;

impl Read for NothingYet {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
