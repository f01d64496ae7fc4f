//! The companion itself: one thread, and one connection for each request.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use logs::records::Stream;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::container::Container;
use crate::words::{MAX_LINE, Outputs, Reply, Request};

/// What a companion has.
#[derive(Debug, Default)]
struct State {
    containers: Mutex<HashMap<String, Container>>,
    /// Keeps two openings of the same outputs apart.
    opening: tokio::sync::Mutex<()>,
    over: Notify,
}

/// Serves until it is told to end.
///
/// # Errors
/// What the kernel answered when no connection can be taken.
pub async fn serve(listener: UnixListener) -> io::Result<()> {
    let state = Arc::new(State::default());
    // They end with this.
    let mut connections = JoinSet::new();
    loop {
        let (connection, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = state.over.notified() => return Ok(()),
        };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            if let Err(error) = answer(&state, connection).await {
                log::warn!("a request: {error}");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(state: &State, mut connection: UnixStream) -> io::Result<()> {
    let (input, mut output) = connection.split();
    let mut line = String::new();
    BufReader::new(input.take(MAX_LINE)).read_line(&mut line).await?;
    if line.is_empty() {
        // Somebody looks whether anybody listens.
        return Ok(());
    }
    let request: Request = serde_json::from_str(&line).map_err(io::Error::other)?;
    let end = request == Request::End;
    let error = state.run(request).await.err().map(|error| error.to_string());
    let mut text = serde_json::to_vec(&Reply { error }).map_err(io::Error::other)?;
    text.push(b'\n');
    let written = output.write_all(&text).await;
    if end {
        state.over.notify_one();
    }
    written
}

impl State {
    fn containers(&self) -> MutexGuard<'_, HashMap<String, Container>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, request: Request) -> io::Result<()> {
        match request {
            Request::Open(outputs) => self.open(&outputs).await,
            Request::Reopen { id } => {
                let log = self.of(&id, |container| container.log())?;
                let log = log.ok_or_else(|| io::Error::other("the container has no log"))?;
                log.reopen().await
            }
            Request::Attach { id, stdout, stderr } => self.attach(&id, stdout, stderr),
            Request::Drain { id } => {
                let drain = self.of(&id, |container| container.drain())?;
                drain.done().await;
                Ok(())
            }
            Request::Close { id } => {
                let drain = self.containers().get(&id).map(Container::drain);
                if let Some(drain) = drain {
                    drain.last().await;
                }
                drop(self.containers().remove(&id));
                Ok(())
            }
            Request::End => Ok(()),
        }
    }

    fn of<T>(&self, id: &str, get: impl FnOnce(&mut Container) -> T) -> io::Result<T> {
        let mut containers = self.containers();
        let container = containers.get_mut(id);
        container.map(get).ok_or_else(|| io::Error::other(format!("no outputs of container {id}")))
    }

    async fn open(&self, outputs: &Outputs) -> io::Result<()> {
        let _one = self.opening.lock().await;
        if self.containers().contains_key(&outputs.id) {
            return Ok(());
        }
        let container = Container::open(outputs).await?;
        self.containers().insert(outputs.id.clone(), container);
        Ok(())
    }

    fn attach(&self, id: &str, stdout: Option<PathBuf>, stderr: Option<PathBuf>) -> io::Result<()> {
        for (path, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
            if let Some(path) = path {
                self.of(id, |container| container.attach(stream, &path))??;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
