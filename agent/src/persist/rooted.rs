//! Paths below a root folder. Symbolic links are followed as the host below that folder would follow
//! them, and so never lead out of it.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use natd_core::persist::HostPath;

/// More links than any real path has: the kernel's own bound (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// A root folder.
#[derive(Debug, Clone)]
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Whether it is this machine's own.
    pub(super) fn is_live(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where the file really is, all links followed; the last parts of the path may be missing.
    pub(super) fn resolve(&self, path: &HostPath) -> io::Result<PathBuf> {
        let mut links = 0;
        let mut ahead = parts(Path::new(path.as_str()));
        ahead.reverse();
        // Below the root, as the host sees it.
        let mut at = PathBuf::new();
        while let Some(part) = ahead.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            match fs::read_link(self.0.join(&next)) {
                Ok(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(io::Error::other("too many symbolic links"));
                    }
                    if target.is_absolute() {
                        at = PathBuf::new();
                    }
                    ahead.extend(parts(&target).into_iter().rev());
                }
                // Not a link, or not there.
                Err(_) => at = next,
            }
        }
        Ok(self.0.join(at))
    }

    /// Whether there is such a file or folder.
    pub(super) fn has(&self, path: &str) -> bool {
        self.resolve(&HostPath::new(path)).is_ok_and(|path| path.exists())
    }

    /// The text of a file; empty if it can't be read.
    pub(super) fn read(&self, path: &str) -> String {
        let path = self.resolve(&HostPath::new(path));
        path.and_then(fs::read_to_string).unwrap_or_default()
    }

    /// The names in a folder; none if it can't be read.
    pub(super) fn list(&self, path: &str) -> Vec<String> {
        let Ok(entries) = self.resolve(&HostPath::new(path)).and_then(fs::read_dir) else {
            return Vec::new();
        };
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    /// A folder of the host's that is on the way to a resolved path.
    pub(super) fn as_host_path(&self, path: &Path) -> Option<HostPath> {
        let below = path.strip_prefix(&self.0).ok()?;
        Some(HostPath::new(format!("/{}", below.to_str()?)))
    }
}

fn parts(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            Component::ParentDir => Some("..".to_owned()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_and_never_lead_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::new(folder.path());
        let etc = folder.path().join("etc");
        fs::create_dir_all(etc.join("rc.d")).expect("made");
        for (target, link) in [
            ("rc.d/rc.local", "relative"),
            ("/etc/rc.d/rc.local", "absolute"),
            ("../../../../etc/rc.d/rc.local", "climbing"),
            ("absolute", "twice"),
        ] {
            symlink(target, etc.join(link)).expect("linked");
            let resolved = root.resolve(&HostPath::new(format!("/etc/{link}"))).expect("resolved");
            assert_eq!(resolved, etc.join("rc.d/rc.local"), "{link}");
        }
        symlink("loop", etc.join("loop")).expect("linked");
        assert!(root.resolve(&HostPath::new("/etc/loop")).is_err());
    }
}
