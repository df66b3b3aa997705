//! Names to addresses.

use std::net::SocketAddr;

use annulet::net::lookup_host;

#[test]
fn an_address_is_its_own_answer_without_the_pool() {
    annulet::run(async {
        let v6: SocketAddr = "[::1]:443".parse().unwrap();
        assert_eq!(lookup_host("::1", 443).await.unwrap(), [v6]);
        assert_eq!(lookup_host("[::1]", 443).await.unwrap(), [v6]);
        assert_eq!(lookup_host("10.0.0.7", 0).await.unwrap(), ["10.0.0.7:0".parse().unwrap()]);
        // Each test is a process of its own under nextest; under cargo test others may have used the pool.
        if std::env::var_os("NEXTEST").is_some() {
            assert_eq!(annulet::blocking::process_pool().threads(), 0);
        }
    });
}

#[test]
fn localhost_comes_from_etc_hosts() {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let named = |line: &&str| {
        line.split('#').next().unwrap().split_whitespace().skip(1).any(|name| name == "localhost")
    };
    if hosts.lines().find(named).is_none() {
        println!("localhost_comes_from_etc_hosts: skipped, /etc/hosts does not name it");
        return;
    }
    annulet::run(async {
        let found = lookup_host("localhost", 80).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80), "{found:?}");
    });
}

#[test]
fn names_that_cannot_be_found_are_named() {
    annulet::run(async {
        // RFC 6761 section 6.4: this name never resolves, so that the test needs no network.
        let error = lookup_host("nobody.invalid", 80).await.unwrap_err();
        let words = error.to_string();
        assert!(words.starts_with("cannot find an address of `nobody.invalid`: "), "{words}");
        assert!(words.ends_with("; check the name, /etc/hosts and /etc/resolv.conf"), "{words}");
        let error = lookup_host("a\0b", 80).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    });
}

#[test]
fn a_lookup_that_is_given_up_leaves_nothing() {
    annulet::run(async {
        // Dropped with its answer under way; at times it is there already.
        drop(crate::support::poll_once(&mut Box::pin(lookup_host("nobody.invalid", 80))).await);
        crate::support::until("the pool is idle", || annulet::blocking::process_pool().queued() == 0).await;
        assert_eq!(annulet::metrics().tasks, 0);
    });
}
