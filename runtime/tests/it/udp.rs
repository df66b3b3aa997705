//! UDP sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use annulet::net::UdpSocket;
use annulet::time::timeout;

use crate::support::until;

const LATE: Duration = Duration::from_secs(5);

fn pair() -> (UdpSocket, UdpSocket) {
    (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap())
}

/// With every way to receive that there is: multishot, and by readiness.
fn everywhere(test: impl AsyncFn()) {
    for mask in ["", "message_multishot", "buffer_ring"] {
        println!("mask {mask:?}");
        let limited = async { timeout(LATE, test()).await.expect("in time") };
        annulet::Builder::new().ring_mask(mask).run_local(limited).unwrap();
    }
}

#[test]
fn datagrams_keep_their_bounds_and_name_their_sender() {
    everywhere(async || {
        let (one, other) = pair();
        let to = other.local_addr().unwrap();
        for len in [1, 0, 1500, 4096, 9000, 65_507] {
            assert_eq!(one.send_to(&vec![len as u8; len], to).await.unwrap(), len);
        }
        let mut buffer = vec![0; 65_536];
        for len in [1, 0, 1500, 4096, 9000, 65_507] {
            let (count, sender) = other.recv_from(&mut buffer).await.unwrap();
            assert_eq!((count, sender), (len, one.local_addr().unwrap()));
            assert!(buffer[..count].iter().all(|byte| *byte == len as u8));
        }
        assert_eq!(annulet::metrics().buffers_held, 0);
    });
}

#[test]
fn ipv6_names_its_sender_too() {
    everywhere(async || {
        let one = UdpSocket::bind("[::1]:0").unwrap();
        let other = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        one.send_to(b"six", other.local_addr().unwrap()).await.unwrap();
        let datagram = other.recv_datagram().await.unwrap();
        assert_eq!((&datagram[..], datagram.sender()), (&b"six"[..], one.local_addr().unwrap()));
        assert!(!datagram.is_truncated());
    });
}

#[test]
fn a_connected_socket_hears_its_peer_only() {
    everywhere(async || {
        let (one, other) = pair();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        one.connect(other.local_addr().unwrap()).await.unwrap();
        assert_eq!(one.peer_addr().unwrap(), other.local_addr().unwrap());
        stranger.send_to(b"stranger", one.local_addr().unwrap()).await.unwrap();
        one.send(b"hello").await.unwrap();
        let mut buffer = [0; 16];
        let (count, sender) = other.recv_from(&mut buffer).await.unwrap();
        other.send_to(&buffer[..count], sender).await.unwrap();
        assert_eq!(one.recv(&mut buffer).await.unwrap(), 5);
        assert_eq!(&buffer[..5], b"hello");
        assert!(one.try_recv_datagram().is_none());
    });
}

#[test]
fn a_short_buffer_cuts_and_a_peek_leaves() {
    everywhere(async || {
        let (one, other) = pair();
        let to = other.local_addr().unwrap();
        for word in [b"first", b"other"] {
            one.send_to(word, to).await.unwrap();
        }
        let mut two = [0; 2];
        for _ in 0..2 {
            assert_eq!(other.peek_from(&mut two).await.unwrap().0, 2);
            assert_eq!(&two, b"fi");
        }
        assert_eq!(other.recv_from(&mut two).await.unwrap().0, 2);
        assert_eq!(&other.recv_datagram().await.unwrap()[..], b"other");
        assert_eq!(annulet::metrics().buffers_held, 0);
    });
}

#[test]
fn a_refused_datagram_is_told_once_and_receiving_goes_on() {
    everywhere(async || {
        let (one, other) = pair();
        let gone = other.local_addr().unwrap();
        one.connect(gone).await.unwrap();
        drop(other);
        // The close leaves with the end of the turn.
        while UdpSocket::bind(gone).map(drop).is_err() {
            annulet::yield_now().await;
        }
        crate::support::a_turn().await;
        one.send(b"anybody?").await.unwrap();
        let error = one.recv_datagram().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let back = UdpSocket::bind(gone).unwrap();
        back.send_to(b"here", one.local_addr().unwrap()).await.unwrap();
        assert_eq!(&one.recv_datagram().await.unwrap()[..], b"here");
    });
}

#[test]
fn an_error_that_comes_behind_datagrams_is_told_behind_them() {
    everywhere(async || {
        let (one, other) = pair();
        one.connect(other.local_addr().unwrap()).await.unwrap();
        assert!(one.try_recv_datagram().is_none());
        crate::support::a_turn().await;
        for word in [b"one", b"two"] {
            other.send_to(word, one.local_addr().unwrap()).await.unwrap();
        }
        until("they are here", || annulet::metrics().buffers_held == 2).await;
        let gone = other.local_addr().unwrap();
        drop(other);
        while UdpSocket::bind(gone).map(drop).is_err() {
            crate::support::a_turn().await;
        }
        for _ in 0..2 {
            crate::support::a_turn().await;
        }
        one.send(b"anybody?").await.unwrap();
        for _ in 0..2 {
            crate::support::a_turn().await;
        }
        let (mut words, mut errors) = (Vec::new(), Vec::new());
        while words.len() + errors.len() < 3 {
            match one.recv_datagram().await {
                Ok(datagram) => words.push(datagram.to_vec()),
                Err(error) => errors.push(error.kind()),
            }
        }
        assert_eq!(
            (words, errors),
            (vec![b"one".to_vec(), b"two".to_vec()], vec![io::ErrorKind::ConnectionRefused])
        );
    });
}

