//! Clients that announce a tiny window, as slow ones do on purpose: they shall cost the kernel little.
//!
//! Bytes that wait in the kernel for a client without room cost it some 1.3 KiB of memory a segment, and a probe of the window each time a
//! timer goes off (RFC 9293 section 3.8.6.1), seven in half a minute. Thousands of such clients are probed in crowds, because the timers
//! are coarse, and nobody else is served meanwhile. So such a client is first sent what it has room for and no more, and the rest when it
//! has taken that. Until then nothing waits in the kernel, and so nothing tells that there is room again: it is looked for.
use std::ops::Range;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use annulet::fs::File;
use annulet::net::Keepalive;

use super::Connection;
use super::sending::Unsent;
use super::written::{Patience, Taken};
use crate::h1::outgoing::Outgoing;
use crate::transport::Transport;

/// Segments are small below this, in bytes: the least that IPv6 can carry (RFC 8200 section 5) leaves room for 1220, Ethernet for 1460.
const SEGMENT_BYTES_MIN: u32 = 1024;
/// So many small ones wait in the kernel at most. Arbitrary.
const SMALL_SEGMENTS_MAX: u32 = 8;
/// The first pause between looks; each is twice as long as the one before, so that room is found before it has been there for longer than
/// it was waited for.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Who has had no room for so long is asked whether its word of it was lost.
const ASKED_AFTER: Duration = Duration::from_secs(1);
/// So often it is asked, in seconds. Less often than the kernel would ask at first.
const ASKED_EVERY: u64 = 10;
/// Who has not even so much time could not be asked in it and answer: the kernel counts in seconds.
const PATIENCE_MIN: Duration = Duration::from_secs(4);

impl<S: Transport> Connection<S> {
    /// What a few segments carry, in bytes, to a client whose window may be tiny: the kernel sends segments of half the largest that was
    /// announced.
    pub(super) fn few_small_segments(&self) -> Option<u32> {
        let segment = self.stream.max_segment().ok()?;
        (segment < SEGMENT_BYTES_MIN).then_some(SMALL_SEGMENTS_MAX * segment)
    }

    /// Sends as much of a file as a client has room for, and waits until it has room for more, if its window is tiny. No more than a `few`
    /// segments are to wait in the kernel then.
    pub(super) async fn send_first_window(
        &self,
        few: u32,
        file: &File,
        range: &mut Range<u64>,
        outgoing: &mut Outgoing,
    ) -> Result<(), Unsent> {
        let room = self.wait_for_room().await?;
        // Short segments may also be the path's, and the window as anybody's.
        let Some(room) = room.filter(|room| *room < 2 * SEGMENT_BYTES_MIN) else { return Ok(()) };
        let bytes = self.shared.limits.unsent_bytes;
        if bytes > 0 {
            // For want of it more memory is used, and nothing else.
            let _ = self.stream.set_notsent_lowat(bytes.min(few));
        }
        self.send_some(file, range, room.into(), outgoing).await?;
        if !range.is_empty() {
            self.wait_for_room().await?;
        }
        Ok(())
    }

    /// Waits until the client has room for more than is under way to it, in bytes. `None` if the kernel should wait for it: where it does
    /// not tell, where the client could not be asked, and once the server drains.
    async fn wait_for_room(&self) -> Result<Option<u32>, Unsent> {
        let service = &self.shared.service;
        let (mut watch, mut patience, mut pause) = (None, Patience::new(), PAUSE_MIN);
        let mut is_asked = false;
        let room = loop {
            let Ok(progress) = self.stream.send_progress() else { break None };
            if progress.room > 0 {
                break Some(progress.room);
            }
            if service.drains() || self.write_patience() < PATIENCE_MIN {
                break None;
            }
            let taken = Taken { bytes: progress.acknowledged as u32, idle: progress.idle };
            let silence = patience.look(annulet::time::now(), taken);
            if silence >= self.write_patience() {
                self.give_up();
                return Err(Unsent::Gone);
            }
            if silence >= ASKED_AFTER && !is_asked {
                is_asked = self.ask_for_room();
                if !is_asked {
                    break None;
                }
            }
            let left = self.write_patience() - silence;
            let mut pausing = pin!(annulet::time::sleep(pause.min(left)));
            // What is ours to send has been flushed: it is the pause alone that ends this, a drain, or the client's reset.
            let mut none = Patience::new();
            let paused = self.unless_gone(&mut watch, &mut none, |cx| match service.drains() {
                true => Poll::Ready(()),
                false => pausing.as_mut().poll(cx),
            });
            paused.await.ok_or(Unsent::Gone)?;
            pause = (pause * 2).min(PAUSE_MAX);
        };
        if is_asked {
            // A probe too many does no harm.
            let _ = self.stream.set_keepalive(None);
        }
        Ok(room)
    }

