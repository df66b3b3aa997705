//! Short files that requests have in common: what one has found will do for others in the same turn of the loop, if they had arrived before
//! it and nothing can have happened in between that they depend on.
//!
//! No cache: whoever asks cannot tell it from a lookup of their own. The first request since its connection waited for bytes has arrived
//! before this turn, because a turn begins when what has arrived was taken; and every answer before it on that connection was made in an
//! earlier turn. Others look for themselves: what is pipelined behind a request may ask for what that has changed. So do those that reach
//! [`ServeDir`](super::ServeDir) through somebody else's code, which may have done anything.
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use annulet::future::Turn;

use super::open::Codings;
use super::ready::{Content, Ready};

/// So many files are kept for the rest of a turn; their content, 64 KiB each at most, until a later turn finds one. Arbitrary.
const LEN_MAX: usize = 8;

thread_local! {
    static FOUND: RefCell<Found> = RefCell::default();
}

/// What was found in a turn.
#[derive(Default)]
struct Found {
    turn: Option<Turn>,
    files: Vec<Known>,
}

/// A file and what was asked for.
struct Known {
    /// Keeps the address, not the directory.
    root: Weak<OwnedFd>,
    path: String,
    codings: Codings,
    file: Ready,
}

impl Known {
    fn is(&self, root: &Arc<OwnedFd>, path: &str, codings: &Codings) -> bool {
        self.path == path && self.codings == *codings && self.root.as_ptr() == Arc::as_ptr(root)
    }
}

/// What this turn has found below `root` for the same path and the same codings.
pub(super) fn find(root: &Arc<OwnedFd>, path: &str, codings: &Codings) -> Option<Ready> {
    FOUND.with_borrow(|found| {
        if found.turn != annulet::future::turn() {
            return None;
        }
        found.files.iter().find(|known| known.is(root, path, codings)).map(|known| known.file.clone())
    })
}

/// So that [`find`] finds it from now on, if it is short and there is room.
pub(super) fn keep(root: &Arc<OwnedFd>, path: &str, codings: &Codings, file: &Ready) {
    let Content::Read(_) = file.content else { return };
    // Outside of a loop there is no end of a turn.
    let Some(turn) = annulet::future::turn() else { return };
    FOUND.with_borrow_mut(|found| {
        if found.turn != Some(turn) {
            found.files.clear();
            found.turn = Some(turn);
        }
        if let Some(known) = found.files.iter_mut().find(|known| known.is(root, path, codings)) {
            known.file = file.clone();
        } else if found.files.len() < LEN_MAX {
            let (root, path, file) = (Arc::downgrade(root), path.to_owned(), file.clone());
            found.files.push(Known { root, path, codings: *codings, file });
        }
    });
}
