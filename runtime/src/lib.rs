//! An async runtime for Linux: one pinned event loop and one io_uring per core.
