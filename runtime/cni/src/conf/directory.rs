//! Configuration files of a directory.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Conf, PluginConf};
use crate::error::Error;

/// Most bytes of a file: as much as a plugin is told at once.
const MAX_FILE: u64 = 1 << 20;

/// Most files of a directory that are looked at.
const MAX_FILES: usize = 1024;

/// A file that may hold a network.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) path: PathBuf,
    pub(crate) conf: Result<Conf, Error>,
}

/// All files of `directory` that may hold a network, in lexical order. A directory that is not
/// there has none.
///
/// # Errors
/// [`Error::File`] for the directory, [`Error::Conf`] if it has too many files.
pub(crate) fn candidates(directory: &Path) -> Result<Vec<Candidate>, Error> {
    let files = files(directory, &["conf", "conflist", "json"])?;
    Ok(files.into_iter().map(|path| Candidate { conf: load(&path), path }).collect())
}

fn load(path: &Path) -> Result<Conf, Error> {
    let bytes = read(path)?;
    if path.extension().is_none_or(|ending| ending != "conflist") {
        return Conf::parse_single(&bytes, path);
    }
    let list = Conf::parse_list(&bytes, path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let others = list.folder().map(|name| plugins(&directory.join(name)));
    list.with(others.transpose()?.unwrap_or_default())
}

fn plugins(directory: &Path) -> Result<Vec<PluginConf>, Error> {
    let files = files(directory, &["conf"])?;
    files.iter().map(|path| PluginConf::parse(&read(path)?, path)).collect()
}

fn files(directory: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::File { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if !ending.is_some_and(|ending| endings.contains(&ending)) {
            continue;
        }
        // A link leads to the file; one that leads nowhere is an error of that file.
        if std::fs::metadata(&path).is_ok_and(|data| data.is_dir()) {
            continue;
        }
        if files.len() == MAX_FILES {
            let problem = format!("it has more than {MAX_FILES} files");
            return Err(Error::conf(directory, "the directory", problem));
        }
        files.push(path);
    }
    files.sort();
    Ok(files)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    // Nobody may hold up the reader by a fifo.
    let is_file = std::fs::metadata(path).map_err(failed)?.is_file();
    if !is_file {
        return Err(Error::conf(path, "the file", "it is no regular file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::conf(path, "the file", format!("it has more than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}
