//! Loggers: programs of containerd's `binary://` form. Descriptor 3 is the process's output, 4
//! its error output, 5 the pipe on which the logger says that it is ready.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use api::Error;
use host::spawn::{self, Watched};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::Owner;

/// How long a logger may take until it is ready.
const READY: Duration = Duration::from_secs(20);

/// A logger to start.
#[derive(Debug)]
pub struct Logger {
    /// The program.
    pub binary: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether it says that it is ready by a byte; otherwise by closing the pipe.
    pub wait_byte: bool,
}

impl Logger {
    /// Starts the program, waits until it is ready, and returns its two pipes.
    ///
    /// # Errors
    /// [`Error::Failed`] when it does not start or is not ready in time.
    pub async fn start(&self, owner: &Owner) -> Result<(pipe::Sender, pipe::Sender), Error> {
        let doing = format!("starting logger {}", self.binary.display());
        let failed = |error: io::Error| Error::failed(&doing, &error);
        let pair = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()));
        let (out_reader, out_writer) = pair()?;
        let (err_reader, err_writer) = pair()?;
        let (ready_reader, ready_writer) = pair()?;
        let watched = self.spawn(owner, [out_reader, err_reader, ready_writer]).map_err(failed)?;
        let sender = |writer: OwnedFd| pipe::Sender::from_owned_fd(writer).map_err(failed);
        let mut ready = pipe::Receiver::from_owned_fd(ready_reader).map_err(failed)?;
        let mut byte = [0; 1];
        let answer = tokio::time::timeout(READY, ready.read(&mut byte)).await;
        let late = match answer {
            Ok(Ok(1)) => None,
            Ok(Ok(_)) if !self.wait_byte => None,
            Ok(Ok(_)) => Some("ended before it was ready".to_owned()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("was not ready within {} s", READY.as_secs())),
        };
        if let Some(late) = late {
            watched.kill();
            return Err(Error::Failed(format!("{doing}: {late}")));
        }
        Ok((sender(out_writer)?, sender(err_writer)?))
    }

    fn spawn(&self, owner: &Owner, fds: [OwnedFd; 3]) -> io::Result<std::sync::Arc<Watched>> {
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments);
        command.env("CONTAINER_ID", owner.container.as_str());
        command.env("CONTAINER_NAMESPACE", owner.namespace.as_str());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = spawn::spawn(command, &fds)?;
        let watched = std::sync::Arc::new(Watched::new(child)?);
        let reaped = watched.clone();
        // Ends when its pipes do; until then somebody has to be there to reap it.
        tokio::spawn(async move {
            match reaped.wait().await {
                Ok(end) => log::debug!("logger {end}"),
                Err(error) => log::warn!("waiting for a logger: {error}"),
            }
        });
        Ok(watched)
    }
}

#[cfg(test)]
mod tests {
    use api::{ContainerId, Namespace};
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn owner() -> Owner {
        let namespace = Namespace::new("ns").unwrap();
        Owner { namespace, container: ContainerId::new("web").unwrap() }
    }

    fn shell(script: &str, wait_byte: bool) -> Logger {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        Logger { binary: "/bin/sh".into(), arguments, wait_byte }
    }

    #[tokio::test]
    async fn logger_gets_streams_names_and_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        let done = dir.path().join("done");
        rustix::fs::mkfifoat(rustix::fs::CWD, &done, rustix::fs::Mode::RWXU).unwrap();
        let script = format!(
            "exec 5>&-; echo $CONTAINER_NAMESPACE $CONTAINER_ID >{f}; cat <&3 >>{f}; cat <&4 >>{f}; : >{d}",
            f = file.display(),
            d = done.display()
        );
        let mut end = pipe::OpenOptions::new().open_receiver(&done).unwrap();
        let (mut out, mut err) = shell(&script, false).start(&owner()).await.unwrap();
        out.write_all(b"out\n").await.unwrap();
        drop(out);
        err.write_all(b"err\n").await.unwrap();
        drop(err);
        end.readable().await.unwrap();
        assert_eq!(end.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(std::fs::read_to_string(file).unwrap(), "ns web\nout\nerr\n");
    }

    #[tokio::test]
    async fn logger_that_ends_before_its_byte_is_an_error() {
        let error = shell("exit 0", true).start(&owner()).await.unwrap_err().to_string();
        assert!(error.contains("/bin/sh") && error.contains("before it was ready"), "{error}");
    }
}
