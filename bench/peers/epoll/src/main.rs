//! A tuned epoll loop per core, HTTP by `peer_common::http1`: what readiness can do with nothing in between.
//!
//! Level-triggered, one read per readiness into a buffer that all connections share, one write for all answers that it led to;
//! EPOLLOUT only while a write is short.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use peer_common::http1::{After, Connection};

const READ_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 512;

struct Client {
    stream: TcpStream,
    http: Connection,
    /// What a short write has left.
    unsent: Vec<u8>,
    closing: bool,
}

/// What becomes of a connection after it was served.
#[derive(PartialEq)]
enum Next {
    Read,
    Write,
    Close,
}

fn main() {
    let options = peer_common::options();
    peer_common::on_each_core(&options, run);
}

fn run(listener: TcpListener) {
    // SAFETY: no memory is passed.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    assert!(epoll >= 0, "epoll_create1");
    control(epoll, libc::EPOLL_CTL_ADD, listener.as_raw_fd(), libc::EPOLLIN);
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
    // By descriptor: the kernel hands out the smallest that is free.
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut input = vec![0; READ_BYTES];
    let mut output = Vec::with_capacity(READ_BYTES);
    loop {
        // SAFETY: the kernel writes at most EVENTS_MAX entries.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS_MAX as i32, -1) };
        for event in &events[..count.max(0) as usize] {
            let fd = event.u64 as RawFd;
            if fd == listener.as_raw_fd() {
                accept(epoll, &listener, &mut clients);
                continue;
            }
            let Some(client) = clients.get_mut(fd as usize).and_then(Option::as_mut) else { continue };
            let waited_for_room = !client.unsent.is_empty();
            match serve(client, &mut input, &mut output) {
                Next::Close => {
                    // Closing takes it out of the set.
                    clients[fd as usize] = None;
                }
                Next::Write if !waited_for_room => control(epoll, libc::EPOLL_CTL_MOD, fd, libc::EPOLLOUT),
                Next::Read if waited_for_room => control(epoll, libc::EPOLL_CTL_MOD, fd, libc::EPOLLIN),
                _ => {}
            }
        }
    }
}

fn control(epoll: RawFd, operation: i32, fd: RawFd, interest: i32) {
    let mut event = libc::epoll_event { events: interest as u32, u64: fd as u64 };
    // SAFETY: the event is read during the call.
    assert_eq!(unsafe { libc::epoll_ctl(epoll, operation, fd, &mut event) }, 0, "epoll_ctl");
}

fn accept(epoll: RawFd, listener: &TcpListener, clients: &mut Vec<Option<Client>>) {
    loop {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no address is asked for.
        let fd =
            unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
        if fd < 0 {
            return;
        }
        // SAFETY: the descriptor is new and nobody else's.
        let stream = unsafe { TcpStream::from_raw_fd(fd) };
        let client = Client { stream, http: Connection::default(), unsent: Vec::new(), closing: false };
        if clients.len() <= fd as usize {
            clients.resize_with(fd as usize + 1, || None);
        }
        clients[fd as usize] = Some(client);
        control(epoll, libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN);
    }
}

fn serve(client: &mut Client, input: &mut [u8], output: &mut Vec<u8>) -> Next {
    if !client.unsent.is_empty() {
        let unsent = std::mem::take(&mut client.unsent);
        return send(client, &unsent);
    }
    match client.stream.read(input) {
        Ok(0) => return Next::Close,
        Ok(count) => {
            output.clear();
            client.closing = client.http.received(&input[..count], output) == After::Close;
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Read,
        Err(_) => return Next::Close,
    }
    send(client, output)
}

fn send(client: &mut Client, mut bytes: &[u8]) -> Next {
    while !bytes.is_empty() {
        match client.stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                client.unsent = bytes.to_vec();
                return Next::Write;
            }
            Err(_) => return Next::Close,
        }
    }
    if client.closing { Next::Close } else { Next::Read }
}
