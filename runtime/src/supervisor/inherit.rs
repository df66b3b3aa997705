//! What a process finds in its environment: that it is a worker or a successor, and by which numbers it inherits
//! descriptors; or the sockets of systemd's socket activation.
//!
//! ```text
//!   ANNULET_WORKER     1 PARENT LINK SLOT CORE BOARD:ROW DESCRIPTOR,DESCRIPTOR…
//!   ANNULET_SUCCESSOR  1 PARENT LINK ADDRESS=DESCRIPTOR,DESCRIPTOR… ADDRESS~DESCRIPTOR …
//!   LISTEN_FDS         see sd_listen_fds(3)
//! ```
//!
//! The first word is the version of the format: a successor may be of another version of this crate, and one that
//! understands nothing must fail and not guess. `=` is a group of sockets, one a slot, `~` are sockets that slots share. A `-`
//! stands for no core, which is who is beside the workers, for no board, and for no row.
//!
//! The variables are inherited further, by children of a worker that are not meant. Those find another parent's number
//! there, and descriptors that are none of these.

#![allow(unsafe_code)]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::metrics::Board;

pub(super) const WORKER: &str = "ANNULET_WORKER";
pub(super) const SUCCESSOR: &str = "ANNULET_SUCCESSOR";
const VERSION: &str = "1";

/// Descriptors are taken out of the environment once in the life of a process.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What this process is.
#[derive(Debug)]
pub(super) enum Role {
    /// It was started by a person, or a service manager.
    First { activated: Vec<TcpListener> },
    /// It takes over from a supervisor that still runs.
    Successor { link: UnixStream, sockets: Vec<Inherited> },
    /// It runs one loop for a supervisor.
    Worker(Worker),
}

/// What a worker is given.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) link: UnixStream,
    pub(super) slot: usize,
    /// None: it is beside the workers.
    pub(super) core: Option<usize>,
    /// Of all workers.
    pub(super) board: Option<Board>,
    /// Its own row there.
    pub(super) row: Option<usize>,
    pub(super) listeners: Vec<TcpListener>,
}

/// The sockets of one address.
#[derive(Debug)]
pub(super) struct Inherited {
    /// As the predecessor was asked for it; with port 0 it is bound elsewhere.
    pub(super) asked: SocketAddr,
    /// Not one a slot: slots share them.
    pub(super) is_shared: bool,
    pub(super) sockets: Vec<TcpListener>,
}

/// What a worker's variable says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WorkerWords {
    pub(super) parent: u32,
    pub(super) link: RawFd,
    pub(super) slot: usize,
    pub(super) core: Option<usize>,
    pub(super) board: Option<RawFd>,
    pub(super) row: Option<usize>,
    pub(super) listeners: Vec<RawFd>,
}

/// What a successor's variable says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SuccessorWords {
    pub(super) parent: u32,
    pub(super) link: RawFd,
    pub(super) sockets: Vec<(SocketAddr, bool, Vec<RawFd>)>,
}

impl Role {
    /// Looks into the environment. Descriptors are given out once; later calls find a process of its own.
    ///
    /// # Errors
    ///
    /// When the environment speaks to this process and cannot be understood.
    pub(super) fn find() -> io::Result<Role> {
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Role::First { activated: Vec::new() });
        }
        let parent = std::os::unix::process::parent_id();
        if let Ok(words) = std::env::var(WORKER) {
            let words = WorkerWords::decode(&words).ok_or_else(|| not_understood(WORKER, &words))?;
            if let Some(link) = take_link(words.link, words.parent == parent) {
                let listeners = take_listeners(&words.listeners)?;
                let board = words.board.map(|fd| Board::from_fd(take(fd)?)).transpose()?;
                let WorkerWords { slot, core, row, .. } = words;
                return Ok(Role::Worker(Worker { link, slot, core, board, row, listeners }));
            }
        }
        if let Ok(words) = std::env::var(SUCCESSOR) {
            let words = SuccessorWords::decode(&words).ok_or_else(|| not_understood(SUCCESSOR, &words))?;
            if let Some(link) = take_link(words.link, words.parent == parent) {
                let sockets = words.sockets.into_iter().map(|(asked, is_shared, sockets)| {
                    Ok(Inherited { asked, is_shared, sockets: take_listeners(&sockets)? })
                });
                return Ok(Role::Successor { link, sockets: sockets.collect::<io::Result<_>>()? });
            }
        }
        let activated: Vec<RawFd> = sd_notify::listen_fds()?.collect();
        Ok(Role::First { activated: take_listeners(&activated)? })
    }
}

