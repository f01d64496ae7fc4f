//! A template for the pods to come, asked for when the daemon starts: the first of them need not boot.

use std::path::PathBuf;

use api::Error;
use host::Config;
use host::capacity::Host;
use host::config::Templates;
use template::{Recipe, Store, Wish, background, class_for};

/// The program that builds, beside this one.
const SHIM: &str = "containerd-shim-cuddy-v2";

/// Has the template of a pod without limits built, unless it is there or is not wanted. To be called
/// in a runtime.
pub fn ask_for_one() {
    if let Err(error) = ask() {
        log::info!("no template is built: {error}");
    }
}

fn ask() -> Result<(), Error> {
    let (config, host) = (Config::load()?, Host::read()?);
    let Some(memory_mib) = class_for(config.default_memory_mib, host.memory_mib) else {
        return Ok(());
    };
    // Whose pods come first is not known.
    if config.templates != Templates::Node {
        return Ok(());
    }
    let wish = Wish { memory_mib, tenant: None };
    let recipe = Recipe::of(&config, &wish, host);
    let recipe = recipe.map_err(|error| Error::failed("looking for a template", &error))?;
    if let Some(recipe) = recipe {
        background::ask_for_one(shim(), &Store::of_node(), &recipe, &wish);
    }
    Ok(())
}

fn shim() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(SHIM))
}
