//! An async runtime for Linux: one pinned event loop and one io_uring per core.

#[allow(dead_code)]
mod op {
    pub(crate) mod lifecycle;
}
#[allow(dead_code)]
mod time {
    pub(crate) mod wheel;
}
