//! An OCI configuration as it was written, with the types of the crate `oci-spec` for what the host
//! reads and changes of it (pure).
//!
//! The crate's types lose what they do not know, and refuse what runc takes. So the document stays
//! what it is, JSON, and only the part at hand is read as one of its types. A change is written back
//! as the difference that it makes. What the host does not touch reaches the guest as it was written.
//! What the crate lacks for the parts that the host does read is here:
//!
//! | written | `oci-spec` | here, as in runc |
//! |---|---|---|
//! | `null`, which Go writes for nothing | refused for numbers, texts and flags | not written |
//! | the empty type of a device rule | refused | not written, which means all types |
//! | the empty path of a namespace | a path | none |
//!
//! See `docs/decisions/oci-spec.md`.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;

use api::Error;
use oci_spec::runtime::LinuxNamespace;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A configuration, or the part of one that a caller sent: a JSON object. Paths in it are JSON
/// pointers.
#[derive(Debug, Clone, PartialEq)]
pub struct Document(Value);

impl Default for Document {
    fn default() -> Self {
        Self(Value::Object(Map::new()))
    }
}

impl Document {
    /// Takes what was read from `what`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not a JSON object.
    pub fn new(json: Value, what: impl Display) -> Result<Self, Error> {
        match json {
            Value::Object(_) => Ok(Self(json)),
            _ => Err(Error::Invalid(format!("{what} is not a JSON object"))),
        }
    }

    /// Reads the text of `what`, a file.
    ///
    /// # Errors
    /// As [`Document::new`], and when it is no JSON.
    pub fn parse(text: &[u8], what: impl Display) -> Result<Self, Error> {
        let json = serde_json::from_slice(text)
            .map_err(|error| Error::Invalid(format!("parsing {what}: {error}")))?;
        Self::new(json, what)
    }

    /// A configuration that says nothing but `resources`.
    ///
    /// # Errors
    /// As [`Document::new`].
    pub(crate) fn of_resources(resources: Value) -> Result<Self, Error> {
        let Self(resources) = Self::new(resources, "what was sent as resources")?;
        let mut document = Self::default();
        document.set("/linux/resources", resources)?;
        Ok(document)
    }

    /// What is written at `path`, null for nothing; the document itself at the empty path.
    pub fn json(&self, path: &str) -> &Value {
        self.0.pointer(path).unwrap_or(&Value::Null)
    }

    /// What is written at `path`, if anything is.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is something else.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        match self.json(path) {
            Value::Null => Ok(None),
            written => read(written, path).map(Some),
        }
    }

    /// The text at `path`; none for an empty one, which Go can't tell from nothing.
    ///
    /// # Errors
    /// As [`Document::get`].
    pub(crate) fn text(&self, path: &str) -> Result<Option<String>, Error> {
        Ok(self.get(path)?.filter(|text: &String| !text.is_empty()))
    }

    /// The annotations of a configuration.
    ///
    /// # Errors
    /// As [`Document::get`].
    pub fn annotations(&self) -> Result<HashMap<String, String>, Error> {
        Ok(self.get("/annotations")?.unwrap_or_default())
    }

    /// The entries of the list at `path`; none where nothing is written.
    ///
    /// # Errors
    /// As [`Document::get`].
    pub(crate) fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Error> {
        let list = match self.json(path) {
            Value::Null => return Ok(Vec::new()),
            Value::Array(list) => list,
            _ => return Err(wrong(path, "is no list")),
        };
        let typed = |(index, entry)| read(entry, &format!("{path}/{index}"));
        list.iter().enumerate().map(typed).collect()
    }

    /// Changes what is written at `path`, if anything is.
    ///
    /// # Errors
    /// As [`Document::get`].
    pub(crate) fn edit<T: Serialize + DeserializeOwned>(
        &mut self,
        path: &str,
        change: impl FnOnce(&mut T),
    ) -> Result<(), Error> {
        match self.0.pointer_mut(path) {
            None | Some(Value::Null) => Ok(()),
            Some(written) => edit(written, path, change),
        }
    }

    /// Changes the entries of the list at `path`, told with their index, and leaves those for which
    /// `change` answers true.
    ///
    /// # Errors
    /// As [`Document::get`], and what `change` answers.
    pub(crate) fn retain<T: Serialize + DeserializeOwned>(
        &mut self,
        path: &str,
        mut change: impl FnMut(usize, &mut T) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let list = match self.0.pointer_mut(path) {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(wrong(path, "is no list")),
        };
        let mut left = Vec::with_capacity(list.len());
        for (index, mut entry) in std::mem::take(list).into_iter().enumerate() {
            let path = format!("{path}/{index}");
            if edit(&mut entry, &path, |typed| change(index, typed))?? {
                left.push(entry);
            }
        }
        *list = left;
        Ok(())
    }

    /// Adds an entry to the list at `path`.
    ///
    /// # Errors
    /// As [`Document::set`]; [`Error::Invalid`] when there is something else than a list.
    pub(crate) fn push(&mut self, path: &str, entry: &impl Serialize) -> Result<(), Error> {
        let place = self.place(path)?;
        if place.is_null() {
            *place = Value::Array(Vec::new());
        }
        let list = place.as_array_mut().ok_or_else(|| wrong(path, "is no list"))?;
        list.push(write(entry, path)?);
        Ok(())
    }

    /// Writes `value` at `path`, whatever is there.
    ///
    /// # Errors
    /// [`Error::Invalid`] when what is to hold it is no object.
    pub(crate) fn set(&mut self, path: &str, value: impl Into<Value>) -> Result<(), Error> {
        *self.place(path)? = value.into();
        Ok(())
    }

    /// Takes out what is written at `path`; whether it said anything.
    pub(crate) fn remove(&mut self, path: &str) -> bool {
        let Some((holder, name)) = path.rsplit_once('/') else { return false };
        let holder = self.0.pointer_mut(holder).and_then(Value::as_object_mut);
        holder.and_then(|holder| holder.remove(name)).is_some_and(|value| says_something(&value))
    }

    fn place(&mut self, path: &str) -> Result<&mut Value, Error> {
        let mut place = &mut self.0;
        for name in path.split('/').skip(1) {
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
            let holder = place.as_object_mut();
            let holder = holder.ok_or_else(|| wrong(path, "is in something that is no object"))?;
            place = holder.entry(name).or_insert(Value::Null);
        }
        Ok(place)
    }
}

