//! What the ring of this kernel can do, and the mask that takes features away so that every fallback can be tested.

#![deny(unsafe_code)]

use std::fmt;
use std::io;

use super::{DriverKind, Settings};

/// The environment variable that holds the mask: names from [`Feature::name`], separated by commas.
const MASK_VARIABLE: &str = "ANNULET_RING_MASK";

macro_rules! features {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A feature of io_uring that annulet uses where the kernel has it, and does without where not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Feature {
            $($(#[$doc])* $variant,)*
        }

        impl Feature {
            /// Every feature, in the order of the kernels that brought them, newest first.
            pub const ALL: &[Feature] = &[$(Feature::$variant,)*];

            /// The name in the mask and in the printed list.
            pub fn name(self) -> &'static str {
                match self {
                    $(Feature::$variant => $name,)*
                }
            }
        }
    };
}

features! {
    /// `IORING_ENTER_NO_IOWAIT` (6.15): a sleeping loop does not count as waiting for a disk.
    NoIowait = "no_iowait",
    /// `IORING_OP_MSG_RING` (5.18, used from 6.12 on): a loop rings another one by a message from ring to ring, which leaves with
    /// what it submits anyway; by an eventfd otherwise. Rings of loops that are in no mesh go without.
    MsgRing = "msg_ring",
    /// `IORING_ENTER_ABS_TIMER` (6.12): deadlines are given as they are, without reading the clock before the wait.
    AbsTimer = "abs_timer",
    /// `IORING_FEAT_MIN_TIMEOUT` (6.12): a wait that gathers completions for a short while.
    MinWait = "min_wait",
    /// ftruncate(2) through the ring (6.9); a thread of the blocking pool does it otherwise.
    Ftruncate = "ftruncate",
    /// waitid(2) through the ring (6.7); the end of a child is seen by polling its pidfd otherwise.
    WaitId = "waitid",
    /// `IORING_SETUP_NO_SQARRAY` (6.6): no indirection array in the submission queue.
    NoSqArray = "no_sqarray",
    /// `IORING_SETUP_DEFER_TASKRUN` with `IORING_SETUP_SINGLE_ISSUER` (6.1): completion work runs when the loop enters
    /// the kernel, not whenever a packet arrives.
    DeferTaskrun = "defer_taskrun",
    /// `IORING_OP_SEND_ZC` (6.0): sends out of their owner's memory, where that is asked for; copies otherwise.
    SendZeroCopy = "send_zc",
    /// Multishot receive (6.0): one request delivers until it is cancelled.
    ReceiveMultishot = "receive_multishot",
    /// Multishot receive of datagrams with their senders (6.0).
    MessageMultishot = "message_multishot",
    /// Multishot accept (5.19).
    AcceptMultishot = "accept_multishot",
    /// Provided buffer rings (5.19): idle connections hold no receive buffer.
    BufferRing = "buffer_ring",
    /// `IORING_SETUP_COOP_TASKRUN` (5.19): no interrupt to run completion work. Used where `defer_taskrun` is not.
    CoopTaskrun = "coop_taskrun",
    /// `IORING_SETUP_TASKRUN_FLAG` (5.19): shared memory says when entering the kernel would bring completions.
    TaskrunFlag = "taskrun_flag",
    /// `IORING_SETUP_SUBMIT_ALL` (5.18): one failing submission does not stop those behind it.
    SubmitAll = "submit_all",
    /// `IORING_REGISTER_RING_FDS` (5.18): entering without a descriptor look-up.
    RingFd = "ring_fd",
    /// `IOSQE_CQE_SKIP_SUCCESS` (5.17) together with sends that never wait: no completion for what went well.
    SkipSuccess = "skip_success",
    /// mkdirat(2), symlinkat(2) and linkat(2) through the ring (5.15); the blocking pool otherwise.
    PathOps = "path_ops",
    /// `IORING_REGISTER_RESTRICTIONS` (5.10): the ring refuses what annulet never asks of it.
    Restrictions = "restrictions",
    /// `IORING_SETUP_CQSIZE` (5.5): a completion queue larger than twice the submission queue.
    CqSize = "cqsize",
    /// UDP segmentation (4.18): many datagrams with one send. Not of the ring, but masked like it.
    UdpSegment = "udp_segment",
}

