//! Waiting until a shared value is as it should be. Python's `asyncio.Condition`.

use std::rc::Rc;

use annulet::spawn;
use annulet::sync::{Condvar, Mutex};

#[annulet::main]
async fn main() {
    let shared = Rc::new((Mutex::new(0), Condvar::new()));
    let waiter = {
        let shared = Rc::clone(&shared);
        spawn(async move {
            let (coins, changed) = &*shared;
            println!("waiting for three coins");
            let mut coins = changed.wait_while(coins.lock().await, |coins| *coins < 3).await;
            *coins -= 3;
            println!("took three, {coins} left");
        })
    };
    for _ in 0..4 {
        annulet::yield_now().await;
        let mut coins = shared.0.lock().await;
        *coins += 1;
        println!("a coin: {coins}");
        shared.1.notify_one();
    }
    waiter.await.unwrap();
}
