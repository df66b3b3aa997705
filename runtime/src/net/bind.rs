//! Binding listening sockets, alone and as a group of one per core.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Keepalive;

/// The backlog that is asked for; the kernel takes the smaller of it and `net.core.somaxconn`.
const BACKLOG: u32 = 65_535;

/// The options of listening sockets; connections that they accept inherit those of connections, so that they cost no call each.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use annulet::net::{Keepalive, ListenOptions};
///
/// let probes = Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), probes: 3 };
/// let options = ListenOptions { keepalive: Some(probes), ..ListenOptions::default() };
/// let listeners = options.bind_group("127.0.0.1:0".parse().unwrap(), 2).unwrap();
/// assert_eq!(listeners.len(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted, for each socket; the kernel takes the smaller of this and
    /// `net.core.somaxconn`. The default is 65 535.
    pub backlog: u32,
    /// TCP_NODELAY. On by default: answers leave as one send a turn, which Nagle's algorithm could only delay.
    pub nodelay: bool,
    /// SO_KEEPALIVE. `None`, the default, sends no probes: a protocol's own time limits end idle connections sooner.
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT: how long sent bytes may go without an acknowledgement; whole milliseconds. `None`, the default, leaves it
    /// to the kernel (about a quarter of an hour, tcp_retries2 of tcp(7)).
    pub user_timeout: Option<Duration>,
    /// IPV6_V6ONLY. On by default: an IPv6 address is just that, and 0.0.0.0 is listened on beside it. Off, `[::]` serves
    /// IPv4 too.
    pub only_v6: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions { backlog: BACKLOG, nodelay: true, keepalive: None, user_timeout: None, only_v6: true }
    }
}

/// Binds and listens on `address`.
///
/// # Errors
///
/// What bind(2) and listen(2) say, with the address in the message.
pub fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    Ok(bind_group(address, 1)?.pop().expect("one was asked for"))
}

/// Binds `count` sockets to the same address with SO_REUSEPORT, so that each core accepts from a queue of its own.
///
/// The first socket is bound without SO_REUSEPORT, which is set afterwards. So a second server that is started on the
/// same address by mistake is refused with "address in use", as it would be without the option, while a restart over
/// connections in TIME_WAIT works (SO_REUSEADDR).
///
/// # Errors
///
/// What socket(7) and bind(2) say, with the address in the message.
///
/// # Panics
///
/// When `count` is zero.
///
/// # Examples
///
/// ```
/// let group = annulet::net::bind_group("127.0.0.1:0".parse().unwrap(), 2).unwrap();
/// let address = group[0].local_addr().unwrap();
/// assert_eq!(address, group[1].local_addr().unwrap());
/// assert!(annulet::net::bind_group(address, 2).is_err(), "a second server is refused");
/// ```
pub fn bind_group(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    ListenOptions::default().bind_group(address, count)
}

impl ListenOptions {
    /// As [`bind_group`](bind_group()), with these options.
    ///
    /// # Errors
    ///
    /// As there, and what setsockopt(2) says.
    ///
    /// # Panics
    ///
    /// When `count` is zero.
    pub fn bind_group(&self, address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
        bind_group_with(self, address, count)
    }

    /// For a socket that somebody else has made: what connections inherit, not its backlog and its address.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says.
    pub(crate) fn apply_to(&self, listener: &TcpListener) -> io::Result<()> {
        set_for_connections(self, &SockRef::from(listener))
    }

    fn backlog(&self) -> i32 {
        i32::try_from(self.backlog).unwrap_or(i32::MAX)
    }
}

fn bind_group_with(
    options: &ListenOptions,
    address: SocketAddr,
    count: usize,
) -> io::Result<Vec<TcpListener>> {
    assert!(count > 0, "a group needs at least one socket");
    let explain = |error: io::Error| {
        let text = format!("cannot listen on {address}: {error}{}", cure(error.kind()));
        io::Error::new(error.kind(), text)
    };
    let first = bound(options, address, false).map_err(explain)?;
    // With port 0 the kernel chose one for the first; the others join it there.
    let address = first.local_addr().map_err(explain)?.as_socket().expect("bound to an internet address");
    let mut group = vec![first];
    if count > 1 {
        group[0].set_reuse_port(true).map_err(explain)?;
        for _ in 1..count {
            group.push(bound(options, address, true).map_err(explain)?);
        }
    }
    for socket in &group {
        socket.listen(options.backlog()).map_err(explain)?;
    }
    Ok(group.into_iter().map(TcpListener::from).collect())
}

/// Lets the kernel give a connection to the socket of the group whose core received its first packet: the socket at the place
/// that the core has among `cores`. Packets of other cores go by the rest of the division.
///
/// # Errors
///
/// What SO_ATTACH_REUSEPORT_CBPF of socket(7) says, of Linux 4.5 and later.
pub(crate) fn steer(group: &[TcpListener], cores: &[usize]) -> io::Result<()> {
    // One alone is no group of the kernel's, and there is nothing to choose.
    let [first, _, ..] = group else { return Ok(()) };
    for (socket, &core) in group.iter().zip(cores) {
        // For the time after `unsteer`. Kernels before 6.2 make nothing of it here.
        let _ = SockRef::from(socket).set_cpu_affinity(core);
    }
    // Sockets stand in the kernel's group in the order in which they began to listen.
    crate::sys::attach_reuseport_filter(first.as_fd(), &steering(cores))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot steer by the receiving core: {error}")))
}

