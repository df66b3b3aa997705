//! What a loop asks of its driver.

#![deny(unsafe_code)]

use super::DriverKind;

/// Which driver, how large a ring, and what it is to do without.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The driver; `None`: the ring if there is one.
    pub(crate) driver: Option<DriverKind>,
    /// Submission entries. Small: the queue is flushed when full, and a small one stays in the cache.
    pub(crate) sq_entries: u32,
    /// Completion entries. Large: one turn of ten thousand connections should not reach the kernel's overflow list.
    pub(crate) cq_entries: u32,
    /// Features that are not to be used although the kernel has them.
    pub(crate) mask: Option<&'static str>,
    /// Whether the ring is to refuse what annulet never asks of it.
    pub(crate) restricted: bool,
    /// Whether the loop may ring others by messages to their rings.
    pub(crate) rings_others: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            driver: None,
            sq_entries: 256,
            cq_entries: 8192,
            mask: None,
            restricted: true,
            rings_others: false,
        }
    }
}
