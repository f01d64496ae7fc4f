//! Lists in pages, for clients that stream them: each message has some of the items, and no item
//! comes twice.

use std::pin::Pin;

use prost::Message;
use tokio_stream::Stream;
use tonic::Status;

/// A stream of messages.
pub(super) type Pages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// About how many bytes of items go into one message.
const BYTES: usize = 1 << 20;

/// Messages that `page` makes of some items each, all in all of all of them; none for no item.
pub(super) fn pages<I: Message, T: Send + 'static>(
    items: Vec<I>,
    page: impl Fn(Vec<I>) -> T,
) -> Pages<T> {
    let (mut messages, mut some, mut bytes) = (Vec::new(), Vec::new(), 0);
    for item in items {
        let size = item.encoded_len();
        if bytes + size > BYTES && !some.is_empty() {
            messages.push(Ok(page(std::mem::take(&mut some))));
            bytes = 0;
        }
        bytes += size;
        some.push(item);
    }
    if !some.is_empty() {
        messages.push(Ok(page(some)));
    }
    Box::pin(tokio_stream::iter(messages))
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn items_come_once_each_and_no_message_is_empty() {
        let items = vec!["x".repeat(BYTES / 2 + 1); 5];
        let messages: Vec<_> = pages(items, |items| items.len()).collect().await;
        assert_eq!(messages.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1; 5]);
        let small = vec!["x".to_owned(); 5];
        let messages: Vec<_> = pages(small, |items| items.len()).collect().await;
        assert_eq!(messages.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [5]);
        let none: Vec<_> = pages(Vec::<String>::new(), |items| items.len()).collect().await;
        assert!(none.is_empty());
    }
}
