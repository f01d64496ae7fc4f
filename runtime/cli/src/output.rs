//! What is printed: tables without lines, and JSON.

use std::io::{self, ErrorKind, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// Writes to standard output. That nobody reads any more is no failure.
pub(crate) fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints a value with a line's end.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    print(format!("{value:#}\n").as_bytes())
}

/// Columns with their heads (pure). What others have written has no control characters in it.
pub(crate) fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads);
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// A text of others, in one line.
fn printable(text: &str) -> String {
    let letter = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
    text.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_aligned_and_has_nothing_behind_its_lines() {
        let rows =
            [vec!["a".to_owned(), "long\u{1b}[2J".to_owned()], vec!["bcd".into(), "".into()]];
        let text = table(&["ID", "NAME"], rows);
        assert_eq!(text, "ID   NAME\na    long\u{fffd}[2J\nbcd\n");
    }
}
