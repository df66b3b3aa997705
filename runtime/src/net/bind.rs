//! Binding listening sockets, alone and as a group of one per core.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};

/// The backlog that is asked for; the kernel takes the smaller of it and `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

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
    assert!(count > 0, "a group needs at least one socket");
    let explain =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    let first = bound(address, false).map_err(explain)?;
    // With port 0 the kernel chose one for the first; the others join it there.
    let address = first.local_addr().map_err(explain)?.as_socket().expect("bound to an internet address");
    let mut group = vec![first];
    if count > 1 {
        group[0].set_reuse_port(true).map_err(explain)?;
        for _ in 1..count {
            group.push(bound(address, true).map_err(explain)?);
        }
    }
    for socket in &group {
        socket.listen(BACKLOG).map_err(explain)?;
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
    let Some(first) = group.first() else { return Ok(()) };
    // Sockets stand in the kernel's group in the order in which they began to listen.
    crate::sys::attach_reuseport_filter(first.as_fd(), &steering(cores))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot steer by the receiving core: {error}")))
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

fn bound(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        // An IPv6 address is just that; list 0.0.0.0 as well to serve both.
        socket.set_only_v6(true)?;
    }
    // Inherited by every accepted connection, so that it costs no call per connection. Answers leave as one send a turn:
    // Nagle's algorithm could only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
