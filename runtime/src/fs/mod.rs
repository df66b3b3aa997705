//! Files and directories, through the ring.
//!
//! [`File`] has two tiers. [`read_at`](File::read_at) and [`write_at`](File::write_at) take an owned buffer and give it
//! back: the kernel works on it directly, nothing is allocated or copied. [`read`](File::read), [`write`](File::write) and
//! [`seek`](File::seek) take borrowed slices and keep a cursor; they go through a buffer of the file's own, because memory
//! that the kernel may touch must outlive a dropped future; they stand behind the
//! traits of futures-io and tokio (feature `tokio-io`) too. The functions of this module work on whole files and on paths.
//!
//! Where the ring has no operation ([`read_dir`], [`canonicalize`], [`remove_dir_all`]) or the kernel is too old for it, a
//! thread of the [blocking pool](crate::blocking) does the work.
//!
//! What it does not do: watch files, lock them, keep a cache of its own, or finish in any order: two operations on the
//! same file that are under way together may be carried out in either.
//!
//! # Examples
//!
//! ```
//! # annulet::run(async {
//! # let directory = std::env::temp_dir().join(format!("annulet-doc-fs-{}", std::process::id()));
//! use annulet::fs;
//! fs::create_dir_all(&directory).await.unwrap();
//! let path = directory.join("greeting");
//! fs::write(&path, "hello").await.unwrap();
//! assert_eq!(fs::read_to_string(&path).await.unwrap(), "hello");
//! let file = fs::File::open(&path).await.unwrap();
//! let (count, buffer) = file.read_at(vec![0; 3], 2).await;
//! assert_eq!((count.unwrap(), &buffer[..]), (3, &b"llo"[..]));
//! fs::remove_file(&path).await.unwrap();
//! fs::remove_dir(&directory).await.unwrap();
//! # });
//! ```

mod buffer;
mod directory;
mod file;
mod metadata;
mod options;
mod path;
mod positional;
mod stream;
mod traits;
mod tree;
mod whole;

pub use buffer::Buffer;
pub use directory::{DirEntry, ReadDir, read_dir};
pub use file::File;
pub use metadata::{FileType, Metadata};
pub use options::OpenOptions;
pub use tree::{
    canonicalize, create_dir, create_dir_all, exists, hard_link, metadata, remove_dir, remove_dir_all,
    remove_file, rename, symlink, symlink_metadata,
};
pub use whole::{copy, read, read_to_string, write};

pub use crate::op::AlignedBuf;
