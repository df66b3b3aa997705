//! The search as a process: what it tries, what it says, how it ends. That it finds the knee is shown with models
//! (`bench/src/find/search.rs`): how fast a server on a busy machine is, nobody knows.

use serde_json::Value;

use crate::support::{HELLO, answering, run};

#[test]
fn a_bound_that_nobody_keeps() {
    let address = answering(HELLO);
    let ran = run(&format!("find --slo p50<1us -t1 -c2 -d100ms --from 400 --json - http://{address}/"));
    let found: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.err));
    assert_eq!((&found["schema"], &found["version"]), (&"annulet-bench.find".into(), &1.into()));
    assert_eq!((&found["ended"], &found["rate"]), (&"never-met".into(), &Value::Null), "{found}");
    // A busy machine may be the client's limit, too.
    assert!(ran.code == 5 || ran.code == 4 && found["bound_by"] == "client", "{}: {found}", ran.code);
    let steps = found["steps"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["outcome"] != "met" && step["why"].is_string()), "{found}");
    let rates: Vec<f64> = steps.iter().map(|step| step["rate"].as_f64().unwrap()).collect();
    // Twice each, down to what gives p50 enough samples in 100 ms.
    assert_eq!(rates, [400.0, 400.0, 100.0, 100.0, 47.0, 47.0]);
    assert_eq!(ran.err.lines().count(), rates.len(), "{}", ran.err);
}

#[test]
fn a_bound_that_is_always_kept() {
    let address = answering(HELLO);
    let ran =
        run(&format!("find --slo p50<60s,max<1m -t1 -c2 -d100ms --from 100 --to 200 http://{address}/"));
    assert!(ran.out.contains("p50<60.0s, max<60.0s over 2 connections"), "{}", ran.out);
    // What a busy machine does not answer in time is missed.
    assert!(ran.code != 0 || ran.out.contains("is kept at 200/s; no higher rate was tried"), "{}", ran.out);
}

#[test]
fn a_search_that_is_short_of_time() {
    let address = answering(HELLO);
    let ran = run(&format!("find --slo p50<60s -t1 -d1s --max-time 500ms http://{address}/"));
    assert_eq!(ran.code, 5);
    assert!(ran.out.contains("nothing is known about p50<60.0s (ended by --max-time)"), "{}", ran.out);
}

#[test]
fn nobody_there() {
    let ran = run("find --slo p50<1s -t1 -d100ms http://127.0.0.1:1/");
    assert_eq!(ran.code, 3, "{}", ran.err);
}

#[test]
fn wrong_usage() {
    let check = |line: &str, words: &str| {
        let ran = run(line);
        assert_eq!(ran.code, 2, "{line}: {}", ran.err);
        assert!(ran.err.contains(words), "{line}: {}", ran.err);
    };
    check("find http://127.0.0.1:1/", "--slo");
    check("find --slo p99>5ms http://127.0.0.1:1/", "is no bound");
    check("find --slo p99<5ms -R 10 http://127.0.0.1:1/", "--rate is for `load`");
    check("find --slo p99<5ms -d1s --to 100 http://127.0.0.1:1/", "measure longer");
    check("find --slo p99<5ms --precision 0 http://127.0.0.1:1/", "is no precision");
}
