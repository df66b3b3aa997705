//! annulet-serve as a process: what it holds and how it ends.

mod capacity;
mod ends;
mod served;
