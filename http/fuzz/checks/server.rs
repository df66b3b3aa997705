//! The real server over a real socket: as many answers as there were requests, each with its own content, however the bytes
//! arrived.
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use annulet::net::TcpListener;
use annulet_http::Server;

use crate::model::listen;
use crate::mutate::{Random, cut};
use crate::served::{compare, limits, router};

static SERVER: OnceLock<SocketAddr> = OnceLock::new();

fn start() -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        annulet::run(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            Server::new(router()).with_limits(limits()).serve(listener).await.unwrap();
        });
    });
    receiver.recv().unwrap()
}

pub(super) fn check_input(input: &[u8]) {
    let server = *SERVER.get_or_init(start);
    let mut random = Random::of(input);
    let pieces = cut(input, &mut random);
    let pieces = if pieces.len() > 16 { vec![input] } else { pieces };
    let answers = converse(server, &pieces);
    let heard = listen(&limits(), [input]);
    if let Err(why) = compare(&heard, &answers) {
        panic!("{why}\n{heard:?}\n{:?}", String::from_utf8_lossy(&answers));
    }
}

fn converse(server: SocketAddr, pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).unwrap();
    // Beyond it the server hangs, which is an error too.
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    match stream.read_to_end(&mut answers) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the server hangs"),
        Err(_) => {}
    }
    answers
}
