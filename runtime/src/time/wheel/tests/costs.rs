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