#[test]
fn sending_without_end_lets_others_run() {
    everywhere(async || {
        let (one, other) = pair();
        let to = other.local_addr().unwrap();
        let others = annulet::spawn(async {});
        let mut sent = 0;
        while !others.is_finished() {
            one.send_to(b"again", to).await.unwrap();
            sent += 1;
            assert!(sent < 1000, "the other task has had no turn");
        }
    });
}

#[test]
fn nothing_is_lost_while_nobody_receives() {
    everywhere(async || {
        let (one, other) = pair();
        let to = other.local_addr().unwrap();
        one.send_to(&[0], to).await.unwrap();
        let mut expected = 0;
        // Past the quota of the socket, so that its receive is stopped and started again.
        for round in 1..=200_u8 {
            one.send_to(&[round], to).await.unwrap();
            if round % 50 == 0 {
                while expected <= round {
                    assert_eq!(other.recv_datagram().await.unwrap()[..], [expected]);
                    expected += 1;
                }
            } else if round % 7 == 0 {
                annulet::yield_now().await;
            }
        }
        assert_eq!(expected, 201);
    });
}

#[test]
fn held_datagrams_do_not_stop_other_sockets() {
    everywhere(async || {
        let (one, hoarder) = pair();
        let (_, other) = pair();
        let mut held = Vec::new();
        for _ in 0..256 {
            one.send_to(b"kept", hoarder.local_addr().unwrap()).await.unwrap();
            held.push(hoarder.recv_datagram().await.unwrap());
        }
        one.send_to(b"passes", other.local_addr().unwrap()).await.unwrap();
        assert_eq!(&other.recv_datagram().await.unwrap()[..], b"passes");
        drop(held);
        assert_eq!(annulet::metrics().buffers_held, 0);
    });
}

#[test]
fn segments_arrive_as_datagrams() {
    for mask in ["", "udp_segment"] {
        let test = async {
            let (one, other) = pair();
            // The rest is shorter; more than 64 segments take two calls.
            let bytes: Vec<u8> = (0..100 * 70 + 30).map(|place| (place / 100) as u8).collect();
            let to = other.local_addr().unwrap();
            assert_eq!(one.send_segments(&bytes, 100, Some(to)).await.unwrap(), 71);
            one.connect(to).await.unwrap();
            for place in 0..71 {
                let datagram = other.recv_datagram().await.unwrap();
                assert_eq!(datagram.len(), if place == 70 { 30 } else { 100 });
                assert!(datagram.iter().all(|byte| *byte == place));
            }
            assert_eq!(one.send_segments(&bytes[..250], 100, None).await.unwrap(), 3);
            for len in [100, 100, 50] {
                assert_eq!(other.recv_datagram().await.unwrap().len(), len);
            }
            let error = one.send_segments(&bytes, 0, None).await.unwrap_err();
            assert!(error.to_string().contains("size of a datagram"), "{error}");
        };
        let limited = async { timeout(LATE, test).await.expect("in time") };
        annulet::Builder::new().ring_mask(mask).run_local(limited).unwrap();
    }
}

#[test]
fn wrong_use_is_explained() {
    annulet::run(async {
        let (one, other) = pair();
        let to = other.local_addr().unwrap();
        let check = |error: io::Error, expected: &str| {
            assert!(error.to_string().contains(expected), "{error}");
        };
        let long = one.send_to(&[0; 65_508], to).await.unwrap_err();
        check(long, "a datagram of 65508 bytes is too long: UDP carries 65507");
        check(UdpSocket::bind(to).unwrap_err(), &format!("cannot bind to {to}: Address already in use"));
        check(one.connect("localhost").await.unwrap_err(), "write host:port");
        check(UdpSocket::bind("nowhere").unwrap_err(), "write host:port");
        assert_eq!(one.try_send(b"x").unwrap_err().raw_os_error(), Some(89), "EDESTADDRREQ: not connected");
    });
}

#[test]
fn options_are_set() {
    annulet::run(async {
        let (one, _) = pair();
        one.set_broadcast(true).unwrap();
        one.set_ttl(3).unwrap();
        one.set_multicast_ttl_v4(2).unwrap();
        one.set_multicast_loop_v4(true).unwrap();
        one.set_send_buffer_size(30_000).unwrap();
        one.set_recv_buffer_size(30_000).unwrap();
        assert_eq!(one.recv_buffer_size().unwrap(), 60_000);
        let six = UdpSocket::bind("[::1]:0").unwrap();
        six.set_multicast_loop_v6(true).unwrap();
    });
}

#[test]
fn a_group_is_heard_while_one_is_its_member() {
    let group = Ipv4Addr::new(239, 255, 71, 3);
    let test = async {
        let member = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = member.local_addr().unwrap().port();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.set_multicast_if_v4(Ipv4Addr::LOCALHOST).unwrap();
        member.join_multicast_v4(group, Ipv4Addr::LOCALHOST).unwrap();
        sender.send_to(b"all", (group, port).into()).await.unwrap();
        assert_eq!(&member.recv_datagram().await.unwrap()[..], b"all");
        member.leave_multicast_v4(group, Ipv4Addr::LOCALHOST).unwrap();
        assert!(member.leave_multicast_v4(group, Ipv4Addr::LOCALHOST).is_err(), "left already");
    };
    annulet::run(async { timeout(LATE, test).await.expect("in time") });
}

#[test]
fn names_are_looked_up_beside_the_loop() {
    let test = async {
        let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = annulet::net::TcpStream::connect(("localhost", port)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().port(), port);
        let (one, other) = pair();
        one.connect(format!("localhost:{}", other.local_addr().unwrap().port())).await.unwrap();
        one.send(b"named").await.unwrap();
        assert_eq!(&other.recv_datagram().await.unwrap()[..], b"named");
    };
    annulet::run(async { timeout(LATE, test).await.expect("in time") });
}
