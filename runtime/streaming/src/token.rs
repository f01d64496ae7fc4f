//! Addresses that were given out: each is good once, and not for long.

use std::collections::VecDeque;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::error::Error;

/// Bytes of a token; written as twice as many hexadecimal digits.
const BYTES: usize = 16;

struct Entry<T> {
    token: String,
    until: Instant,
    content: T,
}

/// What waits for its client, oldest first.
pub(crate) struct Tokens<T> {
    entries: VecDeque<Entry<T>>,
    most: usize,
    life: Duration,
}

impl<T> Tokens<T> {
    pub(crate) fn new(most: usize, life: Duration) -> Self {
        Self { entries: VecDeque::new(), most, life }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while self.entries.front().is_some_and(|oldest| oldest.until <= now) {
            self.entries.pop_front();
        }
    }

    /// Keeps `content` and returns its token.
    pub(crate) fn insert(&mut self, content: T) -> Result<String, Error> {
        self.expire();
        if self.entries.len() >= self.most {
            return Err(Error::TooManyWaiting);
        }
        let mut random = [0; BYTES];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let until = Instant::now() + self.life;
        self.entries.push_back(Entry { token: token.clone(), until, content });
        Ok(token)
    }

    /// Takes what a token was given for. All tokens are compared, each in the same time, so that
    /// a wrong one says nothing of a right one.
    pub(crate) fn take(&mut self, token: &str) -> Option<T> {
        self.expire();
        let same = |entry: &Entry<T>| bool::from(entry.token.as_bytes().ct_eq(token.as_bytes()));
        let found = self
            .entries
            .iter()
            .enumerate()
            .fold(None, |found, (at, entry)| if same(entry) { Some(at) } else { found });
        found.and_then(|at| self.entries.remove(at)).map(|entry| entry.content)
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn token_is_good_once() {
        let mut tokens = Tokens::new(2, LIFE);
        let (first, second) = (tokens.insert(1).unwrap(), tokens.insert(2).unwrap());
        assert_eq!(first.len(), 32);
        assert_ne!(first, second);
        assert!(matches!(tokens.insert(3), Err(Error::TooManyWaiting)));
        assert_eq!(tokens.take(&first), Some(1));
        assert_eq!(tokens.take(&first), None);
        assert_eq!(tokens.take(&second[..31]), None);
        assert_eq!(tokens.take(""), None);
        assert_eq!(tokens.take(&second), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn token_lives_a_minute() {
        let mut tokens = Tokens::new(1, LIFE);
        let token = tokens.insert(1).unwrap();
        tokio::time::advance(LIFE - Duration::from_millis(1)).await;
        assert!(matches!(tokens.insert(2), Err(Error::TooManyWaiting)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(tokens.take(&token), None);
        assert!(tokens.insert(2).is_ok());
    }
}
