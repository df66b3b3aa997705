//! Open files that answers have in common: however many clients take the same file slowly, they hold one descriptor for it.
//!
//! No cache: a file is closed with the last answer that it is in.
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use annulet::fs::File;

/// Which file it is, and as of when. Device and inode alone are not enough for every file system: on overlayfs a file that is
/// changed for the first time becomes another one with the same numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) len: u64,
    /// Seconds and nanoseconds.
    pub(super) modified: (i64, i64),
}

/// Files that have been closed are looked for when there are so many entries, and twice as many as there were then.
const LEN_MIN: usize = 64;

thread_local! {
    static OPEN: RefCell<Open> = RefCell::default();
}

#[derive(Default)]
struct Open {
    files: HashMap<FileId, Weak<File>>,
    len_max: usize,
}

/// This file, as others have opened it already; then it is closed.
pub(super) fn share(file: std::fs::File, id: FileId) -> Rc<File> {
    OPEN.with_borrow_mut(|open| open.share(id, || File::from_std(file)))
}

impl Open {
    fn share(&mut self, id: FileId, file: impl FnOnce() -> File) -> Rc<File> {
        if let Some(file) = self.files.get(&id).and_then(Weak::upgrade) {
            return file;
        }
        if self.files.len() >= self.len_max {
            self.files.retain(|_, file| file.strong_count() > 0);
            self.len_max = LEN_MIN.max(self.files.len() * 2);
        }
        let file = Rc::new(file());
        self.files.insert(id, Rc::downgrade(&file));
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ino: u64) -> FileId {
        FileId { dev: 0, ino, len: 0, modified: (0, 0) }
    }

    #[test]
    fn one_for_all_and_none_for_nobody() {
        annulet::run(async {
            let file = || File::from_std(std::fs::File::open("/dev/null").unwrap());
            let mut open = Open::default();
            let first = open.share(id(1), file);
            assert!(Rc::ptr_eq(&first, &open.share(id(1), || panic!("it is open"))));
            assert!(!Rc::ptr_eq(&first, &open.share(id(2), file)));
            let changed = FileId { modified: (0, 1), ..id(1) };
            assert!(!Rc::ptr_eq(&first, &open.share(changed, file)));
            for number in 3..1000 {
                open.share(id(number), file);
            }
            assert!(open.files.len() <= LEN_MIN, "{} are kept in mind", open.files.len());
            assert!(Rc::ptr_eq(&first, &open.share(id(1), || panic!("it is open"))));
            drop(first);
            open.share(id(1), file);
        });
    }
}
