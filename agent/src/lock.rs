//! One natd at work on a machine: a lock on a file that names its holder.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use natd_core::error::{Error, Kind, Result};
use rustix::fs::{FlockOperation, flock};

use crate::serve::CONTROL_SOCKET;

/// The file, in `/run/natd`.
const FILE: &str = "lock";

/// More than there are natds that end at the same moment.
const ATTEMPTS: u32 = 100;

/// Who has taken the lock writes its process id within this, if it ever does.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// Before looking again.
const PAUSE: Duration = Duration::from_millis(10);

/// Held for as long as it lives; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    folder: PathBuf,
}

impl Lock {
    /// Takes the lock, or says who has it.
    ///
    /// # Errors
    /// `Conflict` if another natd is at work, with its process id; `Denied`.
    pub fn take(root: &Path) -> Result<Self> {
        let folder = root.join("run/natd");
        let path = folder.join(FILE);
        let mut attempt = Self::attempt(&folder, &path);
        for _ in 1..ATTEMPTS {
            // Its last holder may have taken the file, or the folder, away meanwhile.
            match &attempt {
                Ok(lock) if !lock.is_at(&path) => {}
                Err(error) if error.kind() == Kind::NotFound => {}
                _ => break,
            }
            attempt = Self::attempt(&folder, &path);
        }
        attempt
    }

    fn attempt(folder: &Path, path: &Path) -> Result<Self> {
        let failed = |error: io::Error| {
            let kind = match error.kind() {
                io::ErrorKind::NotFound => Kind::NotFound,
                _ => Kind::Denied,
            };
            let error = Error::new(kind, format!("open the lock {}", path.display()), error);
            error.with_advice("run natd as root, and see that there is room in that folder, and that it can be written to")
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let holder = holder(&mut file).map_err(failed)?;
            return Err(Error::new(
                Kind::Conflict,
                "begin",
                format!("another natd is at work (process {holder})"),
            )
            .with_advice(
                "natd status tells what it does; stop it first if you want to work by hand",
            ));
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { file, folder: folder.to_owned() })
    }

    /// Whether the file that is locked is the one that others find.
    fn is_at(&self, path: &Path) -> bool {
        let there = fs::metadata(path).map(|there| (there.dev(), there.ino()));
        let ours = self.file.metadata().map(|ours| (ours.dev(), ours.ino()));
        matches!((there, ours), (Ok(there), Ok(ours)) if there == ours)
    }

    /// Takes away the file and what a daemon that was killed has left beside it, and the folder if
    /// nothing else is in it: after `natd down`, nothing of natd's stays. What can't be removed
    /// stays, since it is empty and the next natd uses it.
    pub fn retire(self) {
        for name in [CONTROL_SOCKET, FILE] {
            fs::remove_file(self.folder.join(name)).ok();
        }
        fs::remove_dir(&self.folder).ok();
    }
}

/// Its process id. It is written when the lock is held already.
#[expect(clippy::disallowed_methods, reason = "nothing else is at work yet, or will be")]
fn holder(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    for _ in 0..WRITTEN_WITHIN.as_millis() / PAUSE.as_millis() {
        text.clear();
        file.rewind()?;
        file.read_to_string(&mut text)?;
        if text.ends_with('\n') {
            break;
        }
        thread::sleep(PAUSE);
    }
    Ok(text.trim().to_owned())
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

    #[test]
    #[expect(clippy::disallowed_methods, reason = "threads have no runtime to block")]
    fn who_was_first_is_told_though_its_id_comes_late() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("run/natd").join(FILE);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        let mut first = File::create(&path).expect("made");
        flock(&first, FlockOperation::NonBlockingLockExclusive).expect("free");
        let error = thread::scope(|scope| {
            let second = scope.spawn(|| Lock::take(root.path()).expect_err("taken"));
            thread::sleep(PAUSE * 3);
            writeln!(first, "4711").expect("written");
            second.join().expect("it ends")
        });
        assert!(error.to_string().contains("(process 4711)"), "{error}");
    }

    #[test]
    fn one_that_is_retired_leaves_nothing_and_nobody_holds_what_is_gone() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("run/natd");
        let lock = Lock::take(root.path()).expect("free");
        File::create(folder.join(CONTROL_SOCKET)).expect("written");
        lock.retire();
        assert!(!folder.exists());

        let lock = Lock::take(root.path()).expect("free");
        File::create(folder.join("somebody's")).expect("written");
        lock.retire();
        assert!(folder.join("somebody's").exists() && !folder.join(FILE).exists());

        // Another had opened the file before it went, and gets its lock after.
        let (path, first) = (folder.join(FILE), Lock::take(root.path()).expect("free"));
        fs::rename(&path, folder.join("gone")).expect("moved");
        assert!(!first.is_at(&path));
        let second = Lock::take(root.path()).expect("free: the first is no more");
        assert!(second.is_at(&path));
    }
}
