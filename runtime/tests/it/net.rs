//! TCP streams and listeners.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet::time::timeout;

use crate::support::{pair, until};

#[test]
fn bytes_arrive_in_both_tiers() {
    annulet::run(async {
        let (client, server) = pair().await;
        client.write_all(b"one").await.unwrap();
        let lease = server.recv().await.unwrap().unwrap();
        assert_eq!(&lease[..], b"one");
        drop(lease);

        let (sent, vector) = server.send(b"two".to_vec()).await;
        sent.unwrap();
        assert_eq!(vector, b"two", "the vector comes back");
        let mut word = [0; 3];
        client.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"two");
    });
}

#[test]
fn a_small_read_leaves_the_rest_for_the_next() {
    annulet::run(async {
        let (client, server) = pair().await;
        client.write_all(b"abcdef").await.unwrap();
        let mut two = [0; 2];
        for expected in [b"ab", b"cd", b"ef"] {
            assert_eq!(server.read(&mut two).await.unwrap(), 2);
            assert_eq!(&two, expected);
        }
    });
}

#[test]
fn the_end_of_the_stream_is_seen_after_the_last_byte() {
    annulet::run(async {
        let (client, server) = pair().await;
        client.write_all(b"last").await.unwrap();
        drop(client);
        let mut all = Vec::new();
        while let Some(lease) = server.recv().await.unwrap() {
            all.extend_from_slice(&lease);
        }
        assert_eq!(all, b"last");
        assert!(server.recv().await.unwrap().is_none(), "and it stays at its end");
    });
}

/// What a peer does not take is told, as long as it is in memory.
#[test]
fn what_slow_readers_cost_is_counted() {
    const PIECE: usize = 1 << 20;
    assert_eq!(annulet::net::unsent_bytes(), 0, "outside of a loop");
    annulet::run(async {
        let (client, server) = pair().await;
        server.write_all(b"taken at once").await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(annulet::net::unsent_bytes(), 0);
        let mut sent = 0;
        // Until the kernel takes no more, however much that is.
        while annulet::net::unsent_bytes() == 0 {
            server.with_send_buffer(|buffer| buffer.resize(buffer.len() + PIECE, b'x'));
            sent += PIECE;
            annulet::time::sleep(Duration::from_millis(2)).await;
        }
        server.with_send_buffer(|buffer| buffer.resize(buffer.len() + PIECE, b'x'));
        sent += PIECE;
        assert!(annulet::net::unsent_bytes() > PIECE, "what is gathered behind it too");
        let mut taken = 0;
        while taken < sent + b"taken at once".len() {
            taken += client.recv().await.unwrap().unwrap().len();
        }
        server.flush().await.unwrap();
        assert_eq!(annulet::net::unsent_bytes(), 0, "all of it has left");

        // And what will never leave is given up with its stream.
        while annulet::net::unsent_bytes() == 0 {
            server.with_send_buffer(|buffer| buffer.resize(buffer.len() + PIECE, b'x'));
            annulet::time::sleep(Duration::from_millis(2)).await;
        }
        server.set_zero_linger().unwrap();
        drop(server);
        until("nothing waits", || annulet::net::unsent_bytes() == 0).await;
    });
}

/// Sends `total` patterned bytes one way while the reader dawdles, and checks each.
async fn transfer(total: usize, dawdle: bool) {
    let (client, server) = pair().await;
    let pattern = |position: usize| (position * 31 + position / 251) as u8;
    let writer = annulet::spawn(async move {
        let mut position = 0;
        while position < total {
            let chunk: Vec<u8> = (position..total.min(position + 50_000)).map(pattern).collect();
            client.write_all(&chunk).await.unwrap();
            position += chunk.len();
        }
        client.flush().await.unwrap();
    });
    let mut position = 0;
    while let Some(lease) = server.recv().await.unwrap() {
        for byte in &lease[..] {
            assert_eq!(*byte, pattern(position));
            position += 1;
        }
        drop(lease);
        if dawdle && position % 7 == 0 {
            annulet::time::sleep(Duration::from_micros(300)).await;
        }
    }
    assert_eq!(position, total);
    writer.await.unwrap();
}

#[test]
fn large_transfers_arrive_whole_and_in_order() {
    annulet::run(transfer(8 << 20, false));
}

#[test]
fn a_slow_reader_pauses_its_receive_and_loses_nothing() {
    annulet::run(transfer(4 << 20, true));
}

