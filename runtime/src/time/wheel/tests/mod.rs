//! Cases one by one; [`model`] is the wheel beside an ordered map, [`costs`] what its paths cost.

mod costs;
mod model;

use super::slots::{LEVEL_BITS, RESCAN_MAX};
use super::*;
use model::{check_structure, expire_few};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const YEAR: u64 = 365 * 24 * 3600 * SECOND;

fn expire<T>(wheel: &mut Wheel<T>, now: u64) -> Vec<T> {
    let mut out = Vec::new();
    wheel.expire(now, &mut out);
    out
}

/// Goes from deadline to deadline as an idle runtime would. Gives what fired when.
fn run_idle<T>(wheel: &mut Wheel<T>) -> Vec<(u64, T)> {
    let mut fired = Vec::new();
    while let Some(now) = wheel.next_deadline() {
        fired.extend(expire(wheel, now).into_iter().map(|value| (now, value)));
    }
    assert!(wheel.is_empty());
    fired
}

#[test]
fn fires_at_the_deadline_and_not_before() {
    fn check(start: u64, deadline: u64) {
        let mut wheel = Wheel::new();
        expire(&mut wheel, start);
        wheel.insert(deadline, ());
        assert_eq!(wheel.next_deadline(), Some(deadline));
        if deadline > start {
            assert_eq!(expire(&mut wheel, deadline - 1).len(), 0, "start {start} deadline {deadline}");
            assert_eq!(wheel.next_deadline(), Some(deadline));
        }
        assert_eq!(expire(&mut wheel, deadline.max(start)).len(), 1, "start {start} deadline {deadline}");
        assert!(wheel.is_empty() && wheel.next_deadline().is_none());
    }
    for start in [0, 1, 1023, 1024, 1 << 16, (1 << 16) - 1, 3 * YEAR + 12345] {
        for distance in [0, 1, 1000, 1023, 1024, 65_535, 65_536, MS, SECOND, 60 * SECOND, YEAR, 100 * YEAR] {
            check(start, start + distance);
            check(start + distance, start);
        }
    }
    check(0, u64::MAX);
    check(u64::MAX, u64::MAX);
    check(u64::MAX, 0);
}

#[test]
fn a_far_timer_does_not_wake_an_idle_runtime_to_be_filed_anew() {
    let mut wheel = Wheel::new();
    let deadlines = [MS, SECOND, 61 * SECOND, 3600 * SECOND, YEAR, YEAR + 1, 50 * YEAR, u64::MAX];
    for deadline in deadlines {
        wheel.insert(deadline, deadline);
    }
    assert_eq!(run_idle(&mut wheel), deadlines.map(|deadline| (deadline, deadline)));
}

#[test]
fn a_late_expire_fires_in_order_across_levels() {
    let mut wheel = Wheel::new();
    // Two a tick, the later inserted first where they differ by more than a tick.
    let order: Vec<u64> = (0..200).map(|i| i * i * i * 997 / 1024 * 1024).collect();
    for &deadline in order.iter().rev() {
        wheel.insert(deadline, (deadline, 'a'));
        wheel.insert(deadline, (deadline, 'b'));
    }
    let mut expected: Vec<_> = order.iter().flat_map(|&d| [(d, 'a'), (d, 'b')]).collect();
    expected.dedup();
    expected.sort_by_key(|&(deadline, _)| deadline);
    let fired = expire(&mut wheel, SECOND * 3600);
    assert_eq!(fired.len(), expected.len());
    assert!(fired.iter().map(|f| f.0).is_sorted());
}

#[test]
fn a_timer_filed_anew_keeps_its_key() {
    let mut wheel = Wheel::new();
    let keys: Vec<_> = (0..100).map(|i| wheel.insert(60 * SECOND + i * MS, i)).collect();
    for now in (0..60).map(|s| s * SECOND) {
        assert!(expire(&mut wheel, now).is_empty());
        check_structure(&wheel);
    }
    for (i, key) in keys.into_iter().enumerate() {
        *wheel.value_mut(key).unwrap() += 1;
        assert_eq!(wheel.remove(key), Some(i as u64 + 1));
    }
    assert!(wheel.is_empty());
}

#[test]
fn the_earliest_of_a_short_slot_removed_wakes_nobody() {
    let mut wheel = Wheel::new();
    let keys: Vec<_> = (0..RESCAN_MAX as u64).map(|i| wheel.insert(600 * SECOND + i * MS, i)).collect();
    for (i, &key) in keys.iter().enumerate().take(RESCAN_MAX - 1) {
        assert_eq!(wheel.next_deadline(), Some(600 * SECOND + i as u64 * MS));
        wheel.remove(key);
    }
    let last = RESCAN_MAX as u64 - 1;
    assert_eq!(run_idle(&mut wheel), [(600 * SECOND + last * MS, last)]);
}

#[test]
fn the_earliest_of_a_long_slot_removed_wakes_once_for_nothing() {
    let mut wheel = Wheel::new();
    let keys: Vec<_> = (0..1000).map(|i| wheel.insert(600 * SECOND + i * MS, i)).collect();
    for &key in &keys[..500] {
        wheel.remove(key);
        wheel.next_deadline();
    }
    let mut wakes_for_nothing = 0;
    while let Some(now) = wheel.next_deadline() {
        wakes_for_nothing += usize::from(expire(&mut wheel, now).is_empty());
    }
    println!("{wakes_for_nothing} wake-ups for nothing");
    assert!(wakes_for_nothing <= 1);
}

