//! The access log's file: opened so that whoever the server becomes can open it again, and opened again when workers are replaced.
use std::fs::File;
use std::io;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::User;

/// To append, so that the lines of all cores stay whole.
pub(crate) fn open(path: &Path) -> io::Result<Arc<File>> {
    let file = File::options().append(true).create(true).open(path);
    file.map(Arc::new).map_err(|error| explain(path, &error))
}

fn explain(path: &Path, error: &io::Error) -> io::Error {
    let cure = match error.kind() {
        io::ErrorKind::PermissionDenied => " (the user that it runs as must be able to write it)",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot write {}: {error}{cure}", path.display()))
}

/// One that is opened again.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Mutex<Arc<File>>,
}

impl Log {
    /// Opens it. A file that root makes here belongs to `user`, whom the server becomes: worker processes open it again. One that is
    /// there already keeps its owner: its name may lead to a file that is nobody's to give away.
    ///
    /// # Errors
    ///
    /// What open(2) and fchown(2) say, with the file's name.
    pub(crate) fn open_for(path: &Path, user: Option<&str>) -> io::Result<Log> {
        let user = user.filter(|_| rustix::process::geteuid().is_root());
        let file = match user.map(|user| make_for(path, user)) {
            Some(Ok(file)) => Arc::new(file),
            Some(Err(error)) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(explain(path, &error));
            }
            Some(Err(_)) | None => open(path)?,
        };
        Ok(Log { path: path.to_owned(), file: Mutex::new(file) })
    }

    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For whoever asks for it from now on: the file that has the name now, or the old one if there is none to be had.
    pub(crate) fn reopen(&self) {
        match open(&self.path) {
            Ok(file) => *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file,
            Err(error) => eprintln!("annulet-serve: the old access log stays: {error}"),
        }
    }
}

/// Makes a file, which follows no link, and gives it away.
fn make_for(path: &Path, user: &str) -> io::Result<File> {
    let file = File::options().append(true).create_new(true).open(path)?;
    // Without such a user the server does not start, and says so.
    if let Some(user) = User::from_name(user)? {
        fchown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    Ok(file)
}
