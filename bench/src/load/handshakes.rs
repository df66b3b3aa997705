//! TLS: how many handshakes there were, and how long a connection took. From the start of the process on: those of a load
//! with connections that stay are over before its measured time begins.

use std::time::Duration;

use annulet_tls::HandshakeKind;
use hdrhistogram::Histogram;

use super::latency::{record, summary};
use crate::report::histogram;
use crate::report::schema::TlsReport;

/// See the module.
#[derive(Debug)]
pub(crate) struct Handshakes {
    count: u64,
    resumed: u64,
    /// From the begin of the connect to the end of the handshake.
    connect: Histogram<u64>,
}

impl Handshakes {
    pub(crate) fn new() -> Handshakes {
        Handshakes { count: 0, resumed: 0, connect: histogram::empty() }
    }

    pub(crate) fn take(&mut self, kind: HandshakeKind, took: Duration) {
        self.count += 1;
        self.resumed += u64::from(kind == HandshakeKind::Resumed);
        record(&mut self.connect, took.as_nanos() as u64);
    }

    pub(crate) fn add(&mut self, other: &Handshakes) {
        self.count += other.count;
        self.resumed += other.resumed;
        self.connect.add(&other.connect).expect("all histograms are alike");
    }

    /// What the report says of them; nothing if there were none.
    pub(crate) fn to_report(&self) -> Option<TlsReport> {
        let connect_time = summary(&self.connect);
        (self.count > 0).then_some(TlsReport { handshakes: self.count, resumed: self.resumed, connect_time })
    }
}
