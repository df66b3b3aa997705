//! Short files that requests have in common: all that a turn of the loop serves are answered with what the first of them has found.
//!
//! No cache: they had all arrived before the first lookup of the turn, so that no client can tell it from a lookup for each. (A handler can
//! that changes a file without a wait and asks for it in the same turn.)
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use annulet::metrics::Turn;

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
    root: Arc<OwnedFd>,
    path: String,
    codings: Codings,
    file: Ready,
}

/// What a request of this turn has found below `root` for the same path and the same codings.
pub(super) fn find(root: &Arc<OwnedFd>, path: &str, codings: &Codings) -> Option<Ready> {
    FOUND.with_borrow(|found| {
        if found.turn != annulet::metrics::turn() {
            return None;
        }
        let same = |it: &&Known| it.path == path && it.codings == *codings && Arc::ptr_eq(&it.root, root);
        found.files.iter().find(same).map(|it| it.file.clone())
    })
}

/// So that [`find`] finds it, if it is short, and there is room.
pub(super) fn keep(root: &Arc<OwnedFd>, path: &str, codings: &Codings, file: &Ready) {
    let turn = annulet::metrics::turn();
    let Content::Read(_) = file.content else { return };
    FOUND.with_borrow_mut(|found| {
        if found.turn != turn {
            found.files.clear();
            found.turn = turn;
        }
        // Outside of a loop there is no end of a turn.
        if turn.is_some() && found.files.len() < LEN_MAX {
            let (root, path, codings, file) = (root.clone(), path.to_owned(), *codings, file.clone());
            found.files.push(Known { root, path, codings, file });
        }
    });
}
