//! flume: its channels wake whichever loop waits; here those of tokio.

use flume::{Receiver, Sender};

use super::{ReceiveEnd, SendEnd};
use crate::rows::{Measure, Row};

impl SendEnd<u64> for Sender<u64> {
    async fn send(&mut self, value: u64) {
        self.send_async(value).await.expect("the other core receives");
    }
}

impl ReceiveEnd<u64> for Receiver<u64> {
    async fn receive(&mut self) -> Option<u64> {
        self.recv_async().await.ok()
    }
}

pub fn run(row: Row, count: u64) -> Option<Measure> {
    super::on_tokio::with(row, count, flume::bounded)
}
