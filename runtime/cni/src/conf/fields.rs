//! Fields of a JSON object of a file. Errors name the file and the field. This module is pure.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::text::quoted;

/// A JSON object of a file.
pub(super) struct Fields<'a> {
    path: &'a Path,
    /// Where in the file it is: a dot ends it, or it is empty.
    place: String,
    map: Cow<'a, Map<String, Value>>,
}

impl<'a> Fields<'a> {
    pub(super) fn parse(bytes: &[u8], path: &'a Path) -> Result<Self, Error> {
        let wrong = |problem: String| Error::conf(path, "the file", problem);
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| wrong(format!("no JSON: {error}")))?;
        let Value::Object(map) = value else {
            return Err(wrong("it holds no JSON object".to_owned()));
        };
        Ok(Self { path, place: String::new(), map: Cow::Owned(map) })
    }

    /// The object that is the value of a field.
    pub(super) fn nested<'b>(
        &'b self,
        value: &'b Value,
        field: String,
    ) -> Result<Fields<'b>, Error> {
        let map = value.as_object().ok_or_else(|| self.error(&field, "it is no object"))?;
        let place = format!("{}{field}.", self.place);
        Ok(Fields { path: self.path, place, map: Cow::Borrowed(map) })
    }

    pub(super) fn map(&self) -> &Map<String, Value> {
        &self.map
    }

    pub(super) fn error(&self, field: &str, problem: impl Into<String>) -> Error {
        Error::conf(self.path, format!("{}{field}", self.place), problem)
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<&str>, Error> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(field, "it is no text")),
        }
    }

    pub(super) fn list(&self, field: &str) -> Result<Option<&[Value]>, Error> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(self.error(field, "it is no list")),
        }
    }

    /// A flag, which libcni takes as a text as well. Without one it is not set.
    pub(super) fn flag(&self, field: &str) -> Result<bool, Error> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(self.error(field, "it is neither true nor false")),
        }
    }

    /// The names of an object's flags that are set.
    pub(super) fn flags(&self, field: &str) -> Result<BTreeSet<String>, Error> {
        let object = match self.map.get(field) {
            None | Some(Value::Null) => return Ok(BTreeSet::new()),
            Some(value) => value.as_object().ok_or_else(|| self.error(field, "it is no object"))?,
        };
        let set = |(name, value): (&String, &Value)| match value {
            Value::Bool(true) => Some(Ok(name.clone())),
            Value::Bool(false) => None,
            _ => {
                let field = format!("{field}.{}", quoted(name));
                Some(Err(self.error(&field, "it is neither true nor false")))
            }
        };
        object.iter().filter_map(set).collect()
    }
}
