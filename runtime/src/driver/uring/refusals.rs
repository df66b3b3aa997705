//! Entries into the kernel that it refuses for a while: how long to leave it alone.
//!
//! EAGAIN and ENOMEM: no memory for a request just now. EBUSY: completions wait in the overflow list. Nothing is lost with any of them:
//! submissions stay in the queue. The loop comes again, and where nothing has come meanwhile it rests before, longer each
//! time, instead of spinning until there is memory.

#![deny(unsafe_code)]

/// The longest rest, in milliseconds. Arbitrary: sixty attempts a second cost nothing, and nobody notices so late an answer of a
/// machine without memory.
const REST_MS_MAX: u32 = 16;

/// The longest rest of a loop that has work of its own meanwhile.
const REST_MS_MAX_WITH_WORK: u32 = 1;

/// How often the kernel has refused in a row.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    in_row: u32,
}

impl Refusals {
    /// Whether the kernel took what it was given last.
    #[inline]
    pub(super) fn is_none(&self) -> bool {
        self.in_row == 0
    }

    /// What the kernel said.
    #[inline]
    pub(super) fn note(&mut self, is_refused: bool) {
        self.in_row = if is_refused { self.in_row.saturating_add(1) } else { 0 };
    }

    /// How long to rest before the next attempt if nothing is there to do, in milliseconds. The first attempt after a refusal comes
    /// at once: the loop has taken completions meanwhile, which may be all that the kernel asked for. A loop that would not sleep
    /// has tasks to poll, or promises to keep, that wait for nothing of the kernel's.
    #[inline]
    pub(super) fn rest_ms(&self, has_work: bool) -> u32 {
        let most = if has_work { REST_MS_MAX_WITH_WORK } else { REST_MS_MAX };
        match self.in_row {
            0 | 1 => 0,
            in_row => 1_u32.checked_shl(in_row - 2).unwrap_or(most).min(most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_and_end_with_the_first_entry() {
        let mut refusals = Refusals::default();
        let mut rests = Vec::new();
        for is_refused in [true; 8].into_iter().chain([false, true, true]) {
            refusals.note(is_refused);
            rests.push((refusals.rest_ms(false), refusals.rest_ms(true)));
        }
        let (idle, with_work): (Vec<_>, Vec<_>) = rests.into_iter().unzip();
        assert_eq!(idle, [0, 1, 2, 4, 8, 16, 16, 16, 0, 0, 1]);
        assert_eq!(with_work, [0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1]);
        let endless = Refusals { in_row: u32::MAX };
        assert_eq!((endless.rest_ms(false), endless.rest_ms(true)), (REST_MS_MAX, REST_MS_MAX_WITH_WORK));
    }
}