impl WorkerWords {
    pub(super) fn encode(&self) -> String {
        let WorkerWords { parent, link, slot, core, board, row, listeners } = self;
        let (core, board, row) = (or_dash(*core), or_dash(*board), or_dash(*row));
        format!("{VERSION} {parent} {link} {slot} {core} {board}:{row} {}", list(listeners))
    }

    fn decode(text: &str) -> Option<WorkerWords> {
        let words: Vec<&str> = text.split(' ').collect();
        let [VERSION, parent, link, slot, core, board_and_row, listeners] = words[..] else { return None };
        let (board, row) = board_and_row.split_once(':')?;
        Some(WorkerWords {
            parent: parent.parse().ok()?,
            link: descriptor(link)?,
            slot: slot.parse().ok()?,
            core: unless_dash(core, |text| text.parse().ok())?,
            board: unless_dash(board, descriptor)?,
            row: unless_dash(row, |text| text.parse().ok())?,
            listeners: unlist(listeners)?,
        })
    }
}

impl SuccessorWords {
    pub(super) fn encode(&self) -> String {
        let SuccessorWords { parent, link, sockets } = self;
        let mut text = format!("{VERSION} {parent} {link}");
        for (asked, is_shared, sockets) in sockets {
            text += &format!(" {asked}{}{}", if *is_shared { '~' } else { '=' }, list(sockets));
        }
        text
    }

    fn decode(text: &str) -> Option<SuccessorWords> {
        let mut words = text.split(' ');
        let (VERSION, parent, link) = (words.next()?, words.next()?, words.next()?) else { return None };
        let sockets = words.map(|word| {
            let at = word.find(['=', '~'])?;
            Some((word[..at].parse().ok()?, word[at..].starts_with('~'), unlist(&word[at + 1..])?))
        });
        Some(SuccessorWords {
            parent: parent.parse().ok()?,
            link: descriptor(link)?,
            sockets: sockets.collect::<Option<_>>()?,
        })
    }
}

fn list(descriptors: &[RawFd]) -> String {
    descriptors.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn unlist(text: &str) -> Option<Vec<RawFd>> {
    if text.is_empty() { Some(Vec::new()) } else { text.split(',').map(descriptor).collect() }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// What stands there, or that nothing does; `None` if it is wrong.
fn unless_dash<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text == "-" { Some(None) } else { parse(text).map(Some) }
}

/// Neither negative nor one of the standard streams.
fn descriptor(text: &str) -> Option<RawFd> {
    text.parse().ok().filter(|fd| *fd > 2)
}

fn not_understood(variable: &str, words: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "{variable}={words:?} is not understood; it is set by a supervisor for its workers and successors only"
        ),
    )
}

/// The link, if it is one. `None` if the variable was meant for another process. Whoever is meant and comes too late (its
/// parent has died meanwhile) has the link all the same, and finds it closed.
fn take_link(fd: RawFd, is_of_parent: bool) -> Option<UnixStream> {
    let link = socket(fd).filter(|socket| {
        sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
            && sockopt::socket_type(socket) == Ok(SocketType::STREAM)
            // As `process` has marked it.
            && sockopt::socket_passcred(socket) == Ok(true)
    })?;
    (is_of_parent || is_closed(link)).then_some(())?;
    Some(UnixStream::from(take(fd).ok()?))
}

/// Whether the other end is closed. The kernel closes what a process has before its children get another parent.
fn is_closed(link: BorrowedFd<'_>) -> bool {
    let mut entry = [PollFd::new(&link, PollFlags::empty())];
    // It does not wait; an error says nothing.
    matches!(poll(&mut entry, Some(&Timespec::default())), Ok(1))
        && entry[0].revents().contains(PollFlags::HUP)
}

