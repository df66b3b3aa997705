//! Queues between tasks: a bounded one that holds its producer back, a broadcast with a listener that is too slow, and a
//! value that everybody watches. Python's `asyncio.Queue(2)`; the other two have no counterpart there.

use annulet::spawn;
use annulet::sync::{broadcast, mpsc, watch};

#[annulet::main]
async fn main() {
    let (sender, mut receiver) = mpsc::channel(2);
    let producer = spawn(async move {
        for number in 1..=5 {
            sender.send(number).await.unwrap();
            println!("put {number}");
        }
    });
    // Two fit; the third waits until one is taken.
    annulet::yield_now().await;
    while let Some(number) = receiver.recv().await {
        println!("got {number}");
    }
    producer.await.unwrap();

    let (news, mut listener) = broadcast::channel(2);
    for headline in ["one", "two", "three"] {
        news.send(headline).unwrap();
    }
    drop(news);
    while let Some(headline) = listener.next().await {
        match headline {
            Ok(headline) => println!("heard {headline}"),
            Err(lagged) => println!("{lagged}"),
        }
    }

    let (state, mut seen) = watch::channel("starting");
    let watcher = spawn(async move {
        while seen.changed().await.is_ok() {
            println!("now {}", *seen.borrow_and_update());
        }
    });
    state.send("warming up").unwrap();
    state.send("ready").unwrap();
    drop(state);
    watcher.await.unwrap();
}
