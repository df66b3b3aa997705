//! A producer and a consumer that take turns without a thread, a lock or a loop. Python's `n = yield r` and `c.send(n)`.

use annulet::coroutine::{Generator, State};

/// Takes numbers in and gives answers out.
type Consumer = Generator<'static, Option<u32>, &'static str, ()>;

fn consumer() -> Consumer {
    Generator::new(async |co, _start| {
        let mut answer = "init";
        while let Some(number) = co.yield_(answer).await {
            println!("[CONSUMER] Consuming {number}...");
            answer = "200 OK";
        }
    })
}

fn produce(mut consumer: Consumer) {
    // Python's `c.send(None)`: run up to the first `yield`.
    assert_eq!(consumer.resume(None), State::Yielded("init"));
    for number in 1..=5 {
        println!("[PRODUCER] Producing {number}...");
        if let State::Yielded(answer) = consumer.resume(Some(number)) {
            println!("[PRODUCER] Consumer return: {answer}");
        }
    }
    // Python's `c.close()`: what the generator holds is dropped where it stands.
    drop(consumer);
}

fn main() {
    produce(consumer());
}
