//! Sockets, streams and what is read from them.

use crate::harness::{Example, check};

#[test]
fn three_hosts_answer_side_by_side() {
    let output = Example::new("wget").run();
    let hosts = ["www.example.com", "www.example.net", "www.example.org"];
    let place = |line: String| {
        let found = output.lines().iter().position(|printed| *printed == line);
        found.unwrap_or_else(|| panic!("{line:?} is missing in\n{output}"))
    };
    let mut firsts = Vec::new();
    let mut lasts = Vec::new();
    for host in hosts {
        let asked = place(format!("wget {host}..."));
        let first = place(format!("{host} header > HTTP/1.0 200 OK"));
        let second = place(format!("{host} header > Server: {host}"));
        let last = place(format!("{host} header > Content-Length: 5"));
        assert!(asked < first && first < second && second < last, "{output}");
        firsts.push(first);
        lasts.push(last);
    }
    assert_eq!(output.lines().len(), 12, "{output}");
    assert!(firsts.iter().max() < lasts.iter().min(), "the headers are interleaved\n{output}");
}

#[test]
fn one_loop_serves_tcp_udp_and_unix() {
    check("servers", "TCP: hello over TCP\nUDP: hello over UDP\nUnix: hello over a Unix socket");
}

#[test]
fn a_descriptor_is_watched_until_it_is_readable() {
    check("watch_descriptor", "Received: abc");
}

#[test]
fn the_same_program_on_two_drivers() {
    check(
        "drivers",
        "io_uring: 1000 words and back, * waits in the kernel, *\nepoll: 1000 words and back, * waits in the kernel, *",
    );
}
