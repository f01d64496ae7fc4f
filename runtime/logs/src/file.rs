//! A container's log file, written beside the container: it goes on whether or not a daemon lives.
//!
//! ```text
//!  stdout ──► Splitter ──┐
//!                        ├── whole records ──► Log ──► file, replaced between two records
//!  stderr ──► Splitter ──┘
//! ```
//!
//! Who rotates a log moves its file away and has it opened anew. One that gets no answer, as its daemon
//! was killed meanwhile, moves the old file back, over the new one if that is there. What the new one
//! has goes to the file that is in its place then: nothing is lost, and nothing doubled.
//!
//! The file's disk may be slow or not answer at all. A thread of its own waits for it then, and the
//! container behind it, but nothing else of the pod.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::disks::{blocking, in_time};
use crate::records::{Splitter, Stream};

/// Who may read a log: as containerd has it.
const MODE: u32 = 0o640;

/// Most bytes that are taken along from a file that another one was put in place of. Between an
/// answer that was lost and the old file's return are milliseconds.
const TAKEN_ALONG: u64 = 64 << 20;

/// A log that both outputs of a container are written to.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: Mutex<Written>,
    /// One after the other: each ends with the file that is at the path.
    reopening: Mutex<()>,
}

/// The file and how much of it is whole records.
#[derive(Debug)]
struct Written {
    file: File,
    len: u64,
    /// Whether all that is in it was written here.
    began_empty: bool,
    /// Whether the last write failed; only the first failure in a row is told.
    failing: bool,
}

impl Written {
    fn open(path: &Path) -> io::Result<Self> {
        Self::of(OpenOptions::new().append(true).create(true).mode(MODE).open(path)?)
    }

    fn of(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, len, began_empty: len == 0, failing: false })
    }

    /// Whether its file has no name any more, as when another one was moved over it.
    fn is_nameless(&self) -> bool {
        self.file.metadata().is_ok_and(|facts| facts.is_file() && facts.nlink() == 0)
    }

    /// Goes over to another file, which may be the same one. What is in a nameless one is taken along.
    fn replace(&mut self, mut new: Self) -> io::Result<()> {
        // It may have grown since it was opened.
        new.len = new.file.metadata()?.len();
        if self.is_nameless() && self.began_empty && self.len <= TAKEN_ALONG {
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let taken = File::open(own).and_then(|mut own| io::copy(&mut own, &mut new.file));
            match taken {
                Ok(bytes) => new.len += bytes,
                Err(error) => {
                    let _no_file = new.file.set_len(new.len);
                    log::warn!("records of a log that was moved away are lost: {error}");
                }
            }
        }
        *self = new;
        Ok(())
    }

    /// Writes records; those that do not fit on the disk leave no part of them.
    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(records);
        match written {
            Ok(()) => self.len += records.len() as u64,
            // What is no file has no end to go back to.
            Err(_) => drop(self.file.set_len(self.len)),
        }
        written
    }
}

impl Log {
    /// Opens the log at `path` to append to, made if missing with its directory.
    ///
    /// # Errors
    /// What the filesystem answered, or that it did not answer in time.
    pub async fn open(path: &Path) -> io::Result<Arc<Self>> {
        let path = path.to_owned();
        let open = move || {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            let file = Mutex::new(Written::open(&path)?);
            Ok(Arc::new(Self { path, file, reopening: Mutex::default() }))
        };
        in_time(open).await
    }

    /// Opens the file at the log's path anew, because the old one was moved away. The old one is
    /// complete and closed when this returns.
    ///
    /// # Errors
    /// What the filesystem answered, or that it did not answer in time. Then the old file goes on
    /// being written.
    pub async fn reopen(self: &Arc<Self>) -> io::Result<()> {
        let log = self.clone();
        let reopen = move || {
            let _one = log.reopening.lock().unwrap_or_else(PoisonError::into_inner);
            let new = Written::open(&log.path)?;
            log.file().replace(new)
        };
        in_time(reopen).await
    }

