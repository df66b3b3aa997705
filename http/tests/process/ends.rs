//! How the server starts wrongly, and how it ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::served::{Served, answer, ask, command, first_core};

/// Runs it with wrong arguments; gives what it says on stderr.
pub(crate) fn refused(arguments: &[&str]) -> String {
    let output = command(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?} was taken");
    assert!(output.stdout.is_empty(), "{:?}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_two_pages_are_served() {
    let served = Served::start(&[]);
    let mut stream = TcpStream::connect(served.address).unwrap();
    for (path, status, body) in [
        ("/", "HTTP/1.1 200 OK", "<h1>Index</h1>"),
        ("/hello/you", "HTTP/1.1 200 OK", "<h1>hello, you!</h1>"),
        ("/hello/%3Cb%3E%20%26", "HTTP/1.1 200 OK", "<h1>hello, &lt;b&gt; &amp;!</h1>"),
        ("/hello/%00", "HTTP/1.1 200 OK", "<h1>hello, \u{fffd}!</h1>"),
    ] {
        ask(&mut stream, path);
        assert_eq!(answer(&mut stream), (status.to_owned(), body.to_owned()), "{path}");
    }
    ask(&mut stream, "/nowhere");
    assert_eq!(answer(&mut stream).0, "HTTP/1.1 404 Not Found");
    for word in ["listening on http://127.0.0.1:", "cores ", "ring "] {
        assert!(served.greeting.contains(word), "{:?}", served.greeting);
    }
}

#[test]
fn a_taken_port_is_refused_also_by_another_annulet_serve() {
    let served = Served::start(&[]);
    let address = served.address.to_string();
    let said = refused(&["--listen", &address]);
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

#[test]
fn a_directory_is_served_or_refused_by_name() {
    let folder = std::env::temp_dir().join(format!("annulet-serve-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("index.html"), "of the directory").unwrap();
    let served = Served::start(&["--dir", folder.to_str().unwrap()]);
    let mut stream = TcpStream::connect(served.address).unwrap();
    for (path, body) in
        [("/", "of the directory"), ("/hello/bob", "<h1>hello, bob!</h1>"), ("/none", "Not Found")]
    {
        ask(&mut stream, path);
        assert_eq!(answer(&mut stream).1, body, "{path}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let said = refused(&["--listen", "127.0.0.1:0", "--dir", folder.to_str().unwrap()]);
    assert!(said.contains(folder.to_str().unwrap()) && said.contains("No such file"), "{said}");
}

#[test]
fn a_core_that_does_not_exist_is_refused_by_name() {
    let said = refused(&["--listen", "127.0.0.1:0", "--cores", "1000"]);
    assert!(said.contains("1000"), "{said}");
}

#[test]
fn wrong_arguments_are_refused_by_name() {
    for (arguments, word) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["--listen", "nonsense"], "nonsense"),
        (&["--delay", "5 parsecs"], "parsecs"),
        (&["--drain", "soon"], "soon"),
        (&["--cores", "2-1"], "2-1"),
    ] {
        let said = refused(arguments);
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
}

#[test]
fn a_lack_of_descriptors_is_named_with_its_cure() {
    // At some limit there is enough to start and to listen, and not enough for a ring. How much that is depends on what
    // this process was started with.
    let program = env!("CARGO_BIN_EXE_annulet-serve");
    let mut all = String::new();
    for limit in 4..24 {
        let script = format!(
            "ulimit -n {limit}; exec timeout 1 '{program}' --listen 127.0.0.1:0 --cores {}",
            first_core()
        );
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if said.contains("nofile") {
            assert!(!output.status.success() && said.trim_end().lines().count() == 1, "{said}");
            return;
        }
        all.push_str(&said);
    }
    panic!("never said: {all}");
}

#[test]
fn a_signal_finishes_what_is_in_flight_and_exits_with_zero() {
    for signal in ["TERM", "INT"] {
        let mut served = Served::start(&["--delay", "300ms"]);
        let mut idle = TcpStream::connect(served.address).unwrap();
        let mut busy = TcpStream::connect(served.address).unwrap();
        ask(&mut busy, "/hello/last");
        // Long enough for the request to be with its handler, short enough for it to be still there.
        std::thread::sleep(Duration::from_millis(100));
        served.signal(signal);
        let (status, body) = answer(&mut busy);
        assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "<h1>hello, last!</h1>"));
        assert_eq!(busy.read(&mut [0; 1]).unwrap(), 0, "then the connection ends");
        assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "an idle one at once");
        assert!(served.wait(Duration::from_secs(5)).success());
        assert!(!served.said().contains("cut"));
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    for signal in ["TERM", "INT"] {
        let mut served = Served::start(&["--delay", "5m", "--drain", "5m"]);
        let mut busy = TcpStream::connect(served.address).unwrap();
        // In one piece: with the first answer here, the second request is at work.
        let [first, second] = ["/none", "/"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        busy.write_all((first + &second).as_bytes()).unwrap();
        assert_eq!(answer(&mut busy).0, "HTTP/1.1 404 Not Found");
        served.signal("TERM");
        // Each may come before the loop listens for it: it is still on its way from the first then.
        let is_ended = (0..100).any(|_| {
            served.signal(signal);
            std::thread::sleep(Duration::from_millis(100));
            served.is_ended()
        });
        assert!(is_ended && served.wait(Duration::from_secs(10)).success());
        let said = served.said();
        assert!(said.contains("finishing what is in flight; once more: ending at once\n"), "{said}");
        assert!(said.contains("annulet-serve: ending at once\n"), "{said}");
        assert!(!said.contains("cut after"), "{said}");
    }
}

#[test]
fn what_takes_longer_than_the_drain_is_cut_and_counted() {
    let mut served = Served::start(&["--delay", "1m", "--drain", "200ms"]);
    let mut streams = [(); 2].map(|()| TcpStream::connect(served.address).unwrap());
    streams.iter_mut().for_each(|stream| ask(stream, "/"));
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    served.signal("TERM");
    assert!(served.wait(Duration::from_secs(10)).success());
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    assert!(served.said().contains("2 connections cut after 200ms\n"));
    for mut stream in streams {
        // FIN or RST, but no answer.
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
}
