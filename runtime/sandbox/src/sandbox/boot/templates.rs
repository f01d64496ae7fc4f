//! The templates of the node, as a pod that starts sees them. It waits for none.

use host::Config;
use host::capacity::Host;
use template::{Recipe, Store, Template, Wish, background};

/// What there is for one pod.
#[derive(Debug)]
pub(super) struct Templates<'a> {
    store: Store,
    wish: &'a Wish,
    /// What a template for it is made of; none where machines boot each for itself.
    recipe: Option<Recipe>,
}

impl<'a> Templates<'a> {
    /// Looks at what a template would be made of.
    pub(super) fn look(config: &Config, wish: &'a Wish, host: Host) -> Self {
        let recipe = Recipe::of(config, wish, host).unwrap_or_else(|error| {
            // The boot itself says what is missing.
            log::debug!("{}", api::error::chain(&error));
            None
        });
        Self { store: Store::of_node(), wish, recipe }
    }

    /// The template, if there is one that can be used.
    pub(super) fn found(&self) -> Option<Template> {
        match self.store.find(self.recipe.as_ref()?) {
            Ok(found) => found,
            Err(error) => {
                self.set_aside(&api::error::chain(&error));
                None
            }
        }
    }

    /// Takes a template that does not work out of everybody's way.
    pub(super) fn set_aside(&self, reason: &str) {
        let Some(key) = self.recipe.as_ref().and_then(|recipe| recipe.key().ok()) else { return };
        log::warn!("template {key} is removed and the machine boots instead: {reason}");
        self.store.set_aside(&key, reason);
    }

    /// Has a template built for the pods to come, by a process of its own, unless there is a reason
    /// not to.
    pub(super) fn ask_for_one(&self) {
        let Some(recipe) = &self.recipe else { return };
        background::ask_for_one(std::env::current_exe(), &self.store, recipe, self.wish);
    }
}