#[test]
fn an_empty_pool_makes_streams_wait_their_turn() {
    let builder = annulet::Builder::new().receive_buffers_max(4);
    builder
        .run_local(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let mut clients = Vec::new();
            let mut servers = Vec::new();
            for index in 0..40_u8 {
                let client = TcpStream::connect(address).await.unwrap();
                let server = listener.accept().await.unwrap();
                server.start_recv();
                client.write_all(&[index; 100]).await.unwrap();
                client.flush().await.unwrap();
                clients.push(client);
                servers.push(server);
            }
            for (index, server) in servers.iter().enumerate() {
                let mut bytes = [0; 100];
                let read = server.read_exact(&mut bytes);
                timeout(Duration::from_secs(5), read).await.expect("each has its turn").unwrap();
                assert_eq!(bytes, [index as u8; 100]);
            }
        })
        .unwrap();
}

#[test]
fn a_dropped_stream_still_delivers_what_was_written() {
    annulet::run(async {
        let (client, server) = pair().await;
        let writer = annulet::spawn(async move {
            // More than a socket takes at once.
            client.with_send_buffer(|buffer| buffer.resize(6 << 20, 7));
        });
        writer.await.unwrap();
        let mut count = 0;
        while let Some(lease) = server.recv().await.unwrap() {
            assert!(lease.iter().all(|byte| *byte == 7));
            count += lease.len();
        }
        assert_eq!(count, 6 << 20);
    });
}

#[test]
fn a_half_closed_peer_still_gets_its_answer() {
    annulet::run(async {
        let (client, server) = pair().await;
        client.write_all(b"question").await.unwrap();
        client.flush().await.unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut question = Vec::new();
        while let Some(lease) = server.recv().await.unwrap() {
            question.extend_from_slice(&lease);
        }
        assert_eq!(question, b"question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    });
}

#[test]
fn close_flushes_sends_a_fin_and_lingers() {
    annulet::run(async {
        let (client, server) = pair().await;
        // Unread bytes at the server would turn its close into a reset without the lingering read.
        client.write_all(&[1; 10_000]).await.unwrap();
        client.flush().await.unwrap();
        server.write_all(b"bye").await.unwrap();
        let closing = annulet::spawn(server.close(Duration::from_secs(5)));
        let mut bye = [0; 3];
        client.read_exact(&mut bye).await.unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "a FIN, not a reset");
        drop(client);
        closing.await.unwrap().unwrap();
    });
}

#[test]
fn a_receive_deadline_fails_the_wait_and_nothing_else() {
    annulet::run(async {
        let (client, server) = pair().await;
        server.set_recv_deadline(Some(annulet::time::now() + Duration::from_millis(20)));
        let error = server.recv().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        server.set_recv_deadline(None);
        client.write_all(b"late").await.unwrap();
        assert_eq!(&server.recv().await.unwrap().unwrap()[..], b"late");
    });
}

#[test]
fn a_refused_connect_names_the_address() {
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        until("the port is closed", || std::net::TcpStream::connect(address).is_err()).await;
        let error = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    });
}

#[test]
fn ipv6_works_like_ipv4() {
    annulet::run(async {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = annulet::spawn(async move { TcpStream::connect(address).await.unwrap() });
        let server = listener.accept().await.unwrap();
        assert!(server.local_addr().unwrap().is_ipv6());
        assert!(server.nodelay().unwrap(), "inherited from the listener");
        drop(client);
    });
}

