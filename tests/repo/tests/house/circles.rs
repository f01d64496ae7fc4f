//! Modules beside each other import each other in no circle, so that each can be read, tested and
//! moved with what is below it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

use crate::dependencies::workspace;
use crate::tree::{expect_none, read, root};

/// A module, or what is in one, by the names from the crate's root on.
type Place = Vec<String>;

/// What a module's own code says, without its child modules and tests.
#[derive(Default)]
struct Module {
    place: Place,
    /// Every path that may lead to another module, from the crate's root on.
    paths: Vec<Place>,
    /// What `use` brings in, by the name that it has here.
    imported: BTreeMap<String, Place>,
}

impl Module {
    /// Where a path leads from here, if it stays within the crate.
    fn absolute(&self, path: &[String]) -> Option<Place> {
        let mut place = self.place.clone();
        let mut rest = path.iter().peekable();
        match rest.peek()?.as_str() {
            "crate" => place.clear(),
            "self" | "super" => {}
            _ => return None,
        }
        for name in rest {
            match name.as_str() {
                "crate" | "self" => {}
                "super" => drop(place.pop()),
                name => place.push(name.to_owned()),
            }
        }
        Some(place)
    }

    fn import(&mut self, tree: &syn::UseTree, mut before: Place) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import(&path.tree, before);
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, before.clone()));
            }
            syn::UseTree::Glob(_) => self.paths.extend(self.absolute(&before)),
            syn::UseTree::Name(name) => self.bring(name.ident.to_string(), before, None),
            syn::UseTree::Rename(name) => {
                self.bring(name.ident.to_string(), before, Some(name.rename.to_string()));
            }
        }
    }

    fn bring(&mut self, name: String, mut path: Place, rename: Option<String>) {
        let own =
            if name == "self" { path.last().cloned().unwrap_or_default() } else { name.clone() };
        path.push(name);
        // Beside `crate` and `super`, a child module's name begins a path within the crate.
        let inner = [&["self".to_owned()], path.as_slice()].concat();
        let place = self.absolute(&path).or_else(|| self.absolute(&inner));
        self.paths.extend(place.clone());
        self.imported.extend(place.map(|place| (rename.unwrap_or(own), place)));
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        self.paths.extend(self.absolute(&names));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let text = call.tokens.to_string().replace(' ', "");
        let inside = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
        for start in ["crate::", "super::"] {
            for rest in text.split(start).skip(1) {
                let end = rest.find(|letter| !inside(letter)).unwrap_or(rest.len());
                let path = format!("{start}{}", &rest[..end]);
                let names: Vec<_> = path.split("::").map(str::to_owned).collect();
                self.paths.extend(self.absolute(&names));
            }
        }
    }
}

fn is_for_tests(module: &syn::ItemMod) -> bool {
    module.attrs.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|only| only.is_ident("test"))
    })
}

/// Reads the module at `place`, whose child modules have their files in `folder`.
fn gather(items: &[syn::Item], folder: &Path, place: &Place, all: &mut BTreeMap<Place, Module>) {
    let mut module = Module { place: place.clone(), ..Module::default() };
    for item in items {
        module.visit_item(item);
        let syn::Item::Mod(child) = item else { continue };
        // What lies elsewhere is another crate's, and looked at there.
        if is_for_tests(child) || child.attrs.iter().any(|one| one.path().is_ident("path")) {
            continue;
        }
        let name = child.ident.to_string();
        let inside = [place.as_slice(), std::slice::from_ref(&name)].concat();
        let folder = folder.join(&name);
        match &child.content {
            Some((_, items)) => gather(items, &folder, &inside, all),
            None => {
                let file = folder.with_extension("rs");
                let file = if root().join(&file).exists() { file } else { folder.join("mod.rs") };
                let source = syn::parse_file(&read(&file)).unwrap();
                gather(&source.items, &folder, &inside, all);
            }
        }
    }
    all.insert(place.clone(), module);
}

/// The module that has what is at `path`: where imported names lead to is followed.
fn home(all: &BTreeMap<Place, Module>, path: &Place) -> Place {
    let (mut place, mut rest) = (Place::new(), path.clone());
    for _ in 0..100 {
        if rest.is_empty() {
            break;
        }
        let name = rest.remove(0);
        let child = [place.as_slice(), std::slice::from_ref(&name)].concat();
        if all.contains_key(&child) {
            place = child;
        } else if let Some(target) = all[&place].imported.get(&name) {
            rest.splice(0..0, target.iter().cloned());
            place.clear();
        } else {
            break;
        }
    }
    place
}

/// What the modules of each parent import of each other.
fn arrows(all: &BTreeMap<Place, Module>) -> BTreeMap<Place, BTreeSet<(String, String)>> {
    let mut arrows: BTreeMap<Place, BTreeSet<_>> = BTreeMap::new();
    for module in all.values() {
        for path in &module.paths {
            let to = home(all, path);
            let common = module.place.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.place.get(common), to.get(common)) {
                let parent = module.place[..common].to_vec();
                arrows.entry(parent).or_default().insert((from.clone(), to.clone()));
            }
        }
    }
    arrows
}

/// What is left of `arrows` without those that begin or end at a module that is in no circle.
fn circles(mut arrows: BTreeSet<(String, String)>) -> BTreeSet<(String, String)> {
    loop {
        let all = arrows.clone();
        arrows.retain(|(from, to)| {
            all.iter().any(|(next, _)| next == to) && all.iter().any(|(_, last)| last == from)
        });
        if arrows.len() == all.len() {
            return arrows;
        }
    }
}

/// The circles of the crate `name` from its root file `start` on, and how many arrows it has.
fn of_crate(name: &str, start: &Path) -> (Vec<String>, usize) {
    let mut all = BTreeMap::new();
    let file = syn::parse_file(&read(start)).unwrap();
    gather(&file.items, start.parent().unwrap(), &Place::new(), &mut all);
    let (mut findings, mut checked) = (Vec::new(), 0);
    for (parent, arrows) in arrows(&all) {
        checked += arrows.len();
        let of = [&[name.to_owned()], parent.as_slice()].concat().join("::");
        let circles = circles(arrows).into_iter();
        findings.extend(circles.map(|(from, to)| format!("{of}: {from} → {to}")));
    }
    (findings, checked)
}

#[test]
fn modules_import_each_other_in_no_circle() {
    let mut findings = Vec::new();
    let mut checked = 0;
    for (manifest, name, _) in workspace() {
        let source = Path::new(&manifest).parent().unwrap().join("src");
        let starts = ["lib.rs", "main.rs"].map(|file| source.join(file));
        for start in starts.iter().filter(|start| root().join(start).exists()) {
            let (found, arrows) = of_crate(&name, start);
            findings.extend(found);
            checked += arrows;
        }
    }
    assert!(checked > 200, "only {checked} arrows between modules found: is the search broken?");
    expect_none(&findings, "modules that import each other in a circle");
}

#[test]
fn circles_are_found_through_names_that_a_parent_passes_on() {
    let file = syn::parse_file(
        "pub use a::One; mod a { fn f(_: &crate::b::Two) {} pub struct One; } \
         mod b { pub struct Two; mod c { use super::super::One; } } mod d { use crate::a; }",
    );
    let mut all = BTreeMap::new();
    gather(&file.unwrap().items, &PathBuf::new(), &Place::new(), &mut all);
    let found = circles(arrows(&all).remove(&Place::new()).unwrap());
    let found: Vec<_> = found.iter().map(|(from, to)| format!("{from} → {to}")).collect();
    assert_eq!(found, ["a → b", "b → a"]);
}
