//! Which worker writes which row of the board: never two the same, not even an old worker and the one that takes its place.

use super::plan::OF_SLOT_MAX;
use crate::metrics::Board;

/// The rows of the workers, and who may have one.
#[derive(Debug)]
pub(super) struct Rows {
    board: Board,
    /// The rows before it are somebody else's.
    first: usize,
    is_taken: Vec<bool>,
}

/// As many as so many slots can need.
pub(super) fn needed(slots: usize) -> usize {
    slots * OF_SLOT_MAX
}

impl Rows {
    /// Those of `board` from `first` on. A process's own board has rows for everybody.
    pub(super) fn new(board: Board, first: usize) -> Rows {
        let rows = board.rows().unwrap_or(0).saturating_sub(first);
        Rows { board, first, is_taken: vec![false; rows] }
    }

    /// The lowest that is free; none when the board is full, or is a process's own.
    pub(super) fn take(&mut self) -> Option<usize> {
        let free = self.is_taken.iter().position(|is_taken| !is_taken)?;
        self.is_taken[free] = true;
        Some(self.first + free)
    }

    /// Its worker has ended, however that came.
    pub(super) fn give_back(&mut self, row: usize) {
        self.board.retire(row);
        self.is_taken[row - self.first] = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_belongs_to_one_at_a_time() {
        let mut rows = Rows::new(Board::shared(4).unwrap(), 2);
        assert_eq!([rows.take(), rows.take(), rows.take()], [Some(2), Some(3), None]);
        rows.give_back(2);
        assert_eq!([rows.take(), rows.take()], [Some(2), None]);
        assert_eq!(Rows::new(Board::process(), 0).take(), None);
        assert_eq!(Rows::new(Board::shared(1).unwrap(), 5).take(), None);
    }
}