fn take_listeners(descriptors: &[RawFd]) -> io::Result<Vec<TcpListener>> {
    let listeners = descriptors.iter().map(|&fd| {
        let listens = socket(fd).is_some_and(|socket| {
            sockopt::socket_acceptconn(socket) == Ok(true)
                && sockopt::socket_type(socket) == Ok(SocketType::STREAM)
                && sockopt::socket_domain(socket) != Ok(AddressFamily::UNIX)
        });
        if !listens {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("descriptor {fd}, which was handed to this process, is no listening TCP socket"),
            ));
        }
        take(fd).map(TcpListener::from)
    });
    listeners.collect()
}

/// A look at a descriptor that may not be open.
fn socket<'a>(fd: RawFd) -> Option<BorrowedFd<'a>> {
    // SAFETY: it is not -1 (`descriptor` and systemd count from 3), and is only asked for options of a socket within this
    // module: a number that is not open answers EBADF.
    (fd > 2).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Takes an inherited descriptor over, so that children of this process do not inherit it further.
fn take(fd: RawFd) -> io::Result<OwnedFd> {
    if let Some(socket) = socket(fd) {
        fcntl_setfd(socket, FdFlags::CLOEXEC)?;
    }
    // SAFETY: whoever executed this process has left this number open for it and told it so in the environment, which is
    // read once (`TAKEN`). Nothing of this process can have opened it: it was open before `main`.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_workers() {
        let (core, board, row, listeners) = (Some(7), Some(8), Some(0), vec![6, 9]);
        let words = WorkerWords { parent: 1, link: 5, slot: 2, core, board, row, listeners };
        assert_eq!(words.encode(), "1 1 5 2 7 8:0 6,9");
        let beside = WorkerWords { core: None, row: None, ..words.clone() };
        assert_eq!(beside.encode(), "1 1 5 2 - 8:- 6,9");
        assert_eq!(WorkerWords::decode(&beside.encode()), Some(beside));
        for listeners in [vec![], vec![3], vec![6, 9]] {
            let words = WorkerWords { listeners, ..words.clone() };
            assert_eq!(WorkerWords::decode(&words.encode()), Some(words));
        }
        let wrong = ["", "1", "2 1 5 2 7 8:0 6,9", "1 1 5 2 7 8:0", "1 1 5 2 7 8:0 6,", "1 1 -5 2 7 8:0 6"];
        for wrong in wrong.into_iter().chain(["1 1 2 2 7 8:0 6", "1 1 5 2 7 8 6", "1 1 5 2 7 1:0 6"]) {
            assert_eq!(WorkerWords::decode(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_link_is_known_by_its_parent_or_by_its_end() {
        let check = |is_marked: bool, is_of_parent: bool, is_closed: bool, expected: bool| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            sockopt::set_socket_passcred(&theirs, is_marked).unwrap();
            // As if it were inherited: nobody but `take_link` owns it from here on.
            let fd = std::os::fd::IntoRawFd::into_raw_fd(theirs);
            // What was sent before the end does not hide it.
            rustix::io::write(&ours, b"r").unwrap();
            let ours = Some(ours).filter(|_| !is_closed);
            let link = take_link(fd, is_of_parent);
            assert_eq!(link.is_some(), expected, "{is_marked} {is_of_parent} {is_closed}");
            drop(ours);
            if link.is_none() {
                drop(take(fd).unwrap());
            }
        };
        check(true, true, false, true);
        check(true, false, true, true);
        check(true, false, false, false);
        check(false, true, false, false);
        check(false, false, true, false);
    }

    #[test]
    fn words_of_successors() {
        let v4 = "127.0.0.1:80".parse().unwrap();
        let v6 = "[::1]:0".parse().unwrap();
        let sockets = vec![(v4, false, vec![4, 5]), (v6, true, vec![8])];
        let words = SuccessorWords { parent: 20, link: 3, sockets };
        assert_eq!(words.encode(), "1 20 3 127.0.0.1:80=4,5 [::1]:0~8");
        assert_eq!(SuccessorWords::decode(&words.encode()), Some(words.clone()));
        let none = SuccessorWords { sockets: Vec::new(), ..words };
        assert_eq!(SuccessorWords::decode(&none.encode()), Some(none));
        for wrong in ["1 20", "1 20 3 x=4", "1 20 3 127.0.0.1:80", "9 20 3", "1 20 3 127.0.0.1:80=x"] {
            assert_eq!(SuccessorWords::decode(wrong), None, "{wrong:?}");
        }
    }
}
