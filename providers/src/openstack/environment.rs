//! Where the openstack client's configuration is looked for: variables and folders, as values.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The variables of a process, and the folders that may hold `clouds.yaml`. Not `Debug`: passwords
/// are among the variables.
#[derive(Clone, Default)]
pub struct Environment {
    /// All variables.
    pub variables: BTreeMap<String, String>,
    /// The folders, in the order of preference.
    pub folders: Vec<PathBuf>,
}

impl Environment {
    /// That of this process. Folders as openstacksdk has them: the current one, the user's
    /// (`$XDG_CONFIG_HOME` or `~/.config`), `/etc/openstack`
    /// (<https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html>).
    #[must_use]
    pub fn of_process() -> Self {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
            .collect();
        let home = variables.get("HOME").map(|home| Path::new(home).join(".config"));
        let user = variables.get("XDG_CONFIG_HOME").map(PathBuf::from);
        let folders = [std::env::current_dir().ok()]
            .into_iter()
            .chain([user, home].map(|folder| folder.map(|folder| folder.join("openstack"))))
            .flatten()
            .chain(["/etc/xdg/openstack", "/etc/openstack"].map(PathBuf::from))
            .collect();
        Self { variables, folders }
    }

    /// A variable that is set to something.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}