#[test]
fn what_is_due_waits_for_few_others() {
    // In one slot of level 4, and of the next; twice, at the same places.
    let mut wheel = Wheel::new();
    let mut nodes = 0;
    for round in 0..2 {
        let begin = ((round * 40) << (4 * LEVEL_BITS + TICK_SHIFT)) + SECOND;
        let mut random = model::Random(7);
        assert!(expire(&mut wheel, begin).is_empty());
        let mut deadlines: Vec<_> = (0..20_000).map(|_| begin + random.below(30 * SECOND)).collect();
        for &deadline in &deadlines {
            wheel.insert(deadline, deadline);
        }
        deadlines.sort_unstable();
        let mut fired = Vec::new();
        while let Some(now) = wheel.next_deadline() {
            let due = expire_few(&mut wheel, now);
            assert!(due.iter().all(|&deadline| deadline == now));
            fired.extend(due);
        }
        assert!(fired == deadlines);
        assert!(wheel.nodes.len() > LEVELS + 64);
        assert!(round == 0 || wheel.nodes.len() == nodes, "the second time needs no more memory");
        nodes = wheel.nodes.len();
    }
}

#[test]
fn a_crowd_fires_in_order_of_insertion() {
    let mut wheel = Wheel::new();
    let crowd = 3 * SPLIT_ABOVE as u64;
    // The same deadline seen from further and further on: at other levels, before and after splits.
    let deadline = 3600 * SECOND;
    let mut keys = Vec::new();
    for (i, ahead) in [3599 * SECOND, 100 * SECOND, 10 * SECOND, SECOND, MS, 2000].into_iter().enumerate() {
        assert!(expire_few(&mut wheel, deadline - ahead).is_empty());
        for id in 0..crowd {
            keys.push(wheel.insert(deadline, i as u64 * crowd + id));
            wheel.insert(deadline + 5 * MS, u64::MAX);
        }
        check_structure(&wheel);
    }
    let removed = keys.iter().skip(1).step_by(3).map(|&key| wheel.remove(key).unwrap()).count();
    assert_eq!(wheel.next_deadline(), Some(deadline));
    let fired = expire_few(&mut wheel, deadline);
    assert!(fired.iter().copied().eq((0..keys.len() as u64).filter(|id| id % 3 != 1)));
    assert_eq!(fired.len() + removed, keys.len());
    assert_eq!(expire_few(&mut wheel, deadline + 5 * MS).len(), keys.len());
    assert!(wheel.is_empty());
}

#[test]
fn a_crowd_that_leaves_gives_its_nodes_back() {
    let mut wheel = Wheel::new();
    for far in [MS, SECOND, 3600 * SECOND, YEAR] {
        // Within 100 ticks: split down to level 1.
        let keys: Vec<_> = (0..1000).map(|i| wheel.insert(far + i * 100, i)).collect();
        check_structure(&wheel);
        assert_ne!(wheel.nodes.len(), LEVELS);
        for (i, &key) in keys.iter().enumerate().skip(1) {
            assert_eq!(wheel.next_deadline(), Some(far));
            wheel.remove(key);
            if i % 100 == 0 {
                check_structure(&wheel);
            }
        }
        wheel.remove(keys[0]);
        assert_eq!(wheel.next_deadline(), None);
        check_structure(&wheel);
        let mut spare = 0;
        let mut id = wheel.spare;
        while id != NIL {
            (spare, id) = (spare + 1, wheel.nodes[id as usize].parent);
        }
        assert_eq!(spare, wheel.nodes.len() - LEVELS);
    }
}

#[test]
fn memory_is_reused_and_old_keys_stay_invalid() {
    let mut wheel = Wheel::new();
    let first = wheel.insert(MS, 0);
    wheel.remove(first);
    for i in 1..1000 {
        let key = wheel.insert(MS * i, i);
        assert!(!wheel.contains(first) && wheel.remove(first).is_none() && wheel.value_mut(first).is_none());
        if i % 2 == 0 {
            assert_eq!(expire(&mut wheel, MS * i), [i]);
        } else {
            assert_eq!(wheel.remove(key), Some(i));
        }
        assert!(!wheel.contains(key));
    }
    assert_eq!(wheel.entries.len(), 1);
}

#[test]
fn an_entry_is_retired_before_its_generations_repeat() {
    let mut wheel = Wheel::new();
    let key = wheel.insert(MS, 'a');
    wheel.remove(key);
    wheel.entries[0].generation = u32::MAX - 1;
    let last = wheel.insert(MS, 'b');
    assert_eq!(last, TimerKey { index: 0, generation: u32::MAX - 1 });
    assert_eq!(wheel.remove(last), Some('b'));
    assert_eq!(wheel.insert(MS, 'c'), TimerKey { index: 1, generation: 0 });
    assert!(!wheel.contains(key) && !wheel.contains(last));
}

#[test]
fn time_that_goes_back_fires_nothing() {
    let mut wheel = Wheel::new();
    expire(&mut wheel, SECOND);
    wheel.insert(SECOND / 2, 'a');
    wheel.insert(2 * SECOND, 'b');
    assert!(expire(&mut wheel, SECOND / 4).is_empty());
    assert_eq!(expire(&mut wheel, SECOND), ['a']);
    assert_eq!(run_idle(&mut wheel), [(2 * SECOND, 'b')]);
}

#[test]
fn entries_are_small() {
    // A waker is two words. What a sleeping task costs the wheel:
    assert_eq!(size_of::<Entry<std::task::Waker>>(), 40);
}
