//! Random sequences of what callers do, beside a model of what the store should show and keep.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Hold, Prune, Removed, Store};
use super::{Sample, check_files, name, names, open};
use crate::digest::Digest;
use crate::tests::Noise;

const LAYERS: [&str; 5] = ["one", "two", "three", "four", "five"];
const TAGS: [&str; 4] = ["a:1", "b:2", "c:3", "d:4"];

#[derive(Default)]
struct Model {
    /// Images in sight, and whether they are pinned.
    images: BTreeMap<usize, bool>,
    tags: BTreeMap<&'static str, usize>,
    uses: BTreeMap<usize, usize>,
    hidden: BTreeSet<usize>,
}

impl Model {
    fn in_use(&self, image: usize) -> bool {
        self.uses.get(&image).is_some_and(|count| *count > 0)
    }

    fn remove(&mut self, image: usize) -> Option<Removed> {
        self.images.remove(&image)?;
        self.tags.retain(|_, tagged| *tagged != image);
        let used = self.in_use(image);
        if used {
            self.hidden.insert(image);
        }
        Some(if used { Removed::InUse } else { Removed::Freed })
    }

    fn prune(&mut self, which: Prune) -> BTreeSet<usize> {
        let tagged: BTreeSet<_> = self.tags.values().copied().collect();
        let goes = |image: usize, pinned: bool| {
            !pinned && !self.in_use(image) && (which == Prune::Unused || !tagged.contains(&image))
        };
        let all = self.images.iter();
        let gone: BTreeSet<_> = all
            .filter(|(image, pinned)| goes(**image, **pinned))
            .map(|(image, _)| *image)
            .collect();
        for image in &gone {
            self.remove(*image);
        }
        gone
    }
}

struct Run {
    directory: tempfile::TempDir,
    store: Option<Store>,
    samples: Vec<Sample>,
    model: Model,
    holds: Vec<(usize, Hold)>,
    noise: Noise,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut noise = Noise::new(seed);
        let mut sample = |number: usize| {
            let count = noise.below(4);
            let layers: Vec<_> = (0..count).map(|_| noise.pick(&LAYERS)).collect();
            Sample::new(&number.to_string(), &layers)
        };
        let samples = (0..6).map(&mut sample).collect();
        let directory = tempfile::tempdir().unwrap();
        let store = Some(open(directory.path()));
        Self { directory, store, samples, model: Model::default(), holds: Vec::new(), noise }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn step(&mut self) {
        let (image, tag) = (self.noise.below(self.samples.len()), TAGS[self.noise.below(4)]);
        let id = self.samples[image].id();
        match self.noise.below(12) {
            0..3 => {
                self.samples[image].pull(self.store(), &[tag]).unwrap();
                self.model.images.entry(image).or_default();
                self.model.hidden.remove(&image);
                self.model.tags.insert(tag, image);
            }
            3 => {
                let tagged = self.store().tag(&id, &name(tag));
                assert_eq!(tagged.is_ok(), self.model.images.contains_key(&image));
                if tagged.is_ok() {
                    self.model.tags.insert(tag, image);
                }
            }
            4 => {
                let untagged = self.store().untag(&name(tag)).ok().map(|image| image.id.clone());
                let expected = self.model.tags.remove(tag);
                assert_eq!(untagged, expected.map(|image| self.samples[image].id()));
            }
            5 | 6 => {
                let removed = self.store().remove(&id);
                assert!(removed.as_ref().err().is_none_or(|error| error.is_not_found()));
                assert_eq!(removed.ok(), self.model.remove(image));
            }
            7 | 8 => {
                let hold = self.store().hold(&id).ok();
                assert_eq!(hold.is_some(), self.model.images.contains_key(&image));
                if let Some(hold) = hold {
                    *self.model.uses.entry(image).or_default() += 1;
                    self.holds.push((image, hold));
                }
            }
            9 => self.end_one(),
            10 => self.prune_or_pin(image, &id),
            _ => self.reopen(),
        }
    }

    fn end_one(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        let (image, hold) = self.holds.swap_remove(self.noise.below(self.holds.len()));
        // A use that is only dropped leaves its files to the next collection.
        if self.noise.below(2) == 0 {
            hold.end().unwrap()
        } else {
            drop(hold)
        }
        *self.model.uses.get_mut(&image).unwrap() -= 1;
        if !self.model.in_use(image) {
            self.model.hidden.remove(&image);
        }
    }

    fn prune_or_pin(&mut self, image: usize, id: &Digest) {
        if self.noise.below(2) == 0 {
            let which = [Prune::Untagged, Prune::Unused][self.noise.below(2)];
            let gone: BTreeSet<_> = self.store().prune(which).unwrap().into_iter().collect();
            let expected = self.model.prune(which).into_iter();
            assert_eq!(gone, expected.map(|image| self.samples[image].id()).collect());
        } else if let Some(pinned) = self.model.images.get_mut(&image) {
            *pinned = !*pinned;
            let pinned = *pinned;
            self.store().set_pinned(id, pinned).unwrap();
        }
    }

    /// The daemon starts again, and some containers have ended meanwhile.
    fn reopen(&mut self) {
        let used: Vec<_> = self.holds.drain(..).map(|(image, _)| image).collect();
        drop(self.store.take());
        let (store, findings) = Store::open(self.directory.path()).unwrap();
        assert_eq!(findings.broken, []);
        self.model.uses.clear();
        for image in used {
            if self.noise.below(3) > 0 {
                self.holds.push((image, store.hold(&self.samples[image].id()).unwrap()));
                *self.model.uses.entry(image).or_default() += 1;
            }
        }
        store.uses_known().unwrap();
        let Model { hidden, uses, .. } = &mut self.model;
        hidden.retain(|image| uses.contains_key(image));
        self.store = Some(store);
    }

    fn compare(&self) {
        let view = self.store().view();
        let expected: BTreeMap<_, _> = self
            .model
            .images
            .iter()
            .map(|(image, pinned)| {
                let tags = self.model.tags.iter().filter(|(_, tagged)| *tagged == image);
                let tags: Vec<_> = tags.map(|(tag, _)| name(tag).to_string()).collect();
                (self.samples[*image].id(), (tags, *pinned))
            })
            .collect();
        let shown =
            view.images().map(|image| (image.id.clone(), (names(&image.tags), image.pinned)));
        assert_eq!(shown.collect::<BTreeMap<_, _>>(), expected);
        self.store().collect().unwrap();
        let held = self.model.hidden.iter().flat_map(|image| self.samples[*image].diff_ids());
        check_files(self.store(), &held.collect::<Vec<_>>());
    }
}

#[test]
fn store_does_what_a_simple_model_of_it_does() {
    for seed in 0..12 {
        let mut run = Run::new(seed);
        for _ in 0..120 {
            run.step();
            if run.noise.below(3) == 0 {
                run.compare();
            }
        }
        run.compare();
    }
}
