//! `cuddy template rm`: removes templates.

use std::process::ExitCode;

use template::{Key, Listed, Store};

use crate::output;

/// Remove templates. Machines that started from them go on.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Remove all of them, and the filesystem that they are on.
    #[arg(long, conflicts_with_all = ["stale", "keys"])]
    all: bool,
    /// Remove those that no pod starts from any more, because what they were made of has changed.
    #[arg(long, conflicts_with = "keys")]
    stale: bool,
    /// Names, or beginnings of them.
    #[arg(value_name = "TEMPLATE", required_unless_present_any = ["all", "stale"])]
    keys: Vec<String>,
}

impl RmArgs {
    /// Removes them, and prints their names.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let store = Store::of_node();
        let lock = super::lock(&store)?;
        store.clear_leftovers(&lock)?;
        let mut removed: Vec<Key> = Vec::new();
        for Listed { key, .. } in self.chosen(&store)? {
            if store.remove(&key)? {
                removed.push(key);
            }
        }
        let keys: String = removed.iter().map(|key| format!("{key}\n")).collect();
        output::print(keys.as_bytes())?;
        if self.all && store.dissolve(&lock)? {
            template::remove_cgroup();
        }
        Ok(ExitCode::SUCCESS)
    }

    fn chosen(&self, store: &Store) -> anyhow::Result<Vec<Listed>> {
        let mut all = super::chosen(store, &self.keys)?;
        all.retain(|listed| !self.stale || listed.is_stale());
        Ok(all)
    }
}
