//! natd's part of a file: read, written, taken out. What the file is otherwise stays: its other
//! content byte for byte, its owner, its mode, its extended attributes.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use natd_core::{
    error::{Error, Kind, Result},
    file,
    persist::{Edit, FileSeen, Form, HostPath, Part},
};
use rustix::fs::{XattrFlags, fsetxattr, getxattr};

use super::rooted::Root;

/// What a replaced file would lose, and what may run or read it depends on.
const ATTRIBUTES: [&str; 2] = ["security.selinux", "system.posix_acl_access"];

/// Larger than any value of these.
const MOST_ATTRIBUTE_BYTES: usize = 4096;

pub(super) fn look(root: &Root, path: &HostPath, form: Form) -> Result<FileSeen> {
    let failed = |error: io::Error| failed("read", path, &error);
    let at = root.resolve(path).map_err(failed)?;
    let content = read(&at).map_err(failed)?;
    let mode = match &content {
        Some(_) => Some(fs::metadata(&at).map_err(failed)?.permissions().mode() & 0o7777),
        None => None,
    };
    Ok(FileSeen::new(form, content.as_deref(), mode, missing_folders(root, &at)))
}

pub(super) fn write(root: &Root, path: &HostPath, part: &Part) -> Result<()> {
    let failed = |error: io::Error| failed("write", path, &error);
    let at = root.resolve(path).map_err(failed)?;
    let there = read(&at).map_err(failed)?;
    let content = part.form.put(there.as_deref(), &part.text);
    let run = if part.is_executable() { 0o111 } else { 0 };
    let metadata = if there.is_some() { Some(fs::metadata(&at).map_err(failed)?) } else { None };
    let mode = match &metadata {
        // Whoever may read it may run it, as `chmod +x` has it.
        Some(metadata) => {
            let mode = metadata.permissions().mode();
            mode | (run & (mode >> 2))
        }
        None => part.mode,
    };
    let new = |file: &File| like(file, &at, metadata.as_ref(), mode);
    file::replace_with(&at, &bytes(&content), new).map_err(failed)
}

pub(super) fn remove(
    root: &Root,
    path: &HostPath,
    form: Form,
    mode: Option<u32>,
    folders: &[HostPath],
) -> Result<()> {
    let failed = |error: io::Error| failed("take natd's part out of", path, &error);
    let at = root.resolve(path).map_err(failed)?;
    file::forget(&at).map_err(failed)?;
    if let Some(there) = read(&at).map_err(failed)? {
        match form.take_out(&there) {
            Edit::Gone => file::remove(&at).map_err(failed)?,
            Edit::Content(content) => {
                let metadata = fs::metadata(&at).map_err(failed)?;
                let now = metadata.permissions().mode() & 0o7777;
                let mode = mode.unwrap_or(now);
                if content != there || mode != now {
                    let new = |file: &File| like(file, &at, Some(&metadata), mode);
                    file::replace_with(&at, &bytes(&content), new).map_err(failed)?;
                }
            }
        }
    }
    for folder in folders.iter().rev() {
        // One in which there is something by now is somebody's.
        let Ok(folder) = root.resolve(folder) else { continue };
        fs::remove_dir(folder).ok();
    }
    Ok(())
}

/// Each byte is one character, so that a file in any encoding goes through as it is.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes.into_iter().map(char::from).collect())),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What natd adds is ASCII.
fn bytes(content: &str) -> Vec<u8> {
    content.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect()
}

fn like(new: &File, at: &Path, old: Option<&fs::Metadata>, mode: u32) -> io::Result<()> {
    if let Some(old) = old {
        fchown(new, Some(old.uid()), Some(old.gid()))?;
        for name in ATTRIBUTES {
            let mut value = [0; MOST_ATTRIBUTE_BYTES];
            let there = getxattr(at, name, &mut value).ok();
            if let Some(value) = there.and_then(|length| value.get(..length)) {
                // A file system that had it takes it.
                fsetxattr(new, name, value, XattrFlags::empty())?;
            }
        }
    }
    new.set_permissions(fs::Permissions::from_mode(mode & 0o7777))
}