    /// Where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self) -> MutexGuard<'_, Written> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes over to the file that was put in the place of this one. One that was only removed is
    /// written on, until the log is opened anew.
    fn follow(&self, written: &mut Written) -> io::Result<()> {
        match OpenOptions::new().append(true).open(&self.path) {
            Ok(there) => written.replace(Written::of(there)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn write(&self, records: &[u8]) {
        let mut file = self.file();
        if file.is_nameless()
            && let Err(error) = self.follow(&mut file)
        {
            log::warn!("writing {}: another file is in its place: {error}", self.path.display());
        }
        let written = file.write(records);
        if let Err(error) = &written
            && !file.failing
        {
            // The container must not hang because its log's disk is full.
            log::warn!("writing {}: {error}; records are lost until it works", self.path.display());
        }
        file.failing = written.is_err();
    }
}

/// The end of one output that is written to a log.
#[derive(Debug)]
pub struct LogSink {
    log: Arc<Log>,
    splitter: Splitter,
}

impl LogSink {
    /// Writes `stream` to `log`, in records of at most `longest` bytes.
    pub fn new(log: Arc<Log>, stream: Stream, longest: usize) -> Self {
        Self { log, splitter: Splitter::new(stream, longest) }
    }

    /// Writes the records that a piece of output completes.
    pub async fn write(&mut self, piece: &[u8]) {
        let records = self.splitter.take(piece, SystemTime::now());
        self.write_records(records).await;
    }

    /// The output is over: writes what had no end of line.
    pub async fn end(mut self) {
        let records = self.splitter.end(SystemTime::now());
        self.write_records(records).await;
    }

    async fn write_records(&self, records: Vec<u8>) {
        if records.is_empty() {
            return;
        }
        let log = self.log.clone();
        let write = move || {
            log.write(&records);
            Ok(())
        };
        if let Err(error) = blocking(write).await {
            log::warn!("writing {}: {error}", self.log.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn sink(log: &Arc<Log>, stream: Stream) -> LogSink {
        LogSink::new(log.clone(), stream, 16)
    }

    /// The text of a log's records.
    fn text(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| line[31..].to_owned()).collect()
    }

    #[tokio::test]
    async fn both_outputs_are_in_one_file_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod/web/0.log");
        let first = Log::open(&path).await.unwrap();
        sink(&first, Stream::Stdout).write(b"before\n").await;
        let log = Log::open(&path).await.unwrap();
        let (mut out, mut err) = (sink(&log, Stream::Stdout), sink(&log, Stream::Stderr));
        out.write(b"one, ").await;
        err.write(b"error\n").await;
        out.write(b"two\nrest").await;
        out.end().await;
        err.end().await;
        let expected = ["stdout F before", "stderr F error", "stdout F one, two", "stdout P rest"];
        assert_eq!(text(&path), expected);
    }

    async fn lines(mut out: LogSink, count: usize) {
        for line in 0..count {
            out.write(format!("line {line}\n").as_bytes()).await;
        }
    }

    /// Rotation as kubelet does it, with a writer that never stops.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn rotation_loses_and_doubles_no_record() {
        const LINES: usize = 20_000;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let log = Log::open(&path).await.unwrap();
        let writer = tokio::spawn(lines(LogSink::new(log.clone(), Stream::Stdout, 4096), LINES));
        let mut parts = Vec::new();
        while !writer.is_finished() {
            let old = dir.path().join(format!("0.log.{}", parts.len()));
            std::fs::rename(&path, &old).unwrap();
            log.reopen().await.unwrap();
            // Complete: nothing is added to it any more.
            parts.push((text(&old), old));
        }
        writer.await.unwrap();
        let mut all = Vec::new();
        for (part, old) in &parts {
            assert_eq!(&text(old), part);
            all.extend_from_slice(part);
        }
        all.extend(text(&path));
        let expected: Vec<_> = (0..LINES).map(|line| format!("stdout F line {line}")).collect();
        assert!(all == expected, "{} records in {} parts", all.len(), parts.len());
        assert!(parts.len() > 3);
    }

    #[tokio::test]
    async fn log_goes_on_where_a_new_file_can_not_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone/0.log");
        let log = Log::open(&path).await.unwrap();
        let mut out = sink(&log, Stream::Stdout);
        let moved = dir.path().join("moved");
        std::fs::rename(path.parent().unwrap(), &moved).unwrap();
        assert_eq!(log.reopen().await.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!path.exists());
        out.write(b"still here\n").await;
        assert_eq!(text(&moved.join("0.log")), ["stdout F still here"]);
    }

    /// A disk of two pages that nobody else sees.
    fn small_disk() -> std::os::fd::OwnedFd {
        use rustix::mount::{
            FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string,
            fsmount, fsopen,
        };
        let disk = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_set_string(&disk, "size", "8k").unwrap();
        fsconfig_create(&disk).unwrap();
        fsmount(&disk, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
    }

    #[test]
    fn records_that_do_not_fit_leave_no_part_of_them() {
        let disk = small_disk();
        let path = format!("/proc/self/fd/{}/0.log", disk.as_raw_fd());
        let mut written = Written::open(Path::new(&path)).unwrap();
        written.write(b"whole\n").unwrap();
        assert_eq!(written.write(&[b'x'; 9000]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        written.write(b"again\n").unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"whole\nagain\n");
    }
}
