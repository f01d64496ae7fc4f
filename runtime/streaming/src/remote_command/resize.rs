//! Sizes of the terminal: objects of JSON, one behind the other, in pieces of any length.

use serde_json::{Deserializer, Value};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

use crate::streams::Size;

/// Most bytes of an object that has no end yet.
const MOST: usize = 4096;

/// Passes on sizes as they come, to the end of input. What can't be read ends the sizes, but not
/// the reading: the client's other streams come behind.
pub(super) async fn follow(mut input: impl AsyncRead + Unpin, sizes: watch::Sender<Option<Size>>) {
    let mut sizes = Some(sizes);
    let mut text = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(count @ 1..) = input.read(&mut piece).await {
        let Some(told) = &sizes else { continue };
        text.extend_from_slice(piece.get(..count).unwrap_or_default());
        if !take(&mut text, told) {
            log::info!("streaming: a client's sizes of its terminal are no sizes");
            (sizes, text) = (None, Vec::new());
        }
    }
}

/// Takes whole objects from the front of `text`; false if there is anything else.
fn take(text: &mut Vec<u8>, sizes: &watch::Sender<Option<Size>>) -> bool {
    let mut objects = Deserializer::from_slice(text).into_iter::<Value>();
    let good = loop {
        match objects.next() {
            Some(Ok(object)) => match size(&object) {
                Some(size) => drop(sizes.send_replace(Some(size))),
                None => break false,
            },
            Some(Err(error)) => break error.is_eof(),
            None => break true,
        }
    };
    let used = objects.byte_offset();
    text.drain(..used.min(text.len()));
    good && text.len() <= MOST
}

/// Fields are found as Go finds them, without regard to case; one that is missing is 0.
fn size(object: &Value) -> Option<Size> {
    let object = object.as_object()?;
    let field = |name: &str| {
        let found = object.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map_or(Some(0), |(_, value)| u16::try_from(value.as_u64()?).ok())
    };
    Some(Size { columns: field("Width")?, rows: field("Height")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn last_of(pieces: &[&str]) -> (Option<Size>, bool) {
        let (sizes, told) = watch::channel(None);
        let (mut client, input) = tokio::io::duplex(64);
        let follows = tokio::spawn(follow(input, sizes));
        for piece in pieces {
            tokio::io::AsyncWriteExt::write_all(&mut client, piece.as_bytes()).await.unwrap();
        }
        // All is taken, whatever it is.
        drop(client);
        follows.await.unwrap();
        let size = *told.borrow();
        (size, told.has_changed().is_err())
    }

    #[tokio::test]
    async fn latest_size_counts() {
        let size = |columns, rows| (Some(Size { columns, rows }), true);
        assert_eq!(last_of(&[r#"{"Width":80,"Height":24}"#]).await, size(80, 24));
        let pieces = [r#"{"Width":1,"Height":2}{"wid"#, r#"th":3,"Height":4}"#, "\n", "{"];
        assert_eq!(last_of(&pieces).await, size(3, 4));
        assert_eq!(last_of(&[r#"{"Width":65535}"#]).await, size(65535, 0));
    }

    #[tokio::test]
    async fn what_is_no_size_ends_sizes_but_not_reading() {
        let long = format!(r#"{{"Width":1,"{}"#, "x".repeat(MOST));
        for wrong in ["7", "x", r#"{"Width":65536}"#, r#"{"Width":-1}"#, &long] {
            let good = r#"{"Width":5,"Height":6}"#;
            let (size, _) = last_of(&[good, wrong, &" ".repeat(5000), r#"{"Width":9}"#]).await;
            assert_eq!(size, Some(Size { columns: 5, rows: 6 }), "{wrong:.40}");
        }
    }
}
