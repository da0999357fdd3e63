//! One natd at work on a machine: a lock on a file that names its holder.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use natd_core::error::{Error, Kind, Result};
use rustix::fs::{FlockOperation, flock};

/// Held for as long as it lives; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who has it.
    ///
    /// # Errors
    /// `Conflict` if another natd is at work, with its process id; `Denied`.
    pub fn take(root: &Path) -> Result<Self> {
        let folder = root.join("run/natd");
        let path = folder.join("lock");
        let failed = |error: std::io::Error| {
            Error::new(Kind::Denied, format!("open the lock {}", path.display()), error)
        };
        fs::create_dir_all(&folder).map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(failed)?;
            return Err(Error::new(
                Kind::Conflict,
                "begin",
                format!("another natd is at work (process {})", holder.trim()),
            )
            .with_advice(
                "natd status tells what it does; stop it first if you want to work by hand",
            ));
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_was_first() {
        let root = tempfile::tempdir().expect("a folder");
        let first = Lock::take(root.path()).expect("free");
        let error = Lock::take(root.path()).expect_err("taken");
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        Lock::take(root.path()).expect("free again");
    }
}
