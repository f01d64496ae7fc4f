//! A blob's bytes. A connection that breaks is replaced by another one, which goes on where the
//! first one ended: nothing is given out twice.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::Stream;
use http::header::{CONTENT_ENCODING, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::Response;

use super::answer::ContentRange;
use super::fault::{Failures, Fault};
use super::host::{Host, Wanted};
use super::patience::Watch;
use super::{Pull, RegistryError};
use crate::digest::{Mismatch, Verifier};
use crate::manifest::Blob;
use crate::text::quoted;

/// The bytes of a blob, in order. After an error nothing comes any more.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, RegistryError>> + Send>>;

pub(super) fn stream(pull: Arc<Pull>, blob: Blob) -> BlobStream {
    let transfer = Transfer::new(pull, blob);
    Box::pin(futures::stream::try_unfold(transfer, |mut transfer| async move {
        Ok(transfer.next().await?.map(|bytes| (bytes, transfer)))
    }))
}

/// Where a blob's transfer is.
struct Transfer {
    pull: Arc<Pull>,
    blob: Blob,
    /// None: all of it was given out.
    verifier: Option<Verifier>,
    /// The servers to ask. The first one is being asked.
    hosts: VecDeque<Arc<Host>>,
    /// Those that gave bytes.
    sources: Vec<Arc<Host>>,
    body: Option<Body>,
    /// The last bytes, until it is known that no more come.
    last: Option<Bytes>,
    failures: Failures,
    /// Attempts at the first server since `mark` bytes were there.
    attempts: u32,
    mark: u64,
    /// It refused to begin in the middle.
    from_start: bool,
}

/// An answer that is being read.
struct Body {
    response: Response,
    watch: Watch,
    /// Bytes to come that were given out before.
    skip: u64,
}

impl Transfer {
    fn new(pull: Arc<Pull>, blob: Blob) -> Self {
        let verifier = Some(Verifier::new(blob.digest.clone(), Some(blob.size)));
        let hosts = pull.candidates(false).into();
        Self {
            pull,
            blob,
            verifier,
            hosts,
            sources: Vec::new(),
            body: None,
            last: None,
            failures: Failures::default(),
            attempts: 0,
            mark: 0,
            from_start: false,
        }
    }

    /// The next bytes. None: all were given out, and are the blob's content.
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while self.verifier.is_some() {
            let bytes = self.step().await?;
            if bytes.is_some() {
                return Ok(bytes);
            }
        }
        Ok(None)
    }

    /// A request, or the next bytes of its answer. None: there is nothing to give out yet.
    async fn step(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let Some(mut body) = self.body.take() else {
            self.open().await?;
            return Ok(None);
        };
        let (taken, size) = (self.taken(), self.blob.size);
        match body.next(&self.pull).await {
            Ok(Some(bytes)) => {
                self.body = Some(body);
                return self.take(bytes).await;
            }
            Ok(None) | Err(_) if taken == size => {
                self.finish()?;
                return Ok(self.last.take());
            }
            Ok(None) => {
                let ended = format!("it ended after {taken} of {size} bytes");
                self.failed(Fault::Broken(ended)).await?;
            }
            Err(fault) => self.failed(fault).await?,
        }
        Ok(None)
    }

    fn taken(&self) -> u64 {
        self.verifier.as_ref().map_or(self.blob.size, Verifier::taken)
    }

    /// Takes bytes, and gives them out unless they are none. The last ones are checked before.
    async fn take(&mut self, bytes: Bytes) -> Result<Option<Bytes>, RegistryError> {
        let Some(verifier) = self.verifier.as_mut().filter(|_| !bytes.is_empty()) else {
            return Ok(None);
        };
        let whole = verifier.taken() == self.blob.size;
        if let Err(mismatch) = verifier.update(&bytes) {
            if whole {
                return Err(self.refused(mismatch));
            }
            self.failed(mismatch.into()).await?;
            return Ok(None);
        }
        let source = self.hosts.front();
        let known = |host: &&Arc<Host>| self.sources.iter().any(|other| Arc::ptr_eq(other, host));
        self.sources.extend(source.filter(|host| !known(host)).cloned());
        if self.taken() < self.blob.size {
            return Ok(Some(bytes));
        }
        // Without a length more may come than there should be.
        let bounded =
            self.body.as_ref().is_some_and(|body| body.response.content_length().is_some());
        if bounded {
            self.finish()?;
            return Ok(Some(bytes));
        }
        self.last = Some(bytes);
        Ok(None)
    }

    /// Ends the transfer with the check of all bytes.
    fn finish(&mut self) -> Result<(), RegistryError> {
        self.body = None;
        let Some(verifier) = self.verifier.take() else { return Ok(()) };
        verifier.finish().map(drop).map_err(|mismatch| self.refused(mismatch))
    }

    /// The end by content that is not the blob's.
    fn refused(&self, mismatch: Mismatch) -> RegistryError {
        self.sources.iter().for_each(|host| host.doubtful.store(true, Ordering::Relaxed));
        RegistryError::Content(mismatch)
    }

    /// Asks the first server for what is missing. A failure of it is noted.
    async fn open(&mut self) -> Result<(), RegistryError> {
        let pull = self.pull.clone();
        let Some(host) = self.hosts.front().cloned() else {
            let failures = std::mem::take(&mut self.failures);
            return Err(RegistryError::Servers { what: self.blob.digest.to_string(), failures });
        };
        let taken = self.taken();
        let mut headers = HeaderMap::new();
        if taken > 0 && !self.from_start {
            // Digits and a dash are a header's value.
            let range = HeaderValue::from_str(&format!("bytes={taken}-"));
            headers.extend(range.ok().map(|range| (RANGE, range)));
        }
        let asked = if headers.is_empty() { 0 } else { taken };
        let answer = host.get(&pull, Wanted::Blob(&self.blob.digest), &headers).await;
        match answer.and_then(|response| self.accept(response, asked)) {
            Ok(body) => self.body = Some(body),
            Err(Fault::Status { status: 416, .. }) if asked > 0 => self.from_start = true,
            Err(fault) => self.failed(fault).await?,
        }
        Ok(())
    }

    /// Checks the header of an answer to a request from the byte `asked` on.
    fn accept(&self, response: Response, asked: u64) -> Result<Body, Fault> {
        let size = self.blob.size;
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING) {
            let encoding = encoding.to_str().unwrap_or_default();
            if !encoding.eq_ignore_ascii_case("identity") {
                let text = format!("it encodes the content in another way: {}", quoted(encoding));
                return Err(Fault::Lie(text));
            }
        }
        let mut expected = size;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let text = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            let text = text.unwrap_or_default();
            let fits = |range: &ContentRange| {
                let whole = range.whole.is_none_or(|whole| whole == size);
                asked > 0 && range.first == asked && range.last < size && whole
            };
            let range = ContentRange::parse(text).filter(fits).ok_or_else(|| {
                let wanted = format!("bytes {asked}-{}/{size}", size.saturating_sub(1));
                Fault::Lie(format!("it sends {} in place of {wanted}", quoted(text)))
            })?;
            expected = range.length();
        }
        if let Some(length) = response.content_length().filter(|length| *length != expected) {
            return Err(Fault::Lie(format!("it sends {length} bytes in place of {expected}")));
        }
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let skip = if partial { 0 } else { self.taken() };
        Ok(Body { response, watch: Watch::new(), skip })
    }

    /// Notes a failure of the first server. It is asked again after a pause, or the next one is.
    async fn failed(&mut self, fault: Fault) -> Result<(), RegistryError> {
        self.body = None;
        let Some(host) = self.hosts.front() else { return Ok(()) };
        let taken = self.taken();
        if taken.saturating_sub(self.mark) >= self.pull.patience.progress {
            (self.attempts, self.mark) = (0, taken);
        }
        self.attempts += 1;
        let unreached = matches!(fault, Fault::Unreachable(_) | Fault::Untrusted(_));
        if unreached || matches!(fault, Fault::Lie(_)) {
            host.doubtful.store(true, Ordering::Relaxed);
        }
        let (passing, wait) = (fault.is_passing(), fault.wait());
        self.failures.note(&host.endpoint().host, fault);
        let others = self.hosts.len() > 1;
        if passing && self.attempts < self.pull.patience.attempts && !(unreached && others) {
            tokio::time::sleep(self.pull.patience.pause(self.attempts - 1, wait)).await;
            return Ok(());
        }
        self.hosts.pop_front();
        (self.attempts, self.mark, self.from_start) = (0, taken, false);
        Ok(())
    }
}

impl Body {
    /// The next bytes that were not given out before; they may be none. None: it ended.
    async fn next(&mut self, pull: &Pull) -> Result<Option<Bytes>, Fault> {
        let chunk = self.watch.chunk(&pull.patience, &mut self.response).await?;
        Ok(chunk.map(|mut bytes| {
            let known = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= known as u64;
            bytes.split_off(known)
        }))
    }
}