/// What a loop stands on: its driver, and the features that its ring got, which are what the kernel offers less what the mask took.
///
/// # Examples
///
/// ```
/// let capabilities = annulet::run(async { annulet::capabilities() });
/// println!("ring features: {capabilities}");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    driver: DriverKind,
    /// One bit a feature.
    features: u32,
    /// Entries of the submission queue.
    pub(crate) sq_entries: u32,
    /// Entries of the completion queue.
    pub(crate) cq_entries: u32,
}

impl Capabilities {
    /// Everything, before the ladder and the mask take away.
    pub(crate) fn all() -> Self {
        Capabilities { driver: DriverKind::IoUring, features: u32::MAX, sq_entries: 0, cq_entries: 0 }
    }

    /// What `settings` want of the ring.
    ///
    /// # Errors
    ///
    /// See [`apply_mask`](Self::apply_mask).
    pub(super) fn wanted(settings: &Settings) -> io::Result<Self> {
        let mut capabilities = Self::all();
        if let Ok(mask) = std::env::var(MASK_VARIABLE) {
            capabilities.apply_mask(&mask)?;
        }
        if let Some(mask) = settings.mask {
            capabilities.apply_mask(mask)?;
        }
        if !settings.restricted {
            capabilities.remove(Feature::Restrictions);
        }
        if !settings.rings_others {
            capabilities.remove(Feature::MsgRing);
        }
        Ok(capabilities)
    }

    /// Those of `features` that `settings` leave to the driver that has no ring.
    ///
    /// # Errors
    ///
    /// As [`wanted`](Self::wanted).
    pub(crate) fn of_epoll(settings: &Settings, features: &[Feature]) -> io::Result<Self> {
        let mut capabilities = Self::wanted(settings)?;
        capabilities.driver = DriverKind::Epoll;
        Feature::ALL
            .iter()
            .filter(|feature| !features.contains(feature))
            .for_each(|feature| capabilities.remove(*feature));
        Ok(capabilities)
    }

    /// The kernel interface that does the work.
    pub fn driver(&self) -> DriverKind {
        self.driver
    }

    /// Whether the ring has `feature`.
    #[inline]
    pub fn has(&self, feature: Feature) -> bool {
        self.features & (1 << feature as u8) != 0
    }

    /// How many submissions the ring holds before it must be flushed.
    pub fn submission_entries(&self) -> u32 {
        self.sq_entries
    }

    /// How many completions the ring holds before the kernel keeps them in its overflow list.
    pub fn completion_entries(&self) -> u32 {
        self.cq_entries
    }

    /// The length of what `to_bytes` gives.
    pub(crate) const BYTES: usize = 16;

    /// For another process of this very program.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let is_epoll = u32::from(self.driver == DriverKind::Epoll);
        let words = [self.features, self.sq_entries, self.cq_entries, is_epoll];
        bytes.chunks_exact_mut(4).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_ne_bytes()));
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let [features, sq_entries, cq_entries, is_epoll] = [0, 4, 8, 12]
            .map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
        let driver = if is_epoll == 0 { DriverKind::IoUring } else { DriverKind::Epoll };
        Capabilities { driver, features, sq_entries, cq_entries }
    }

    pub(crate) fn remove(&mut self, feature: Feature) {
        self.features &= !(1 << feature as u8);
    }

    /// Takes away what the mask names.
    ///
    /// # Errors
    ///
    /// A name that is no feature; the message lists those that are.
    pub(crate) fn apply_mask(&mut self, mask: &str) -> io::Result<()> {
        for name in mask.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let Some(feature) = Feature::ALL.iter().find(|feature| feature.name() == name) else {
                let known: Vec<_> = Feature::ALL.iter().map(|feature| feature.name()).collect();
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!(
                        "{MASK_VARIABLE} names {name:?}, which is no ring feature; known: {}",
                        known.join(", ")
                    ),
                ));
            };
            self.remove(*feature);
        }
        Ok(())
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for feature in Feature::ALL.iter().filter(|feature| self.has(**feature)) {
            if !std::mem::take(&mut first) {
                f.write_str(" ")?;
            }
            f.write_str(feature.name())?;
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_takes_features_away_and_refuses_what_it_does_not_know() {
        let mut capabilities = Capabilities::all();
        capabilities.apply_mask(" no_sqarray, defer_taskrun ,").unwrap();
        assert!(!capabilities.has(Feature::NoSqArray) && !capabilities.has(Feature::DeferTaskrun));
        assert!(capabilities.has(Feature::CoopTaskrun));
        let error = capabilities.apply_mask("warp_drive").unwrap_err().to_string();
        assert!(error.contains("warp_drive") && error.contains("no_sqarray"), "{error}");
    }
}