#[test]
fn many_connections_at_once() {
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        annulet::spawn(async move {
            loop {
                let stream = listener.accept().await.unwrap();
                annulet::spawn(async move {
                    while let Ok(Some(bytes)) = stream.recv().await {
                        stream.write_all(&bytes).await.unwrap();
                    }
                });
            }
        });
        let clients: Vec<_> = (0..500_u32)
            .map(|number| {
                annulet::spawn(async move {
                    let stream = TcpStream::connect(address).await.unwrap();
                    for round in 0..10_u32 {
                        let word = (number << 8 | round).to_be_bytes();
                        stream.write_all(&word).await.unwrap();
                        let mut echo = [0; 4];
                        stream.read_exact(&mut echo).await.unwrap();
                        assert_eq!(echo, word);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
    });
}

#[test]
fn halves_work_side_by_side() {
    annulet::run(async {
        let (client, server) = pair().await;
        let (mut reading, mut writing) = client.into_split();
        let reader = annulet::spawn(async move {
            let mut word = [0; 4];
            reading.read_exact(&mut word).await.unwrap();
            word
        });
        writing.write_all(b"ping").await.unwrap();
        let mut word = [0; 4];
        server.read_exact(&mut word).await.unwrap();
        server.write_all(&word).await.unwrap();
        assert_eq!(&reader.await.unwrap(), b"ping");
    });
}

/// Listeners of the same socket, both waiting in accept; the tasks say who was given a connection.
async fn two_listeners() -> (std::net::SocketAddr, TcpListener, TcpListener) {
    let socket = annulet::net::bind_one("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let successor = TcpListener::from_std(socket.try_clone().unwrap()).unwrap();
    let listener = TcpListener::from_std(socket).unwrap();
    for waiting in [&listener, &successor] {
        // The first turn submits the accept, which goes on waiting when its future is dropped.
        assert!(timeout(Duration::from_millis(1), waiting.accept()).await.is_err());
    }
    (address, listener, successor)
}

#[test]
fn a_listener_that_ends_loses_no_connection() {
    annulet::run(async {
        // With the blocking connect the client is in the queue, and one listener has been woken for it, before the
        // first of them gives up in the same turn of the loop.
        for before in 0..4 {
            let (address, listener, successor) = two_listeners().await;
            let mut clients: Vec<_> =
                (0..before).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            let mut served = Vec::new();
            while let Some(stream) = listener.rest().await {
                served.push(stream);
            }
            assert!(listener.rest().await.is_none(), "it stays at its end");
            for _ in 0..2 {
                clients.push(std::net::TcpStream::connect(address).unwrap());
            }
            while served.len() < clients.len() {
                let accepted = timeout(Duration::from_secs(10), successor.accept()).await;
                served.push(accepted.unwrap_or_else(|_| panic!("of {before} one is lost")).unwrap());
            }
            drop(listener);
            clients.push(std::net::TcpStream::connect(address).unwrap());
            timeout(Duration::from_secs(10), successor.accept()).await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_listener_that_ends_looks_for_whom_nobody_was_woken() {
    annulet::run(async {
        for _ in 0..20 {
            let (address, listener, successor) = two_listeners().await;
            // Alone: no later connection wakes anybody.
            let _client = std::net::TcpStream::connect(address).unwrap();
            let old = async {
                match listener.rest().await {
                    Some(_) => {}
                    None => std::future::pending().await,
                }
            };
            let new = async { drop(successor.accept().await.unwrap()) };
            let served = timeout(
                Duration::from_secs(10),
                annulet::race([Box::pin(old) as std::pin::Pin<Box<dyn Future<Output = ()>>>, Box::pin(new)]),
            );
            assert!(served.await.is_ok(), "it waits in the queue, and nobody knows");
        }
    });
}

#[test]
fn a_listener_that_has_ended_accepts_again_when_asked() {
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..3 {
            assert!(listener.rest().await.is_none());
            let _client = std::net::TcpStream::connect(address).unwrap();
            timeout(Duration::from_secs(10), listener.accept()).await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_reset_is_heard_behind_the_end_of_the_peers_side() {
    annulet::run(async {
        let (client, server) = pair().await;
        client.shutdown(Shutdown::Write).unwrap();
        assert!(server.recv().await.unwrap().is_none());
        let mut reset = server.reset_by_peer();
        let turns = annulet::metrics().turns;
        assert!(timeout(Duration::from_millis(20), &mut reset).await.is_err(), "that is no reset");
        let turns = annulet::metrics().turns - turns;
        assert!(turns < 10, "it is told again and again: {turns} turns");
        // It has been told, and does not end the watch; nor does what is sent.
        server.write_all(b"still").await.unwrap();
        let mut word = [0; 5];
        client.read_exact(&mut word).await.unwrap();
        assert!(timeout(Duration::from_millis(20), &mut reset).await.is_err(), "that is no reset");
        client.set_zero_linger().unwrap();
        drop(client);
        timeout(Duration::from_secs(10), &mut reset).await.unwrap();
    });
}

#[test]
fn a_watch_that_is_dropped_leaves_nothing() {
    annulet::run(async {
        let (client, server) = pair().await;
        client.shutdown(Shutdown::Write).unwrap();
        for _ in 0..100 {
            let mut reset = server.reset_by_peer();
            assert!(timeout(Duration::from_micros(10), &mut reset).await.is_err());
        }
        client.set_zero_linger().unwrap();
        drop(client);
        timeout(Duration::from_secs(10), server.reset_by_peer()).await.unwrap();
    });
}

/// On epoll whoever waits for a descriptor is told of all that waits for it.
#[test]
fn a_watch_beside_bytes_that_nobody_reads_costs_nothing() {
    annulet::run(async {
        let (client, server) = pair().await;
        let lease = {
            client.write_all(b"begins").await.unwrap();
            server.recv().await.unwrap().unwrap()
        };
        // More than the server's queue takes, so that it is left with the kernel.
        let writing = annulet::spawn(async move { client.write_all(&vec![0; 1 << 22]).await });
        let mut reset = server.reset_by_peer();
        assert!(timeout(Duration::from_millis(50), &mut reset).await.is_err(), "that is no reset");
        let before = annulet::metrics().enters;
        assert!(timeout(Duration::from_millis(50), &mut reset).await.is_err(), "that is no reset");
        let enters = annulet::metrics().enters - before;
        assert!(enters < 20, "{enters} enters");
        drop((lease, reset, writing));
    });
}
