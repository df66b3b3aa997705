//! Threads, processes, signals, and coroutines without the loop.

use rustix::process::Signal;

use crate::harness::{Example, check, check_sorted};

#[test]
fn producer_consumer() {
    check(
        "producer_consumer",
        "
        [PRODUCER] Producing 1...
        [CONSUMER] Consuming 1...
        [PRODUCER] Consumer return: 200 OK
        [PRODUCER] Producing 2...
        [CONSUMER] Consuming 2...
        [PRODUCER] Consumer return: 200 OK
        [PRODUCER] Producing 3...
        [CONSUMER] Consuming 3...
        [PRODUCER] Consumer return: 200 OK
        [PRODUCER] Producing 4...
        [CONSUMER] Consuming 4...
        [PRODUCER] Consumer return: 200 OK
        [PRODUCER] Producing 5...
        [CONSUMER] Consuming 5...
        [PRODUCER] Consumer return: 200 OK
        ",
    );
}

#[test]
fn yield_from() {
    check("yield_from", "1\n3\n4\n2");
}

#[test]
fn greenlet() {
    check("greenlet", "1\n3\n2\n4");
}

#[test]
fn until_signal() {
    for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
        let mut running = Example::new("until_signal").start();
        assert_eq!(running.line(), "Event loop running forever, press Ctrl+C to interrupt.");
        let pid = running.pid().as_raw_nonzero();
        assert_eq!(running.line(), format!("pid {pid}: send SIGINT or SIGTERM to exit."));
        running.kill(Signal::USR1);
        // Main, the listener for the dump, the sleeper; in any order of the dump's lines there is this one.
        while !running.error_line().contains("the server") {}
        running.kill(signal);
        assert_eq!(running.line(), format!("got signal {name}: exit"));
        assert!(running.finish().status.success());
    }
}

#[test]
fn run_in_executor() {
    check(
        "run_in_executor",
        "
        default thread pool: 4
        custom thread pool: 9
        custom thread pool: 16
        custom thread pool: 25
        process: 36
        process: 49
        process: 64
        the loop went on meanwhile: true
        ",
    );
}

#[test]
fn blocking_download() {
    check_sorted(
        "blocking_download",
        "
        downloaded cat.png: 100000 bytes
        downloaded dog.png: 200000 bytes
        downloaded owl.png: 300000 bytes
        downloading cat.png
        downloading dog.png
        downloading owl.png
        saved cat.png, byte for byte: true
        saved dog.png, byte for byte: true
        saved owl.png, byte for byte: true
        took * ms; the slowest takes 150 ms
        ",
    );
}

#[test]
fn all_cores() {
    for mode in ["threads", "processes"] {
        Example::new("all_cores").arg(mode).run().check_sorted(
            "
            all have done their part
            all run
            worker 0: [0, 1, 2]
            worker 1: [0, 1, 2]
            ",
        );
    }
}

#[test]
fn restarted() {
    let output = Example::new("restarted").run();
    output.check(
        "
        answer: \"\", without an error: false
        answer: \"hello from loop 2\", without an error: true
        Finished, after 2 loops
        ",
    );
    assert!(output.stderr.contains("worker 0 panicked; another takes its place"), "{output}");
}