/// The namespace that an entry joins, if it does not make one.
pub(crate) fn joined(namespace: &LinuxNamespace) -> Option<&Path> {
    namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn edit<T: Serialize + DeserializeOwned, R>(
    written: &mut Value,
    path: &str,
    change: impl FnOnce(&mut T) -> R,
) -> Result<R, Error> {
    let mut typed: T = read(written, path)?;
    let before = write(&typed, path)?;
    let outcome = change(&mut typed);
    merge(written, &before, write(&typed, path)?);
    Ok(outcome)
}

/// Makes in `written` the change from `before` to `after`, and no other.
fn merge(written: &mut Value, before: &Value, after: Value) {
    if *before == after {
        return;
    }
    match (&mut *written, before, after) {
        (Value::Object(written), Value::Object(before), Value::Object(after)) => {
            written.retain(|name, _| !before.contains_key(name) || after.contains_key(name));
            for (name, after) in after.into_iter().filter(|(name, v)| before.get(name) != Some(v)) {
                let before = before.get(&name).unwrap_or(&Value::Null);
                merge(written.entry(name).or_insert(Value::Null), before, after);
            }
        }
        (_, _, after) => *written = after,
    }
}

fn read<T: DeserializeOwned>(written: &Value, path: &str) -> Result<T, Error> {
    serde_json::from_value(mended(written)).map_err(|error| wrong(path, error))
}

fn write(typed: &impl Serialize, path: &str) -> Result<Value, Error> {
    serde_json::to_value(typed).map_err(|error| wrong(path, error))
}

fn wrong(path: &str, why: impl Display) -> Error {
    Error::Invalid(format!("OCI configuration: {path}: {why}"))
}

/// A copy without what says nothing, for types that refuse it.
fn mended(written: &Value) -> Value {
    match written {
        Value::Object(map) => {
            let nothing = |name: &str, value: &Value| {
                value.is_null() || (name == "type" && value.as_str() == Some(""))
            };
            let stated = map.iter().filter(|(name, value)| !nothing(name, value));
            stated.map(|(name, value)| (name.clone(), mended(value))).collect()
        }
        Value::Array(list) => list.iter().map(mended).collect(),
        other => other.clone(),
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(map) => map.values().any(says_something),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
impl From<Value> for Document {
    fn from(json: Value) -> Self {
        Self::new(json, "the test's").unwrap()
    }
}

#[cfg(test)]
mod tests;