    /// Has the kernel ask the client now and then, as it asks who is silent, because it answers with the room it has. Where nothing waits
    /// to be sent nobody else would ask (RFC 9293 section 3.8.6.1), and the word of new room may have been lost. `false` if that cannot be,
    /// or belongs to somebody else who may ask too seldom.
    fn ask_for_room(&self) -> bool {
        let seconds = (self.shared.limits.write_timeout.as_secs() / 3).clamp(1, ASKED_EVERY);
        let every = Duration::from_secs(seconds);
        // It is the write timeout that gives the client up: these are the most that the kernel counts to.
        let probes = 127;
        self.stream.keepalive().is_ok_and(|is_on| !is_on)
            && self.stream.set_keepalive(Some(Keepalive { idle: every, interval: every, probes })).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::rc::Rc;

    use annulet::net::TcpStream;
    use socket2::{Domain, SockFilter, SockRef, Socket, Type};

    use super::*;
    use crate::h1::encode::Length;
    use crate::router::Router;
    use crate::server::admission::Seat;
    use crate::server::{Limits, Server};

    /// Of what comes nothing is kept: BPF_RET with BPF_K of linux/bpf_common.h.
    const NOTHING: SockFilter = SockFilter::new(0x06, 0, 0, 0);

    /// A client with these options, what serves it, and the same socket as the kernel has it.
    fn connect(options: impl FnOnce(&Socket)) -> (Socket, Rc<Connection<TcpStream>>, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        options(&client);
        client.connect(&listener.local_addr().unwrap().into()).unwrap();
        let limits = Limits { write_timeout: Duration::from_secs(5), ..Limits::default() };
        let seat = Seat::new(Server::new(Router::new()).with_limits(limits).shared, None);
        let accepted = listener.accept().unwrap().0;
        let stream = TcpStream::from_std(accepted.try_clone().unwrap()).unwrap();
        (client, Connection::new(stream, seat), accepted)
    }

    #[annulet::test]
    async fn a_path_of_short_segments_is_no_tiny_window() {
        let (_client, connection, _) = connect(|client| client.set_tcp_mss(536).unwrap());
        let few = connection.few_small_segments().expect("the segments are short");
        let file = File::from_std(tempfile::tempfile().unwrap());
        file.set_len(1000).await.unwrap();
        let mut range = 0..1000;
        let mut outgoing = Outgoing::new(Length::Known(1000));
        let sent = connection.send_first_window(few, &file, &mut range, &mut outgoing).await;
        assert!(sent.is_ok());
        assert_eq!(range, 0..1000);
        assert!(connection.stream.notsent_lowat().unwrap() != few);
    }

    /// Sends what the client has room for, and waits until it has come. How much that is.
    async fn fill(connection: &Connection<TcpStream>) -> usize {
        let room = connection.wait_for_room().await.ok().flatten().expect("it has room at first") as usize;
        connection.stream.write_all(&vec![b'x'; room]).await.unwrap();
        connection.stream.flush().await.unwrap();
        while connection.stream.send_progress().unwrap().waits {
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(connection.stream.send_progress().unwrap().room, 0);
        room
    }

    #[annulet::test]
    async fn what_is_under_way_has_its_room() {
        let (_client, connection, accepted) = connect(|client| client.set_recv_buffer_size(1).unwrap());
        let before = connection.stream.send_progress().unwrap().room;
        // As over a long way: the client has it, and its word of that has not come.
        SockRef::from(&accepted).attach_filter(&[NOTHING]).unwrap();
        connection.stream.write_all(&[b'x'; 251]).await.unwrap();
        connection.stream.flush().await.unwrap();
        let progress = connection.stream.send_progress().unwrap();
        assert!(progress.waits);
        assert_eq!(progress.room, before - 251);
    }

    #[annulet::test]
    async fn who_is_asked_by_others_is_left_to_the_kernel() {
        let (_client, connection, _) = connect(|client| client.set_recv_buffer_size(1).unwrap());
        let seldom = Duration::from_secs(1000);
        let probes = Keepalive { idle: seldom, interval: seldom, probes: 3 };
        connection.stream.set_keepalive(Some(probes)).unwrap();
        fill(&connection).await;
        assert!(matches!(connection.wait_for_room().await, Ok(None)));
        assert!(connection.stream.keepalive().unwrap());
    }

    #[annulet::test]
    async fn who_has_room_again_is_found_though_its_word_of_it_was_lost() {
        let (mut client, connection, accepted) = connect(|client| client.set_recv_buffer_size(1).unwrap());
        assert!(connection.few_small_segments().is_some());

        let room = fill(&connection).await;
        let socket = SockRef::from(&accepted);
        socket.attach_filter(&[NOTHING]).unwrap();
        client.read_exact(&mut vec![0; room]).unwrap();
        socket.detach_filter().unwrap();
        assert_eq!(connection.stream.send_progress().unwrap().room, 0, "it was not lost");

        assert!(connection.wait_for_room().await.is_ok_and(|room| room > Some(0)));
        assert!(!connection.stream.keepalive().unwrap(), "it is asked no longer");
    }
}
