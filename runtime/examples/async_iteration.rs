//! A reader that counts to 99 and ends. Python's `__aiter__`, `__anext__` and `async for`.

use std::pin::Pin;
use std::task::{Context, Poll};

use annulet::stream::{Stream, StreamExt};

#[derive(Default)]
struct Reader {
    count: u32,
    has_yielded: bool,
}

impl Stream for Reader {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        // Waits a turn of the loop for each line, as a reader of a socket would.
        self.has_yielded = !self.has_yielded;
        if self.has_yielded {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.count += 1;
        Poll::Ready((self.count < 100).then_some(self.count))
    }
}

#[annulet::main]
async fn main() {
    let mut reader = Reader::default();
    while let Some(line) = reader.next().await {
        println!("{line}");
    }
    println!("the end");
}
