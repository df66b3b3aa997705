//! An async runtime for Linux: one pinned event loop and one io_uring per core.

#[allow(dead_code)]
mod executor {
    pub(crate) mod inbox;
}
#[allow(dead_code)]
mod op {
    pub(crate) mod lifecycle;
}
mod sync_shim;
#[allow(dead_code)]
mod time {
    pub(crate) mod wheel;
}
#[allow(dead_code)]
pub mod placement;
