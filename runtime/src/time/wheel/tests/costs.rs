//! What the wheel costs.

use std::hint::black_box;
use std::time::Instant;

use super::*;

/// Goal: the cost of the paths a server takes for every timeout, with as many other timers around as it has
/// connections. Not a goal: the cost of a cache miss on an entry nobody touched for long.
///
/// `cargo test -p annulet --release --lib wheel::tests::costs -- --nocapture`
#[test]
fn costs() {
    let rounds: u64 = if cfg!(debug_assertions) { 10_000 } else { 20_000_000 };
    for others in [0, 64, 10_000] {
        let mut wheel = Wheel::new();
        let mut out = Vec::new();
        for i in 0..others {
            wheel.insert(YEAR + i * MS, i);
        }

        let start = Instant::now();
        for i in 0..rounds {
            // The clock goes on 1 µs an operation; timeouts of 5 s.
            let key = wheel.insert(i * 1000 + 5 * SECOND, i);
            black_box(wheel.remove(black_box(key)));
        }
        let insert_remove = start.elapsed().as_nanos() as f64 / rounds as f64;

        let start = Instant::now();
        for i in 0..rounds {
            wheel.insert(i * 1000 + 100_000, i);
            black_box(wheel.next_deadline());
            wheel.expire(i * 1000, &mut out);
            out.clear();
        }
        let insert_fire = start.elapsed().as_nanos() as f64 / rounds as f64;

        // Each connection's timeout in turn is put off, as a server does with every request.
        let mut now = rounds * 1000;
        expire(&mut wheel, now);
        let mut keys: Vec<_> = (0..others).map(|i| wheel.insert(now + 5 * SECOND, i)).collect();
        let start = Instant::now();
        for i in 0..if others > 0 { rounds as usize } else { 0 } {
            now += 1000;
            let key = &mut keys[i % others as usize];
            black_box(wheel.remove(*key));
            *key = wheel.insert(now + 5 * SECOND, i as u64);
            black_box(wheel.next_deadline());
            wheel.expire(now, &mut out);
        }
        let put_off = start.elapsed().as_nanos() as f64 / rounds as f64;
        println!(
            "{others:>6} other timers: insert + remove {insert_remove:.1} ns, insert + next_deadline + expire \
             {insert_fire:.1} ns, put off (remove + insert + next_deadline + expire) {put_off:.1} ns"
        );
    }
}

/// Goal: the longest that one call takes with a server's idle connections around, each with a deadline a minute ahead:
/// what a turn of the loop waits for. Not a goal: what is done with those that fire.
///
/// `cargo test -p annulet --release --lib wheel::tests::costs::longest -- --nocapture`
#[test]
fn longest() {
    let (sizes, cache) =
        if cfg!(debug_assertions) { ([100, 1000], 1 << 10) } else { ([10_000, 100_000], 64 << 20) };
    let us = |ns: u128| ns as f64 / 1000.0;
    for others in sizes {
        for turn in [None, Some(100_000)] {
            let mut wheel = Wheel::new();
            let mut out = Vec::with_capacity(others as usize);
            let mut random = model::Random(others);
            let deadline = |random: &mut model::Random| 60 * SECOND + random.below(10 * SECOND);
            let mut keys: Vec<_> = (0..others).map(|i| wheel.insert(deadline(&mut random), i)).collect();
            // Each was put off once, in an order that has nothing to do with where it lies in memory.
            let mut longest_insert = 0;
            for i in 0..others {
                let at = random.below(others) as usize;
                let was = wheel.remove(keys[at]);
                let start = Instant::now();
                keys[at] = wheel.insert(deadline(&mut random), was.unwrap_or(i));
                longest_insert = longest_insert.max(start.elapsed().as_nanos());
            }
            // And a minute of other work later the caches have none of it.
            black_box(vec![1_u8; cache].iter().map(|&byte| u64::from(byte)).sum::<u64>());

            let mut now = 59 * SECOND;
            let mut calls = Vec::with_capacity(1 << 20);
            while !wheel.is_empty() {
                now = match turn {
                    // A loop that only waits for these, or that turns all the time.
                    None => wheel.next_deadline().unwrap(),
                    Some(turn) => now + turn,
                };
                let start = Instant::now();
                wheel.expire(now, &mut out);
                black_box(wheel.next_deadline());
                calls.push((start.elapsed().as_nanos(), out.len()));
                out.clear();
            }
            calls.sort_unstable();
            let (longest, fired) = calls[calls.len() - 1];
            println!(
                "{others:>6} timers, {}: longest call {:.1} µs ({fired} fired), the next {:.1} and {:.1} µs, all {:.0} µs; \
                 longest insert {:.1} µs",
                if turn.is_some() { "a turn every 100 µs" } else { "from deadline to deadline" },
                us(longest),
                us(calls[calls.len() - 2].0),
                us(calls[calls.len() - 3].0),
                us(calls.iter().map(|call| call.0).sum()),
                us(longest_insert),
            );
        }
    }
}