/// To be called before a socket of a steered group is closed: the last one then takes its place in the kernel's group, and the
/// program would name wrong ones. From now on the kernel itself looks for the socket of the receiving core (SO_INCOMING_CPU of
/// socket(7), among the sockets of a group since Linux 6.2), or, before that, spreads connections by their hash.
pub(crate) fn unsteer(listener: BorrowedFd<'_>) {
    // Fails where it was done for another one of the group, and where the program cannot be taken off (Linux 5.2 and earlier):
    // connections come to some core of the group in any case.
    let _ = crate::sys::detach_reuseport_filter(listener);
}

/// Classic BPF: the place of the receiving CPU.
fn steering(cores: &[usize]) -> Vec<libc::sock_filter> {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let ancillary = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, ancillary)];
    for (place, &core) in cores.iter().enumerate() {
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, core as u32));
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, place as u32));
    }
    program.push(step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, cores.len() as u32));
    program.push(step(libc::BPF_RET | libc::BPF_A, 0, 0, 0));
    program
}

/// What to do about an address that cannot be had.
fn cure(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => {
            "; somebody listens there already (`ss -ltnp` names who): end that, or take another port"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has it (`ip addr` lists them)",
        io::ErrorKind::PermissionDenied => {
            "; low ports are for root and CAP_NET_BIND_SERVICE: take one above 1023"
        }
        _ => "",
    }
}

/// Adds sockets to a group until there are `count`, if there are fewer.
///
/// # Errors
///
/// As [`bind_group`]. A group belongs to the user that bound its first socket: others can add none.
pub(crate) fn extend_group(
    options: &ListenOptions,
    group: &mut Vec<TcpListener>,
    count: usize,
) -> io::Result<()> {
    let Some(first) = group.first() else { return Ok(()) };
    let address = first.local_addr()?;
    let explain =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address} again: {error}"));
    if group.len() < count {
        SockRef::from(first).set_reuse_port(true).map_err(explain)?;
    }
    while group.len() < count {
        let socket = bound(options, address, true)
            .and_then(|socket| socket.listen(options.backlog()).map(|()| socket));
        group.push(TcpListener::from(socket.map_err(explain)?));
    }
    Ok(())
}

fn bound(options: &ListenOptions, address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(options.only_v6)?;
    }
    set_for_connections(options, &socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Those that accepted connections inherit. What is not asked for is left as it is.
fn set_for_connections(options: &ListenOptions, socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(options.nodelay)?;
    if options.keepalive.is_some() {
        Keepalive::set(options.keepalive, socket)?;
    }
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// What an accepted connection has, as text.
    fn inherited(options: &ListenOptions) -> String {
        let listener = options.bind_group("127.0.0.1:0".parse().unwrap(), 1).unwrap().pop().unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = Socket::from(listener.accept().unwrap().0);
        let probes = socket.keepalive().unwrap().then(|| {
            (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval(), socket.tcp_keepalive_retries())
        });
        let probes = probes.map(|(idle, interval, probes)| {
            (idle.unwrap().as_secs(), interval.unwrap().as_secs(), probes.unwrap())
        });
        let timeout = socket.tcp_user_timeout().unwrap().unwrap_or_default();
        format!("nodelay {}, probes {probes:?}, timeout {timeout:?}", socket.tcp_nodelay().unwrap())
    }

    #[test]
    fn connections_inherit_the_options() {
        let check = |options: &ListenOptions, expected| assert_eq!(inherited(options), expected);
        check(&ListenOptions::default(), "nodelay true, probes None, timeout 0ns");
        let (idle, interval) = (Duration::from_secs(60), Duration::from_secs(10));
        let options = ListenOptions {
            nodelay: false,
            keepalive: Some(Keepalive { idle, interval, probes: 3 }),
            user_timeout: Some(Duration::from_millis(2500)),
            ..ListenOptions::default()
        };
        check(&options, "nodelay false, probes Some((60, 10, 3)), timeout 2.5s");
    }

    #[test]
    fn an_address_that_cannot_be_had() {
        let check = |address: &str, kind, cure: &str| {
            let error = ListenOptions::default().bind_group(address.parse().unwrap(), 1).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(cure), "{error}");
        };
        let held = ListenOptions::default().bind_group("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = held[0].local_addr().unwrap().to_string();
        check(&address, io::ErrorKind::AddrInUse, "take another port");
        let nonlocal = std::fs::read_to_string("/proc/sys/net/ipv4/ip_nonlocal_bind");
        if nonlocal.is_ok_and(|value| value.trim() == "1") {
            println!(
                "skipped: net.ipv4.ip_nonlocal_bind lets programs listen on what is no address of theirs"
            );
            return;
        }
        // Documentation's own (RFC 5737): no interface has it.
        check("192.0.2.1:0", io::ErrorKind::AddrNotAvailable, "no interface of this machine has it");
    }

    #[test]
    fn a_socket_for_both_kinds_of_addresses() {
        let both = ListenOptions { only_v6: false, ..ListenOptions::default() };
        let Ok(listeners) = both.bind_group("[::]:0".parse().unwrap(), 1) else {
            println!("skipped: no IPv6 here");
            return;
        };
        let port = listeners[0].local_addr().unwrap().port();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
        let only = ListenOptions::default().bind_group("[::]:0".parse().unwrap(), 1).unwrap();
        assert!(SockRef::from(&only[0]).only_v6().unwrap());
    }
}
