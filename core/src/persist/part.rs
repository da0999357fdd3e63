//! natd's part of a file: what it is to hold, what is there of it, and how the one becomes the other.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{HostPath, block, saved};
use crate::ruleset::RulesetDigest;

/// The first line of a file that is natd's as a whole. What doesn't begin so is somebody else's.
pub(super) const HEADER: &str =
    "# natd wrote this file and keeps it so; natd down removes it. See natd.toml.\n";

/// How natd's part is told from the rest of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The file is natd's, and begins with a line that says so.
    Whole,
    /// Lines between two marks.
    Block(Place),
    /// Chains of natd's and the jumps to them, by their names, in the format of `iptables-save`.
    Chains,
}

/// Where a block stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In a shell script: before a final `exit`.
    BeforeExit,
    /// At its end.
    End,
}

/// Names what natd's part of a file says, however the rest of the file arranges it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartDigest(String);

impl PartDigest {
    /// Of natd's part, as [`Form::own`] gives it.
    #[must_use]
    pub fn of(own: &str) -> Self {
        Self(RulesetDigest::of(own).0)
    }
}

impl fmt::Display for PartDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a file should hold of natd's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// How it is told from the rest.
    pub form: Form,
    /// What it says.
    pub text: String,
    /// The mode of the file, where natd makes it. Where the run bits are in it, a file that is there
    /// gets them too.
    pub mode: u32,
    /// Names what it says.
    pub digest: PartDigest,
    /// Other things that it may say without anybody having edited it: rules as they are in the
    /// kernel, put there by whoever saved them all.
    pub alike: Vec<PartDigest>,
}

impl Part {
    /// A part of that form.
    #[must_use]
    pub fn new(form: Form, text: impl Into<String>, mode: u32) -> Self {
        let text = match form {
            Form::Whole => format!("{HEADER}{}", text.into()),
            _ => text.into(),
        };
        let digest = PartDigest::of(&form.normal(&text));
        Self { form, text, mode, digest, alike: Vec::new() }
    }

    /// Whether the file has to be one that can be run.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }
}

/// What a file holds of natd's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSeen {
    /// How natd's part is told from the rest.
    pub form: Form,
    /// natd's part; `None` if there is none.
    pub own: Option<String>,
    /// Whether it stands where it has an effect.
    pub in_place: bool,
    /// natd's part was not written to its end, as a power failure leaves it: nobody has edited that.
    pub cut_off: bool,
    /// Where what others have in the file ends too early for any of it to be loaded: "*filter".
    pub unended: Option<String>,
    /// The file's permissions; `None` if there is no file.
    pub mode: Option<u32>,
    /// The folders on the way to it that are missing, outermost first.
    pub missing: Vec<HostPath>,
}

impl FileSeen {
    /// What there is in a file of that content; `None` if there is no file.
    #[must_use]
    pub fn new(
        form: Form,
        content: Option<&str>,
        mode: Option<u32>,
        missing: Vec<HostPath>,
    ) -> Self {
        Self {
            form,
            own: content.and_then(|content| form.own(content)),
            in_place: content.is_none_or(|content| form.in_place(content)),
            cut_off: content.is_some_and(|content| form.is_cut_off(content)),
            unended: content.and_then(|content| form.unended(content)),
            mode,
            missing,
        }
    }

    /// Names natd's part.
    #[must_use]
    pub fn digest(&self) -> Option<PartDigest> {
        self.own.as_deref().map(PartDigest::of)
    }

    /// Whether a file that natd would have as a whole is somebody else's.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        let begins =
            |own: &str| own.starts_with(HEADER) || (self.cut_off && HEADER.starts_with(own));
        let own = self.own.as_deref().map(written);
        self.form == Form::Whole && own.is_some_and(|own| !begins(own))
    }
}

/// What a file becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// It holds this.
    Content(String),
    /// It is not there.
    Gone,
}

/// What was written of a file: a power failure may leave zeros in place of what was not.
fn written(file: &str) -> &str {
    file.trim_end_matches('\0')
}

impl Form {
    /// Whether natd's part of that file was not written to its end.
    #[must_use]
    pub fn is_cut_off(self, file: &str) -> bool {
        let there = written(file);
        match self {
            // What natd writes ends with its last line.
            Self::Whole => there.len() < file.len() || !there.ends_with('\n'),
            Self::Block(_) => block::is_cut_off(there),
            Self::Chains => saved::is_cut_off(there),
        }
    }

    /// Where what others have in the file ends before anything of it could be loaded.
    #[must_use]
    pub fn unended(self, file: &str) -> Option<String> {
        match self {
            Self::Whole | Self::Block(_) => None,
            Self::Chains => saved::unended(file),
        }
    }

    /// The file as far as it was written, if natd's part, or all of it, was not to its end. Where that is
    /// so of somebody else's part only, what is behind is theirs, too.
    fn mended(self, file: &str) -> &str {
        let there = written(file);
        let natds_is_cut_off = match self {
            Self::Whole | Self::Block(_) => self.is_cut_off(file),
            Self::Chains => saved::natds_is_cut_off(there),
        };
        if there.is_empty() || natds_is_cut_off { there } else { file }
    }

    /// The file with natd's part saying `text`, whatever it said before. `file` is what there is,
    /// `None` if there is none. The rest of the file stays as it is.
    #[must_use]
    pub fn put(self, file: Option<&str>, text: &str) -> String {
        let file = file.map(|file| self.mended(file));
        match self {
            Self::Whole => text.to_owned(),
            Self::Block(place) => block::put(file, text, place),
            Self::Chains => saved::put(file, text),
        }
    }

    /// The file without natd's part: as it was before natd, as far as nobody has changed it since.
    #[must_use]
    pub fn take_out(self, file: &str) -> Edit {
        let file = self.mended(file);
        let left = match self {
            Self::Whole => Edit::Gone,
            Self::Block(_) => block::take_out(file),
            Self::Chains => saved::take_out(file),
        };
        match left {
            Edit::Content(left) if written(&left).is_empty() => Edit::Content(String::new()),
            left => left,
        }
    }

    /// natd's part of that file, in a form in which only what it says counts.
    #[must_use]
    pub fn own(self, file: &str) -> Option<String> {
        match self {
            Self::Whole => Some(file.to_owned()),
            Self::Block(_) => block::own(file),
            Self::Chains => saved::own(file),
        }
    }

    /// Whether natd's part stands where it has an effect.
    #[must_use]
    pub fn in_place(self, file: &str) -> bool {
        match self {
            Self::Block(place) => block::in_place(file, place),
            Self::Whole | Self::Chains => true,
        }
    }

    /// What [`Form::own`] gives of a file that holds `text`.
    #[must_use]
    pub fn normal(self, text: &str) -> String {
        match self {
            Self::Whole | Self::Block(_) => text.to_owned(),
            Self::Chains => saved::own(text).unwrap_or_default(),
        }
    }
}
