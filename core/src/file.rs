//! Files that are whole or not there: written beside, synced, renamed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Replaces a file's content in one step, readable by root alone (mode 0600), making its folder
/// where that is missing. After a crash at any moment the file holds the earlier content or the
/// new one (rename(2), fsync(2)).
///
/// # Errors
/// Of the file system. The earlier file is untouched then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, content, |_| Ok(()))
}

/// As [`replace`]; `attributes` gives the new file its mode and whatever else it is to have, before
/// anybody can see it.
///
/// # Errors
/// Of the file system, or of `attributes`. The earlier file is untouched then.
pub fn replace_with(
    path: &Path,
    content: &[u8],
    attributes: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let beside = beside(path)?;
    let written = write_synced(&beside, content, attributes)
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        // Whatever went wrong is told; a left-over would only be replaced by the next attempt.
        fs::remove_file(&beside).ok();
    }
    written
}

/// Removes a file, and what a crash may have left of a replacement that was under way; success if
/// there is neither.
///
/// # Errors
/// Of the file system.
pub fn remove(path: &Path) -> io::Result<()> {
    forget(path)?;
    unlink(path)
}

/// Removes what a crash may have left of a replacement that was under way.
///
/// # Errors
/// Of the file system.
pub fn forget(path: &Path) -> io::Result<()> {
    unlink(&beside(path)?)
}

fn unlink(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error)
            if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Where the new content is written first: in the same folder, since a rename stays in one file system.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(path.with_file_name(format!(".{}.new", name.to_string_lossy())))
}

fn write_synced(
    path: &Path,
    content: &[u8],
    attributes: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    attributes(&file)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b.json");
        replace(&path, b"one").expect("written");
        replace(&path, b"two").expect("replaced");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().expect("a parent")).expect("listed").count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_leaves_the_earlier_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("b.json");
        replace(&path, b"one").expect("written");
        // A folder in the place of the new file: open(2) answers EISDIR, for root too.
        fs::create_dir(folder.path().join(".b.json.new")).expect("made");
        assert!(replace(&path, b"two").is_err());
        assert_eq!(fs::read(&path).expect("read"), b"one");
    }
}