fn missing_folders(root: &Root, at: &Path) -> Vec<HostPath> {
    let mut missing: Vec<HostPath> = at
        .ancestors()
        .skip(1)
        .take_while(|folder| !folder.exists())
        .filter_map(|folder| root.as_host_path(folder))
        .collect();
    missing.reverse();
    missing
}

fn failed(verb: &str, path: &HostPath, error: &io::Error) -> Error {
    let (kind, advice) = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            (Kind::Denied, "run natd as root, and let its service write there (ProtectSystem=yes)")
        }
        io::ErrorKind::ReadOnlyFilesystem => (
            Kind::Denied,
            "let natd write there (remount it; ProtectSystem=yes in its service), or set nat.persist = \"none\"",
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
            Kind::Invalid,
            "make room there: natd writes it at its next tick; the file is as it was",
        ),
        _ => (Kind::Invalid, "mend that, or set nat.persist = \"none\""),
    };
    Error::new(kind, format!("{verb} {path}"), error).with_advice(advice)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use natd_core::persist::Place;

    use super::*;

    const FORM: Form = Form::Block(Place::BeforeExit);

    fn block(text: &str) -> Part {
        Part::new(FORM, text, 0o755)
    }

    #[test]
    fn what_is_written_is_taken_out_again_and_leaves_no_trace() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::new(folder.path());
        let path = HostPath::new("/etc/natd/deep/rc.local");
        let before = look(&root, &path, FORM).expect("looked");
        assert_eq!(before.own, None);
        let missing: Vec<&str> = before.missing.iter().map(HostPath::as_str).collect();
        assert_eq!(missing, ["/etc", "/etc/natd", "/etc/natd/deep"]);
        write(&root, &path, &block("load\n")).expect("written");
        let seen = look(&root, &path, FORM).expect("looked");
        assert_eq!((seen.own.as_deref(), seen.mode), (Some("load\n"), Some(0o755)));
        remove(&root, &path, FORM, None, &before.missing).expect("removed");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0);
    }

    /// As on RHEL: a link, not executable, and with words in some old encoding.
    #[test]
    fn a_links_target_gets_run_bits_and_keeps_everything_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::new(folder.path());
        let etc = folder.path().join("etc");
        fs::create_dir_all(etc.join("rc.d")).expect("made");
        symlink("rc.d/rc.local", etc.join("rc.local")).expect("linked");
        let target = etc.join("rc.d/rc.local");
        let original = b"#!/bin/bash\n# \xfcber\ntouch /var/lock/subsys/local\n";
        file::replace(&target, original).expect("written");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).expect("set");
        let path = HostPath::new("/etc/rc.local");
        write(&root, &path, &block("load\n")).expect("written");
        assert!(etc.join("rc.local").is_symlink(), "the link was replaced");
        let mode = || fs::metadata(&target).expect("there").permissions().mode() & 0o7777;
        assert_eq!(mode(), 0o755);
        let content = fs::read(&target).expect("read");
        assert!(content.starts_with(original), "{content:?}");
        remove(&root, &path, FORM, Some(0o644), &[]).expect("removed");
        assert_eq!((fs::read(&target).expect("read").as_slice(), mode()), (&original[..], 0o644));
    }

    #[test]
    fn what_a_crash_left_beside_goes_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::new(folder.path());
        file::replace(&folder.path().join(".a.new"), b"half").expect("written");
        remove(&root, &HostPath::new("/a"), Form::Whole, None, &[]).expect("removed");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0);
    }

    #[test]
    fn a_folder_that_somebody_uses_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::new(folder.path());
        let path = HostPath::new("/etc/natd/boot.nft");
        let before = look(&root, &path, Form::Whole).expect("looked");
        write(&root, &path, &Part::new(Form::Whole, "x\n", 0o600)).expect("written");
        file::replace(&folder.path().join("etc/mine"), b"x").expect("written");
        remove(&root, &path, Form::Whole, None, &before.missing).expect("removed");
        assert!(folder.path().join("etc/mine").exists());
        assert!(!folder.path().join("etc/natd").exists());
    }
}
