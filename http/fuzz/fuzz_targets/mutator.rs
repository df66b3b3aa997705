//! Half of the changes know what HTTP looks like, half are libFuzzer's own.
use libfuzzer_sys::{fuzz_mutator, fuzzer_mutate};

use crate::mutate::{Random, mutate};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(u64::from(seed));
    if random.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut input = data[..size].to_vec();
    let other = input.clone();
    for _ in 0..=random.below(3) {
        mutate(&mut input, &other, &mut random);
    }
    input.truncate(max_size);
    data[..input.len()].copy_from_slice(&input);
    input.len()
});
