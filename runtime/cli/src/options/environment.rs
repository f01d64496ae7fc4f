//! `-e` and `--env-file`: variables for a container.

use std::path::Path;

use protocol::cri::KeyValue;

/// A variable as it was asked for; without a value it has that of the same name here.
type Asked = (String, Option<String>);

/// Reads `NAME=VALUE` or `NAME`.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn variable(text: &str) -> Result<Asked, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    match name.is_empty() || text.contains('\0') {
        true => Err(format!("{text:?} is no variable such as NAME=VALUE")),
        false => Ok((name.to_owned(), value)),
    }
}

/// Reads the text of a file of variables: one a line. Empty lines and those that begin with `#`
/// say nothing.
///
/// # Errors
/// A sentence for the user, with the line.
pub(crate) fn file(path: &Path, text: &str) -> Result<Vec<Asked>, String> {
    let said = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_start()));
    let said = said.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    said.map(|(at, line)| {
        let (name, value) = variable(line).map_err(|e| format!("{}:{at}: {e}", path.display()))?;
        match name.contains(char::is_whitespace) {
            true => Err(format!("{}:{at}: the name {name:?} has a space", path.display())),
            false => Ok((name, value)),
        }
    })
    .collect()
}

/// The variables for a container. A later one of the same name counts. One without a value that
/// `here` does not know is left out.
pub(crate) fn all(
    asked: impl IntoIterator<Item = Asked>,
    here: impl Fn(&str) -> Option<String>,
) -> Vec<KeyValue> {
    let mut all: Vec<KeyValue> = Vec::new();
    for (key, value) in asked {
        let Some(value) = value.or_else(|| here(&key)) else { continue };
        all.retain(|one| one.key != key);
        all.push(KeyValue { key, value: value.into_bytes() });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_variable_counts_and_one_without_a_value_is_taken_from_here() {
        let text = "# words\n\nA=1\n  B=two words \nHOME\nNONE\n";
        let mut asked = file(Path::new("f"), text).unwrap();
        asked.push(variable("A=x=y").unwrap());
        let all = all(asked, |name| (name == "HOME").then(|| "/root".to_owned()));
        let all: Vec<_> = all
            .iter()
            .map(|one| format!("{}={}", one.key, String::from_utf8_lossy(&one.value)))
            .collect();
        assert_eq!(all, ["B=two words ", "HOME=/root", "A=x=y"]);
    }

    #[test]
    fn what_is_no_variable_is_refused_with_its_line() {
        assert!(variable("=x").is_err() && variable("").is_err() && variable("A=\0").is_err());
        let error = file(Path::new("f"), "A=1\nexport B=2\n").unwrap_err();
        assert_eq!(error, r#"f:2: the name "export B" has a space"#);
    }
}
