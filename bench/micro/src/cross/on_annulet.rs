//! annulet: two loops of one mesh, a `mesh::channel` in each direction.

use std::sync::mpsc;

use annulet::{Builder, LoopPolicy, mesh};

use super::{CAPACITY, ReceiveEnd, SPIN, STREAM_CAPACITY, SendEnd, cores};
use crate::rows::{Measure, Row};

impl SendEnd<u64> for mesh::Sender<u64> {
    async fn send(&mut self, value: u64) {
        mesh::Sender::send(self, value).await.expect("the other core receives");
    }
}

impl ReceiveEnd<u64> for mesh::Receiver<u64> {
    async fn receive(&mut self) -> Option<u64> {
        self.recv().await
    }
}

pub fn run(row: Row, count: u64) -> Option<Measure> {
    let mut builder = Builder::new().cores(cores());
    if row == Row::CoreSpin {
        builder = builder.policy(LoopPolicy { spin: SPIN, ..LoopPolicy::default() });
    }
    let (told, measured) = mpsc::channel();
    let loops = builder
        .start(move |core| {
            let told = told.clone();
            async move {
                if row == Row::CoreBusy {
                    annulet::spawn(async {
                        loop {
                            annulet::yield_now().await;
                        }
                    });
                }
                if core.index() == 0 {
                    let measure =
                        if row == Row::CoreStream { stream(count).await } else { ping(count).await };
                    told.send(measure).expect("the main thread waits");
                }
                core.stopped().await;
            }
        })
        .expect("the loops start");
    let measure = measured.recv().expect("the first loop measures");
    loops.stop();
    loops.join().expect("the loops end well");
    Some(measure)
}

async fn ping(count: u64) -> Measure {
    let (there, receiver) = mesh::channel(1, CAPACITY);
    let back = mesh::submit_to(1, move || async move {
        let (sender, back) = mesh::channel(0, CAPACITY);
        annulet::spawn(super::pong(receiver, sender));
        back
    });
    let back = back.await.expect("the other core runs");
    super::ping(there, back, count).await
}

async fn stream(count: u64) -> Measure {
    let (there, receiver) = mesh::channel(1, STREAM_CAPACITY);
    let sum = mesh::submit_to(1, move || super::sum(receiver));
    super::stream(there, async { sum.await.expect("the other core runs") }, count).await
}
