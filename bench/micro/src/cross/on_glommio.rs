//! glommio: an executor on each of two cores, and its shared channel.

use glommio::channels::shared_channel::{ConnectedReceiver, ConnectedSender, new_bounded};
use glommio::{LocalExecutorBuilder, Placement};

use super::{CAPACITY, ReceiveEnd, SPIN, STREAM_CAPACITY, SendEnd, cores};
use crate::rows::{Measure, Row};

impl SendEnd<u64> for ConnectedSender<u64> {
    async fn send(&mut self, value: u64) {
        ConnectedSender::send(self, value).await.expect("the other core receives");
    }
}

impl ReceiveEnd<u64> for ConnectedReceiver<u64> {
    async fn receive(&mut self) -> Option<u64> {
        self.recv().await
    }
}

pub fn run(row: Row, count: u64) -> Option<Measure> {
    let builder = |core| {
        let builder = LocalExecutorBuilder::new(Placement::Fixed(core));
        match row {
            Row::CoreBusy | Row::CoreSpin => builder.spin_before_park(SPIN),
            _ => builder,
        }
    };
    let [here, there] = cores();
    let is_stream = row == Row::CoreStream;
    let (sender, receiver) = new_bounded(if is_stream { STREAM_CAPACITY } else { CAPACITY });
    let (sender_back, receiver_back) = new_bounded(CAPACITY);
    let second = builder(there).spawn(move || async move {
        // Each waits for its other end, so both sides have the same order.
        let there = receiver.connect().await;
        let mut back = sender_back.connect().await;
        if is_stream {
            SendEnd::send(&mut back, super::sum(there).await).await;
        } else {
            super::pong(there, back).await;
        }
    });
    let first = builder(here).spawn(move || async move {
        let there = sender.connect().await;
        let mut back = receiver_back.connect().await;
        if is_stream {
            let sum = async { back.receive().await.expect("the sum is sent") };
            super::stream(there, sum, count).await
        } else {
            super::ping(there, back, count).await
        }
    });
    let (first, second) = (first.expect("glommio starts"), second.expect("glommio starts"));
    let measure = first.join().expect("the first core ends well");
    second.join().expect("the second core ends well");
    Some(measure)
}
