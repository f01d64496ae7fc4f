//! What a template is made of, and the name that follows from it.

use api::Error;
use host::Config;
use host::capacity::Host;
use host::config::Templates;
use serde::{Deserialize, Serialize};
use vmm_api::{MachineConfig, RawMachineConfig};

use crate::TemplateError;
use crate::identity::Inputs;
use crate::key::Key;

/// What templates of another format can't be found by: number of what this code writes.
const FORMAT: u32 = 1;

/// Most vCPUs of a machine.
const MAX_VCPUS: u32 = 32;

/// What kind of template is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Memory in MiB, one of the sizes of [`class_for`](crate::class_for).
    pub memory_mib: u64,
    /// Whose pods share it; none: all of the node.
    pub tenant: Option<String>,
}

/// All that a template is made of. Machines that differ in any of it have other templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The files.
    pub inputs: Inputs,
    /// Words added to the guest kernel's command line.
    pub extra_cmdline: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Most vCPUs that a clone can have.
    pub vcpus: u32,
    /// Whose pods share it; none: all of the node.
    pub tenant: Option<String>,
}

impl Recipe {
    /// That of the operator's settings on this host; none where machines are to boot each for itself.
    ///
    /// # Errors
    /// [`TemplateError::Inputs`] for a file that is not there, by name.
    pub fn of(config: &Config, wish: &Wish, host: Host) -> Result<Option<Self>, TemplateError> {
        // A byte on its way out of the early console could not be saved.
        if config.templates == Templates::None || config.debug {
            return Ok(None);
        }
        Ok(Some(Self {
            inputs: Inputs::of(config).map_err(TemplateError::Inputs)?,
            extra_cmdline: config.extra_cmdline.clone(),
            memory_mib: wish.memory_mib,
            vcpus: host.cpus.min(MAX_VCPUS),
            tenant: wish.tenant.clone().filter(|_| config.templates == Templates::Namespace),
        }))
    }

    /// Its name.
    ///
    /// # Errors
    /// [`TemplateError::Recipe`], which texts and numbers never meet.
    pub fn key(&self) -> Result<Key, TemplateError> {
        let text = serde_json::to_vec(&(FORMAT, self)).map_err(TemplateError::Recipe)?;
        Ok(Key::of(&text))
    }

    /// The shape of a machine with `vcpus` vCPUs that goes on from it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a shape that no machine has.
    pub fn shape(&self, vcpus: u32) -> Result<MachineConfig, Error> {
        let raw = RawMachineConfig {
            vcpus,
            memory_mib: self.memory_mib,
            extra_cmdline: self.extra_cmdline.clone(),
            early_serial: false,
        };
        MachineConfig::try_from(raw).map_err(|error| Error::Invalid(error.to_string()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use host::config::RawConfig;

    use super::*;

    pub(crate) const HOST: Host = Host { memory_mib: 4096, cpus: 48 };

    /// Settings whose files are in `dir`.
    pub(crate) fn config(dir: &Path) -> Config {
        let make = |name: &str| {
            let path = dir.join(name);
            std::fs::write(&path, name).unwrap();
            Some(path)
        };
        let raw = RawConfig {
            kernel: make("kernel"),
            rootfs: make("rootfs"),
            vmm: make("vmm"),
            ..RawConfig::default()
        };
        Config::new(raw, dir, dir).unwrap()
    }

    pub(crate) fn wish(memory_mib: u64, tenant: Option<&str>) -> Wish {
        Wish { memory_mib, tenant: tenant.map(str::to_owned) }
    }

    fn key(config: &Config, wish: &Wish) -> Key {
        Recipe::of(config, wish, HOST).unwrap().unwrap().key().unwrap()
    }

    #[test]
    fn key_is_the_same_until_something_changes() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let one = wish(256, None);
        let first = key(&config, &one);
        assert_eq!(key(&config, &one), first);
        assert_eq!(first.to_string().parse::<Key>().unwrap(), first);
        let mut all = vec![first];
        all.push(key(&config, &wish(512, None)));
        config.extra_cmdline = "quiet".to_owned();
        all.push(key(&config, &one));
        config.extra_cmdline.clear();
        std::fs::write(&config.kernel, "another").unwrap();
        all.push(key(&config, &one));
        config.templates = Templates::Namespace;
        all.push(key(&config, &wish(256, Some("shop"))));
        all.push(key(&config, &wish(256, Some("bank"))));
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len(), "{all:?}");
    }

    #[test]
    fn tenants_count_only_where_they_shall() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        assert_eq!(key(&config, &wish(256, Some("shop"))), key(&config, &wish(256, None)));
    }

    #[test]
    fn settings_without_templates_have_no_recipe() {
        let dir = tempfile::tempdir().unwrap();
        let (mut without, mut debug) = (config(dir.path()), config(dir.path()));
        without.templates = Templates::None;
        debug.debug = true;
        for config in [without, debug] {
            assert!(Recipe::of(&config, &wish(256, None), HOST).unwrap().is_none());
        }
    }

    #[test]
    fn missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        std::fs::remove_file(&config.rootfs).unwrap();
        let error = Recipe::of(&config, &wish(256, None), HOST).unwrap_err();
        let text = api::error::chain(&error);
        assert!(text.contains(config.rootfs.to_str().unwrap()), "{text}");
    }

    #[test]
    fn clone_has_the_vcpus_that_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = Recipe::of(&config(dir.path()), &wish(256, None), HOST).unwrap().unwrap();
        assert_eq!(recipe.vcpus, 32);
        let shape = recipe.shape(2).unwrap();
        assert_eq!((shape.vcpus().get(), shape.memory().get()), (2, 256));
    }
}
