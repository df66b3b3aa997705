//! Options of a TCP socket before it is bound or connected.

use std::io;
use std::time::Duration;

use annulet::net::{Keepalive, TcpSocket};

/// Bound to a port of its own, with everything set.
fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.set_nodelay(true).unwrap();
    let (idle, interval) = (Duration::from_secs(30), Duration::from_secs(5));
    socket.set_keepalive(Some(Keepalive { idle, interval, probes: 4 })).unwrap();
    socket.set_send_buffer_size(40_000).unwrap();
    socket.set_recv_buffer_size(50_000).unwrap();
    socket.set_user_timeout(Some(Duration::from_secs(7))).unwrap();
    socket.set_linger(None).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket
}

fn check_options(socket: &TcpSocket) {
    let socket = socket2::SockRef::from(socket);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
    assert_eq!(socket.send_buffer_size().unwrap(), 80_000);
    assert_eq!(socket.recv_buffer_size().unwrap(), 100_000);
}

#[test]
fn options_reach_the_kernel_and_last() {
    annulet::run(async {
        let listening = socket();
        check_options(&listening);
        let address = listening.local_addr().unwrap();
        let other = TcpSocket::new_v4().unwrap();
        other.set_reuseport(true).unwrap();
        other.bind(address).unwrap();
        drop(other);
        let listener = listening.listen(16).unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        let client = socket().connect(address).await.unwrap();
        let server = listener.accept().await.unwrap();
        assert!(client.nodelay().unwrap() && server.nodelay().unwrap(), "inherited by accepted ones");
        client.write_all(b"hello").await.unwrap();
        assert_eq!(&server.recv().await.unwrap().unwrap()[..], b"hello");
    });
}

#[test]
fn errors_name_the_address() {
    annulet::run(async {
        let taken = socket();
        let address = taken.local_addr().unwrap();
        let listener = taken.listen(1).unwrap();
        let error = TcpSocket::new_v4().unwrap().bind(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&format!("cannot bind to {address}")), "{error}");
        drop(listener);
        crate::support::a_turn().await;
        let error = TcpSocket::new_v4().unwrap().connect(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&format!("cannot connect to {address}")), "{error}");
    });
}

#[test]
fn an_ipv6_socket_serves_ipv4_when_asked_to() {
    annulet::run(async {
        let socket = TcpSocket::new_v6().unwrap();
        socket.set_only_v6(false).unwrap();
        socket.bind("[::]:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpSocket::new_v4().unwrap();
        let client = client.connect(([127, 0, 0, 1], port).into()).await.unwrap();
        let server = listener.accept().await.unwrap();
        assert_eq!(server.peer_addr().unwrap().port(), client.local_addr().unwrap().port());
    });
}
