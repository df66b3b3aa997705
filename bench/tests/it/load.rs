//! What a load sends, and what it makes of the answers.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::sync::mpsc;

use crate::support::{HELLO, answering, read_request, run, server};

/// The first request that a load with these arguments sends, read up to `end`.
fn check_first(arguments: &str, path: &str, end: &str, expected: &str) {
    let (sender, receiver) = mpsc::channel();
    let until = end.as_bytes().to_vec();
    let address = server(move |mut stream| {
        let mut bytes = read_request(&mut stream).unwrap_or_default();
        while !bytes.ends_with(&until) {
            let mut byte = [0];
            if std::io::Read::read(&mut stream, &mut byte).unwrap_or(0) == 0 {
                break;
            }
            bytes.push(byte[0]);
        }
        let _ = sender.send(bytes);
        let _ = stream.write_all(HELLO);
    });
    let ran = run(&format!("load -c1 -t1 -n1 {arguments} http://{address}{path}"));
    let first = String::from_utf8(receiver.recv().expect("a request was sent")).unwrap();
    assert_eq!(first, expected.replace("HOST", &address.to_string()), "{arguments}: {}", ran.err);
}

#[test]
fn requests_on_the_wire() {
    check_first("", "/a?b", "", "GET /a?b HTTP/1.1\r\nHost: HOST\r\n\r\n");
    check_first("--http1.0 -HA:b", "", "", "GET / HTTP/1.0\r\nHost: HOST\r\nA: b\r\n\r\n");
    check_first(
        "--body n={counter}",
        "/",
        "n=0",
        "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\r\nn=0",
    );
    check_first("--method DELETE", "/{counter}", "", "DELETE /0 HTTP/1.1\r\nHost: HOST\r\n\r\n");
}

#[test]
fn every_request_of_a_limited_run_is_sent_once_and_answered() {
    for (arguments, requests) in [
        ("-c3 -t2 -n100", 100),
        ("-c3 -t1 -n101 --pipeline 7", 101),
        ("-c2 -t1 -n50 -R 5000", 50),
        ("-c2 -t1 -n50 -R 5000 --arrivals poisson", 50),
        ("-c2 -t1 -n40 --close-after 3", 40),
        ("-c4 -t1 -n40 --source 127.0.0.1-127.0.0.3", 40),
    ] {
        let ran = run(&format!("load {arguments} --json - http://{}/", answering(HELLO)));
        let report = ran.json();
        assert_eq!(
            (ran.code, &report["requests"], &report["errors"]),
            (0, &requests.into(), &0.into()),
            "{arguments}"
        );
        assert_eq!(report["response_time"]["count"], requests, "{arguments}");
        assert_eq!(report["status"]["200"], requests, "{arguments}");
    }
}

#[test]
fn bodies_of_every_framing() {
    let chunked: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let interim: &[u8] = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    for answer in [chunked, interim] {
        let ran = run(&format!("load -c1 -t1 -n20 --json - http://{}/", answering(answer)));
        assert_eq!(
            (ran.code, &ran.json()["requests"]),
            (0, &20.into()),
            "{}",
            String::from_utf8_lossy(answer)
        );
    }
    let until_close = server(|mut stream| {
        let _ = read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello");
    });
    let ran = run(&format!("load -c2 -t1 -n20 --json - http://{until_close}/"));
    let report = ran.json();
    assert_eq!((ran.code, &report["requests"], &report["errors"]), (0, &20.into(), &0.into()));
    let head = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let ran = run(&format!("load -c1 -t1 -n20 --method HEAD --json - http://{head}/"));
    assert_eq!((ran.code, &ran.json()["requests"]), (0, &20.into()));
}

#[test]
fn an_open_loop_counts_from_the_planned_instant() {
    // Half of the answers take 20 ms, and one connection has to wait for each.
    let address = server(|mut stream| {
        while read_request(&mut stream).is_some() {
            std::thread::sleep(std::time::Duration::from_millis(20));
            if stream.write_all(HELLO).is_err() {
                return;
            }
        }
    });
    let ran = run(&format!("load -c1 -t1 -R 100 -d2s --json - http://{address}/"));
    let report = ran.json();
    let p50 = |name: &str| {
        let all = report[name]["percentiles"].as_array().unwrap().clone();
        all.iter().find(|of| of["percentile"] == 50.0).unwrap()["value_us"].as_f64().unwrap()
    };
    assert_eq!(ran.code, 5, "{}", report["verdict"]);
    // One in two planned requests can be sent: the backlog grows to half of the time. How much of that a busy machine lets happen is
    // another matter, and so these bounds are far from it.
    let (response, service, lag) = (p50("response_time"), p50("service_time"), p50("send_lag"));
    assert!(service >= 20_000.0, "{service}");
    assert!(response > 2.0 * service && lag > service, "{response} {service} {lag}");
}

#[test]
fn reports_as_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (json, hgrm, hlog) = (path("a.json"), path("a.hgrm"), path("a.hlog"));
    let address = answering(HELLO);
    let ran = run(&format!(
        "load -c2 -t1 -d1100ms --json {json} --hgrm {hgrm} --hlog {hlog} --live http://{address}/"
    ));
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!((&report["schema"], &report["version"]), (&"annulet-bench.load".into(), &1.into()));
    let requests = report["requests"].as_u64().unwrap();
    let intervals = report["intervals"].as_array().unwrap();
    let sum: u64 = intervals.iter().map(|of| of["requests"].as_u64().unwrap()).sum();
    assert_eq!(sum, requests, "the intervals are the whole");
    assert!(fs::read_to_string(&hgrm).unwrap().contains(&format!("Total count    = {requests:>12}]")));
    assert!(ran.err.contains(" errors  p50 "), "{}", ran.err);
    check_with_the_reference_reader(&hlog, requests);
}

/// HdrHistogram's own Python implementation, where it is installed (`pip install hdrhistogram`).
fn check_with_the_reference_reader(hlog: &str, requests: u64) {
    const READER: &str = "
import sys
from hdrh.log import HistogramLogReader
from hdrh.histogram import HdrHistogram
reader = HistogramLogReader(sys.argv[1], HdrHistogram(1, 3600000000000, 3))
total = 0
while True:
    one = reader.get_next_interval_histogram()
    if one is None: break
    total += one.get_total_count()
print(total)
";
    let output = Command::new("python3").args(["-c", READER, hlog]).output();
    match output {
        Ok(output) if output.status.success() => {
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), requests.to_string());
        }
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("No module named 'hdrh'") => {
            panic!("the reference reader: {}", String::from_utf8_lossy(&output.stderr));
        }
        _ => eprintln!("skipped: python3 has no hdrhistogram; its own reader did not look at the log"),
    }
}
